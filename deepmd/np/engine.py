# SPDX-License-Identifier: LGPL-3.0-or-later
"""Evaluation by the native engine: the C++ library without any framework.

Energies, dipoles and other outputs of whole frames, with forces and virials, are evaluated in one
call that finds the neighbors as well. Everything else (descriptors, Hessians, neighbors found by
somebody else) is evaluated with NumPy from the same dictionary.
"""

import contextlib
import ctypes
import dataclasses
import functools
import os
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from deepmd.base.errors import InputError, ModelFileError, NotAvailableError
from deepmd.base.files import hdf5_bytes
from deepmd.base.native import load
from deepmd.dpmodel.batch import Batch
from deepmd.dpmodel.model import Model, prepare
from deepmd.dpmodel.neighbors import batch_edges, check_cell, check_crowding
from deepmd.dpmodel.output_def import LAST_LAYER
from deepmd.np.evaluator import NumPyEvaluator
from deepmd.runtime.evaluator import Evaluator
from deepmd.runtime.operations import with_program

_PREFIX = "DeePMD-kit Error: "


class _Frames(ctypes.Structure):
    """``DP_Frames`` of source/core/evaluate_c.cc."""

    _fields_ = [
        ("n_frames", ctypes.c_int64),
        *(
            (name, ctypes.c_void_p)
            for name in (
                *("natoms", "coord", "cell", "atype", "fparam", "aparam", "charge_spin", "spin"),
            )
        ),
    ]


class _Results(ctypes.Structure):
    """``DP_Results`` of source/core/evaluate_c.cc."""

    _fields_ = [
        (name, ctypes.c_void_p)
        for name in (
            *("value", "atom_value", "force", "virial", "atom_virial", "force_mag"),
            "last_layer",
        )
    ]


@functools.cache
def _library() -> Any:
    """Return the C++ library; None if it, or the engine beside it, was not built."""
    try:
        library = load("deepmd_cc")
    except OSError:
        return None
    if library is None or not hasattr(library, "DP_LastLayerOfModel"):
        return None
    library.DP_OpenModel.argtypes = [
        ctypes.c_char_p,
        ctypes.c_char_p,
        ctypes.c_int64,
        ctypes.c_char_p,
        ctypes.c_int32,
        ctypes.POINTER(ctypes.c_void_p),
    ]
    library.DP_EngineOfModel.argtypes = library.DP_CloseModel.argtypes = [ctypes.c_void_p]
    library.DP_EvaluateModel.argtypes = [
        ctypes.c_void_p,
        ctypes.POINTER(_Frames),
        ctypes.POINTER(_Results),
        ctypes.POINTER(ctypes.c_int64),
    ]
    for name in ("DP_OpenModel", "DP_EngineOfModel", "DP_EvaluateModel"):
        getattr(library, name).restype = ctypes.c_char_p
    library.DP_CloseModel.restype = None
    library.DP_LastLayerOfModel.argtypes = [ctypes.c_void_p]
    library.DP_LastLayerOfModel.restype = ctypes.c_int64
    return library


def _text(message: bytes) -> str:
    return message.decode(errors="replace").removeprefix(_PREFIX)


def is_installed() -> bool:
    """Whether the C++ library is there."""
    return _library() is not None


class NativeModel:
    """A model file that the native engine has opened.

    Parameters
    ----------
    path : path
    content : bytes, optional
        Of a file of this name; otherwise it is read.

    Raises
    ------
    NotAvailableError
        If the library is not installed, or does not know a part of the model.
    ModelFileError
        If the file is damaged or does not give the results of its probes.
    """

    def __init__(self, path: str | os.PathLike[str], content: bytes | None = None) -> None:
        library = _library()
        if library is None:
            raise NotAvailableError(
                "the native engine is not installed",
                where="engine",
                fix='"make native" builds it; engine="framework" does without',
            )
        handle = ctypes.c_void_p()
        wrong = library.DP_OpenModel(
            os.fsencode(path), content, len(content or b""), b"native", 1, ctypes.byref(handle)
        )
        if wrong is not None:
            unknown = b"not known to the native engine" in wrong or b"backend plugin" in wrong
            raise (NotAvailableError if unknown else ModelFileError)(_text(wrong))
        self._library, self._handle = library, handle
        weakref.finalize(self, library.DP_CloseModel, handle)
        #: ``native (avx2)``
        self.name = library.DP_EngineOfModel(handle).decode()
        #: Width of the last hidden layer, 0 where it is not given.
        self.last_layer = int(library.DP_LastLayerOfModel(handle))

    def evaluate(
        self, inputs: Mapping[str, np.ndarray | None], results: Mapping[str, np.ndarray]
    ) -> int:
        """Fill the arrays of results; return how many centers so far had too many neighbors.

        Parameters
        ----------
        inputs : dict of str to array
            Arrays of ``DP_Frames`` by their names.
        results : dict of str to array
            Arrays of ``DP_Results``; those that are left out are not evaluated.

        Raises
        ------
        InputError
            If the engine refuses the frames.
        """
        frames = _Frames(len(inputs["natoms"]), **_addresses(inputs))  # type: ignore[arg-type]
        overflow = ctypes.c_int64()
        wrong = self._library.DP_EvaluateModel(
            self._handle, frames, _Results(**_addresses(results)), ctypes.byref(overflow)
        )
        if wrong is not None:
            raise InputError(_text(wrong))
        return overflow.value


def _addresses(arrays: Mapping[str, np.ndarray | None]) -> dict[str, int | None]:
    return {k: None if a is None else a.ctypes.data for k, a in arrays.items()}


class NativeEvaluator(NumPyEvaluator):
    """Evaluation by the native engine where it can, and otherwise with NumPy.

    Attributes
    ----------
    native : NativeModel or None
        None: everything is evaluated with NumPy.
    """

    native: NativeModel | None = None
    #: Opens the file with its framework, if that is not NumPy.
    framework: Callable[[], Evaluator] | None = None
    #: A frame more or less makes no difference to it: it has no program and little memory.
    batch_atoms = 1 << 16

    @classmethod
    def of_model(cls, model: Model) -> "NativeEvaluator":
        """Return the evaluator of a model that is in no file.

        Raises
        ------
        NotAvailableError
            If the library is not installed, or does not know a part of the model.
        """
        made = cls(model)
        made.native = _in_memory(model)
        return made

    def __reduce__(self) -> tuple[Any, ...]:
        return _opened_again, (super().__reduce__(), self.native is not None)

    @property
    def module(self) -> Any:
        """What the framework of the file evaluates; for neutral files the neutral model."""
        return self.model if self.framework is None else self.framework().module

    @property
    def finds_edges(self) -> bool:  # type: ignore[override]
        return self.native is not None

    @property
    def gives_last_layer(self) -> bool:  # type: ignore[override]
        return self.native is None or self._native_last_layer

    @property
    def _native_last_layer(self) -> bool:
        """Whether the engine gives the last hidden layer of all atoms, of energies."""
        atomic = self.model.atomic_model
        fitting = atomic.components().get("fitting-net")
        excluded = [*atomic.atom_exclude_types, *getattr(fitting, "exclude_types", [])]
        return self.native is not None and self.native.last_layer > 0 and not excluded

    def evaluate(
        self,
        batch: Batch,
        *,
        derivatives: Sequence[str] = ("force", "virial"),
        extra: Sequence[str] = (),
        modified: bool = True,
    ) -> dict[str, np.ndarray]:
        known = not extra or (tuple(extra) == (LAST_LAYER,) and self._native_last_layer)
        plain = known and not (modified and self.model.modifier is not None)
        if self.native is not None and batch.edges is None and plain and batch.n_atoms:
            return self._evaluate(self.native, batch, derivatives, last_layer=bool(extra))
        if batch.edges is None:
            batch = dataclasses.replace(batch, edges=batch_edges(batch, self.model.rcut))
        return super().evaluate(batch, derivatives=derivatives, extra=extra, modified=modified)

    def _evaluate(
        self,
        native: NativeModel,
        batch: Batch,
        derivatives: Sequence[str],
        *,
        last_layer: bool,
    ) -> dict[str, np.ndarray]:
        """Evaluate frames without edges; results as of :meth:`Model.predict`."""
        model = self.model
        (output,) = model.output_def().get_data().values()
        size, nf, n = output.size, batch.n_frames, batch.n_atoms
        _check_cells(batch, model.rcut)
        row = () if size == 1 else (size,)
        shapes: dict[str, tuple[int, ...]] = {"value": (nf, size), "atom_value": (n, size)}
        if output.r_differentiable:
            all_shapes = {"force": (n, *row, 3), "virial": (nf, *row, 9)}
            all_shapes["atom_virial"] = (n, *row, 9)
            shapes |= {k: v for k, v in all_shapes.items() if k in derivatives}
            if model.has_spin() and "force" in derivatives:
                shapes["force_mag"] = all_shapes["force"]
            if "atom_virial" in derivatives:  # comes with those of frames
                shapes["virial"] = all_shapes["virial"]
        if last_layer:
            shapes["last_layer"] = (n, native.last_layer)
        out = {name: np.empty(shape) for name, shape in shapes.items()}
        centers = native.evaluate(_inputs(batch), out)
        if centers > self.overflow.centers:
            self._count_overflow(batch, centers)
        out[output.name], out[output.atom_name] = out.pop("value"), out.pop("atom_value")
        if last_layer:
            out[LAST_LAYER] = out.pop("last_layer")
        if model.has_spin() and output.name == "energy":
            used = np.array(model.get_use_spin(), dtype=np.float64)
            out["mask_mag"] = used[batch.atype][:, None]
        excluded = [t for t in model.atomic_model.atom_exclude_types if t < model.get_ntypes()]
        if excluded:
            out["mask"] = 1.0 - np.isin(batch.atype, excluded).astype(np.float64)[:, None]
        return out

    def beside(self, model: Model) -> Evaluator:
        """Return the evaluator for another model, native where the engine knows its parts."""
        made = super().beside(model)
        if isinstance(made, NativeEvaluator) and made.native is None and self.native is not None:
            with contextlib.suppress(NotAvailableError):
                made.native = _in_memory(model)
        return made

    def _count_overflow(self, batch: Batch, centers: int) -> None:
        """Note that neighbors were dropped, and the first time, how many there are room for."""
        if self.overflow.needed is None:
            found = dataclasses.replace(batch, edges=batch_edges(batch, self.model.rcut))
            prepare(found, self.model.packings(), self.overflow)
        self.overflow.centers = centers

    def hessian(self, batch: Batch) -> np.ndarray:
        """Return second derivatives, evaluated with NumPy."""
        if batch.edges is None:
            batch = dataclasses.replace(batch, edges=batch_edges(batch, self.model.rcut))
        return super().hessian(batch)


def _opened_again(parts: tuple[Any, ...], is_native: bool) -> NativeEvaluator:
    """Return the evaluator that was pickled."""
    rebuilt, arguments = parts
    made = rebuilt(*arguments)
    if is_native:
        made.native = _in_memory(made.model)
    return made


def _in_memory(model: Model) -> NativeModel:
    """Open a model that is in no file with the native engine."""
    from deepmd.io import dp  # takes time to load

    tree = with_program({"model": model.serialize()})
    content = hdf5_bytes(lambda handle: dp.write_tree(handle, tree))
    return NativeModel("model in memory.dp", content)


def _inputs(batch: Batch) -> dict[str, np.ndarray | None]:
    """Arrays of a batch as the library takes them."""

    def array(value: np.ndarray | None, dtype: Any = np.float64) -> np.ndarray | None:
        return None if value is None else np.ascontiguousarray(value, dtype=dtype)

    cell = np.where(batch.periodic[:, None, None], batch.cell, 0.0)
    return {
        "natoms": array(batch.natoms, np.int64),
        "coord": array(batch.coord),
        "cell": array(cell),
        "atype": array(batch.atype, np.int32),
        "fparam": array(batch.fparam),
        "aparam": array(batch.aparam),
        "charge_spin": array(batch.charge_spin),
        "spin": array(batch.spin),
    }


def _check_cells(batch: Batch, rcut: float) -> None:
    """Raise InputError for cells without volume, and for more neighbors than matter can have."""
    ends = batch.offsets()
    for k in range(batch.n_frames):
        cell = batch.cell[k] if batch.periodic[k] else None
        if cell is not None:
            check_cell(cell)
        check_crowding(batch.coord[ends[k] : ends[k + 1]], cell, rcut)
