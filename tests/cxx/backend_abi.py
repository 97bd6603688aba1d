# SPDX-License-Identifier: LGPL-3.0-or-later
"""The structures of source/backend/backend.h for ctypes, and a handle of an open model."""

import ctypes as ct
import os
from pathlib import Path
from typing import Any

import numpy as np

D, I32, I64, S, P = ct.c_double, ct.c_int32, ct.c_int64, ct.c_char_p, ct.POINTER
LAYOUTS = ("typed", "mixed", "flat", "angles", "centres", "first_type")
EDGES, EXTENDED = 1, 2


def _structure(title: str, /, **fields: Any) -> type[ct.Structure]:
    return type(title, (ct.Structure,), {"_fields_": list(fields.items())})


# fmt: off
Packing = _structure(
    "Packing", struct_size=ct.c_size_t, layout=I32, by_centre=I32, rcut=D, nearest=I64, sel=P(I64),
    n_sel=I32, n_exclude=I32, exclude=P(I32), edge_rcut=D, edge_sel=I64,
)
Output = _structure(
    "Output", struct_size=ct.c_size_t, name=S, size=I64, differentiable=I32, intensive=I32,
)
Probe = _structure(
    "Probe", struct_size=ct.c_size_t, natoms=I64, coord=P(D), atype=P(I32), cell=P(D),
    fparam=P(D), aparam=P(D), value=P(D), force=P(D), virial=P(D),
)
Info = _structure(
    "Info", struct_size=ct.c_size_t, entries=ct.c_uint32, ntypes=I32, type_map=P(S), rcut=D,
    sel=P(I64), n_sel=I32, n_packings=I32, packings=P(Packing), outputs=P(Output), n_outputs=I32,
    dim_fparam=I32, dim_aparam=I32, dim_chg_spin=I32, has_default_fparam=I32,
    has_default_chg_spin=I32, default_fparam=P(D), default_chg_spin=P(D), message_passing=I32,
    mixed_types=I32, has_spin=I32, single_precision=I32, sel_type=P(I32), n_sel_type=I32,
    n_probes=I32, probes=P(Probe), framework=S, chunk_edges=I64, use_spin=P(I32), spin_scale=P(D),
)
Slot = _structure("Slot", data=P(I64), rows=I64, columns=I64)
Result = _structure("Result", value=P(D), gradient=P(D))
EdgesRequest = _structure(
    "EdgesRequest", struct_size=ct.c_size_t, n_edges=I64, n_atoms=I64, n_frames=I64, vec=P(D),
    i=P(I64), j=P(I64), atype=P(I64), frame=P(I64), fparam=P(D), aparam=P(D), slots=P(Slot),
    n_slots=I32, threads=I32, results=P(Result),
)
ExtendedRequest = _structure(
    "ExtendedRequest", struct_size=ct.c_size_t, nloc=I64, nall=I64, nnei=I64, coord=P(D),
    atype=P(I64), nlist=P(I64), mapping=P(I64), fparam=P(D), aparam=P(D), chg_spin=P(D),
    threads=I32, value=P(P(D)), force=P(P(D)), virial=P(P(D)), atom_virial=P(P(D)),
)
Source = _structure(
    "Source", struct_size=ct.c_size_t, path=S, content=ct.c_void_p, content_size=ct.c_size_t,
    gpu_rank=I32,
)
Functions = _structure(
    "Functions", struct_size=ct.c_size_t, version=ct.c_uint32, name=S, suffixes=S,
    open=ct.CFUNCTYPE(ct.c_int, P(Source), P(ct.c_void_p), S, ct.c_size_t),
    query=ct.CFUNCTYPE(ct.c_int, ct.c_void_p, P(P(Info)), S, ct.c_size_t),
    evaluate=ct.CFUNCTYPE(ct.c_int, ct.c_void_p, P(EdgesRequest), S, ct.c_size_t),
    evaluate_extended=ct.CFUNCTYPE(ct.c_int, ct.c_void_p, P(ExtendedRequest), S, ct.c_size_t),
    close=ct.CFUNCTYPE(None, ct.c_void_p),
    framework=ct.CFUNCTYPE(S),
)
# fmt: on


def find_library(name: str) -> Path | None:
    """Return a built library: from DEEPMD_TEST_LIB, the package, or a build folder beside it."""
    root = Path(__file__).resolve().parents[2]
    folders = [Path(p) for p in [os.environ.get("DEEPMD_TEST_LIB")] if p]
    folders += [root / "deepmd" / "lib", *sorted(root.glob("build*/lib"))]
    return next((f / name for f in folders if (f / name).is_file()), None)


def load(path: Path) -> Any:
    """Open a backend library and return its functions."""
    library = ct.CDLL(str(path), mode=os.RTLD_LOCAL | os.RTLD_NOW)
    library.deepmd_backend.restype = P(Functions)
    return library.deepmd_backend().contents


def pointer(array: np.ndarray | None, kind: Any = D) -> Any:
    """Pointer to the memory of an array, which must live as long."""
    return None if array is None else array.ctypes.data_as(P(kind))


def numbers(where: Any, n: int) -> np.ndarray | None:
    """Copy of n numbers behind a pointer, or None."""
    return np.ctypeslib.as_array(where, (n,)).copy() if where and n else None


class BackendError(Exception):
    """A message of the backend."""


class Handle:
    """An open model.

    Parameters
    ----------
    functions : Functions
    path : path
    content : bytes, optional
        Of the file, in place of what is at the path.
    """

    def __init__(self, functions: Any, path: Any, content: bytes | None = None) -> None:
        self.functions, self.model = functions, ct.c_void_p()
        held = ct.cast(ct.c_char_p(content), ct.c_void_p)
        source = Source(ct.sizeof(Source), os.fsencode(path), held, len(content or b""), 0)
        self._call(functions.open, ct.byref(source), ct.byref(self.model))
        info = P(Info)()
        self._call(functions.query, self.model, ct.byref(info))
        self.info = info.contents
        self.outputs = [self.info.outputs[k] for k in range(self.info.n_outputs)]

    @staticmethod
    def _call(function: Any, *args: Any) -> None:
        error = ct.create_string_buffer(4096)
        if function(*args, error, len(error)) != 0:
            raise BackendError(error.value.decode())

    def close(self) -> None:
        """Give the model back."""
        self.functions.close(self.model)

    def evaluate(self, inputs: Any, *, gradients: bool = True, threads: int = 1) -> dict:
        """Evaluate the arrays of ``Inputs``, like ``Model.forward_edges``."""
        kinds = (np.float64, *(np.int64,) * 4, np.float64, np.float64)
        arrays = [np.ascontiguousarray(x, kind) for x, kind in zip(inputs[:7], kinds, strict=True)]
        tables = [np.ascontiguousarray(s, np.int64) for s in inputs.slots]
        slots = (Slot * max(len(tables), 1))(
            *[Slot(pointer(t, I64), len(t), t.shape[1] if t.ndim == 2 else -1) for t in tables]
        )
        n, e = len(arrays[3]), len(arrays[0])
        out = {}
        results = (Result * len(self.outputs))()
        for k, output in enumerate(self.outputs):
            name = output.name.decode()
            out[name] = np.full((n, output.size), np.nan)
            results[k].value = pointer(out[name])
            if output.differentiable and gradients:
                out[name + "_grad"] = np.full((e, output.size, 3), np.nan)
                results[k].gradient = pointer(out[name + "_grad"])
        types = (D, I64, I64, I64, I64, D, D)
        request = EdgesRequest(
            ct.sizeof(EdgesRequest),
            e,
            n,
            len(arrays[5]),
            *[pointer(a, t) for a, t in zip(arrays, types, strict=True)],
            slots,
            len(tables),
            threads,
            results,
        )
        self._call(self.functions.evaluate, self.model, ct.byref(request))
        return out

    def evaluate_extended(
        self,
        coord: np.ndarray,
        atype: np.ndarray,
        nlist: np.ndarray,
        mapping: np.ndarray,
        parameters: tuple[np.ndarray | None, np.ndarray | None, np.ndarray | None],
    ) -> list[dict[str, np.ndarray]]:
        """Evaluate one frame with ghosts; ``parameters``: of the frame, of atoms, charge and spin."""
        nloc, nall = len(nlist), len(coord)
        arrays = [np.ascontiguousarray(coord, np.float64)]
        arrays += [np.ascontiguousarray(x, np.int64) for x in (atype, nlist, mapping)]
        extra = [None if x is None else np.ascontiguousarray(x, np.float64) for x in parameters]
        out, lists = [], [(P(D) * len(self.outputs))() for _ in range(4)]
        for k, output in enumerate(self.outputs):
            c = output.size
            shapes = {"value": (nloc, c)}
            if output.differentiable:
                shapes |= {"force": (c, nall, 3), "virial": (c, 9), "atom_virial": (c, nall, 9)}
            out.append({name: np.full(shape, np.nan) for name, shape in shapes.items()})
            for target, array in zip(lists, out[-1].values(), strict=False):
                target[k] = pointer(array)
        request = ExtendedRequest(
            ct.sizeof(ExtendedRequest),
            nloc,
            nall,
            nlist.shape[1],
            pointer(arrays[0]),
            *[pointer(a, I64) for a in arrays[1:]],
            *[pointer(a) for a in extra],
            1,
            *lists,
        )
        self._call(self.functions.evaluate_extended, self.model, ct.byref(request))
        return out
