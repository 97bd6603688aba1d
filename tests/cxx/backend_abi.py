# SPDX-License-Identifier: LGPL-3.0-or-later
"""The structures of source/backend/backend.h for ctypes, and a handle of an open model."""

import ctypes as ct
import json
import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

D, I32, I64, S, P = ct.c_double, ct.c_int32, ct.c_int64, ct.c_char_p, ct.POINTER
EDGES, EXTENDED, COTANGENTS = 1, 2, 4
FRAME, ATOM = 0, 1
CPU, CUDA = 1, 2


def _structure(title: str, /, **fields: Any) -> type[ct.Structure]:
    return type(title, (ct.Structure,), {"_fields_": list(fields.items())})


# fmt: off
Array = _structure(
    "Array", data=ct.c_void_p, shape=I64 * 4, n_dims=I32, dtype=I32, device=I32, device_index=I32,
    stream=ct.c_void_p,
)
Input = _structure(
    "Input", struct_size=ct.c_size_t, name=S, level=I32, reserved=I32, data=Array,
)
Info = _structure(
    "Info", struct_size=ct.c_size_t, description=S, entries=ct.c_uint32, reserved=ct.c_uint32,
    framework=S, probes=S, chunk_edges=I64,
)
Result = _structure(
    "Result", struct_size=ct.c_size_t, name=S, value=Array, gradient=Array, force=Array, virial=Array,
    atom_virial=Array, force_mag=Array, cotangent=Array,
)
EdgesRequest = _structure(
    "EdgesRequest", struct_size=ct.c_size_t, n_edges=I64, n_atoms=I64, n_frames=I64, vec=Array,
    i=Array, j=Array, atype=Array, frame=Array, inputs=P(Input), slots=P(Array), n_inputs=I32,
    n_slots=I32, results=P(Result), n_results=I32, threads=I32, exchange=ct.c_void_p,
)
ExtendedRequest = _structure(
    "ExtendedRequest", struct_size=ct.c_size_t, nloc=I64, nall=I64, nnei=I64, coord=Array,
    atype=Array, nlist=Array, mapping=Array, spin=Array, inputs=P(Input), results=P(Result),
    n_inputs=I32, n_results=I32, threads=I32, reserved=I32, exchange=ct.c_void_p,
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
    close=ct.CFUNCTYPE(None, ct.c_void_p),
    evaluate_extended=ct.CFUNCTYPE(ct.c_int, ct.c_void_p, P(ExtendedRequest), S, ct.c_size_t),
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


def view(array: np.ndarray | None) -> Array:
    """Return the structure for an array of float64 or int64, which must live as long."""
    if array is None:
        return Array()
    assert array.flags.c_contiguous
    kind = {np.dtype(np.float64): 1, np.dtype(np.int64): 2}[array.dtype]
    return Array(array.ctypes.data, array.shape, array.ndim, kind, CPU, 0, None)


def given(
    frame_inputs: dict[str, np.ndarray], atom_inputs: dict[str, np.ndarray]
) -> tuple[Any, list[np.ndarray]]:
    """Return the structures for named inputs, and the arrays that must live as long."""
    levels = [(FRAME, k, v) for k, v in frame_inputs.items()]
    levels += [(ATOM, k, v) for k, v in atom_inputs.items()]
    arrays = [np.ascontiguousarray(v, np.float64) for _, _, v in levels]
    named = (Input * len(levels))()
    for one, (level, name, _), array in zip(named, levels, arrays, strict=True):
        one.struct_size, one.name, one.level = ct.sizeof(Input), name.encode(), level
        one.data = view(array)
    return named, arrays


class Output(NamedTuple):
    """An output in the description of a model."""

    name: str
    size: int
    differentiable: bool


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
        self.entries = info.contents.entries
        self.framework = info.contents.framework.decode()
        self.description = json.loads(info.contents.description)
        self.probes = json.loads(info.contents.probes or b"[]")
        self.outputs = [
            Output(o["name"], o["size"], o["differentiable"]) for o in self.description["outputs"]
        ]

    @staticmethod
    def _call(function: Any, *args: Any) -> None:
        error = ct.create_string_buffer(4096)
        if function(*args, error, len(error)) != 0:
            raise BackendError(error.value.decode())

    def close(self) -> None:
        """Give the model back."""
        self.functions.close(self.model)

    def sizes(self) -> dict[str, int]:
        """Return the size of every input."""
        return {i["name"]: i["size"] for i in self.description["inputs"]}

    def evaluate(
        self,
        inputs: Any,
        *,
        gradients: bool = True,
        threads: int = 1,
        cotangent: np.ndarray | None = None,
        **changes: Any,
    ) -> dict[str, np.ndarray]:
        """Evaluate the arrays of ``Inputs``, like ``Model.forward_edges``.

        With a cotangent of the first output, the gradient is ``vjp`` (n_edges, 3).
        ``changes`` are set in the request at the end, for example ``vec`` in another memory.
        """
        kinds = (np.float64, *(np.int64,) * 4)
        arrays = [np.ascontiguousarray(x, kind) for x, kind in zip(inputs[:5], kinds, strict=True)]
        tables = [np.ascontiguousarray(s, np.int64) for s in inputs.slots]
        slots = (Array * len(tables))(*[view(t) for t in tables])
        named, held = given(inputs.frame_inputs, inputs.atom_inputs)
        n, e = len(arrays[3]), len(arrays[0])
        out = {}
        results = (Result * len(self.outputs))()
        for k, output in enumerate(self.outputs):
            name = output.name
            results[k].struct_size, results[k].name = ct.sizeof(Result), name.encode()
            out[name] = np.full((n, output.size), np.nan)
            results[k].value = view(out[name])
            if output.differentiable and gradients:
                key = name + "_grad" if cotangent is None else "vjp"
                out[key] = np.full((e, output.size if cotangent is None else 1, 3), np.nan)
                results[k].gradient, results[k].cotangent = view(out[key]), view(cotangent)
        request = EdgesRequest(
            struct_size=ct.sizeof(EdgesRequest),
            n_edges=e,
            n_atoms=n,
            n_frames=int(arrays[4].max(initial=0)) + 1,
            **{k: view(a) for k, a in zip(inputs._fields[:5], arrays, strict=True)},
            inputs=named,
            n_inputs=len(named),
            slots=slots,
            n_slots=len(tables),
            results=results,
            n_results=len(results),
            threads=threads,
        )
        for name, value in changes.items():
            setattr(request, name, value)
        self._call(self.functions.evaluate, self.model, ct.byref(request))
        del held
        return out | ({"vjp": out["vjp"].reshape(-1, 3)} if "vjp" in out else {})

    def evaluate_extended(
        self,
        coord: np.ndarray,
        atype: np.ndarray,
        nlist: np.ndarray,
        mapping: np.ndarray,
        frame_inputs: dict[str, np.ndarray],
        atom_inputs: dict[str, np.ndarray],
    ) -> list[dict[str, np.ndarray]]:
        """Evaluate one frame with ghosts."""
        nloc, nall = len(nlist), len(coord)
        arrays = [np.ascontiguousarray(coord, np.float64)]
        arrays += [np.ascontiguousarray(x, np.int64) for x in (atype, nlist, mapping)]
        named, held = given(frame_inputs, atom_inputs)
        out, results = [], (Result * len(self.outputs))()
        for k, output in enumerate(self.outputs):
            c = output.size
            shapes: dict[str, tuple[int, ...]] = {"value": (nloc, c)}
            if output.differentiable:
                shapes |= {"force": (c, nall, 3), "virial": (c, 9), "atom_virial": (c, nall, 9)}
            out.append({name: np.full(shape, np.nan) for name, shape in shapes.items()})
            results[k].struct_size, results[k].name = ct.sizeof(Result), output.name.encode()
            for name, array in out[-1].items():
                setattr(results[k], name, view(array))
        names = ("coord", "atype", "nlist", "mapping")
        request = ExtendedRequest(
            struct_size=ct.sizeof(ExtendedRequest),
            nloc=nloc,
            nall=nall,
            nnei=nlist.shape[1],
            **{k: view(a) for k, a in zip(names, arrays, strict=True)},
            inputs=named,
            n_inputs=len(named),
            results=results,
            n_results=len(results),
            threads=1,
        )
        self._call(self.functions.evaluate_extended, self.model, ct.byref(request))
        del held
        return out
