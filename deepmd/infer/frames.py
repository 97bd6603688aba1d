# SPDX-License-Identifier: LGPL-3.0-or-later
"""Frames that a caller hands over for evaluation, checked and in one form."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from deepmd.base.errors import InputError, NotAvailableError, located
from deepmd.dpmodel.batch import Batch
from deepmd.dpmodel.label import check_charge_spin
from deepmd.dpmodel.model import Model
from deepmd.dpmodel.neighbors import check_cell

#: Inputs that a model may take beside positions, cells and types: of frames and of atoms.
_OF_FRAMES, _OF_ATOMS = ("fparam", "charge_spin"), ("aparam", "spin")
PARAMETERS = (*_OF_FRAMES, *_OF_ATOMS)


@dataclasses.dataclass
class Frames:
    """Frames of the same number of atoms, virtual ones (type < 0) included.

    Attributes
    ----------
    coord : (n_frames, n_atoms, 3) float64 [Å]
    cell : (n_frames, 3, 3) float64 [Å]
        Zero for an open system.
    atype : (n_frames, n_atoms) int64
    fparam : (n_frames, n_fparam) float64 or None
    aparam : (n_frames, n_atoms, n_aparam) float64 or None
    charge_spin : (n_frames, 2) float64 or None
    spin : (n_frames, n_atoms, 3) float64 or None
    """

    coord: np.ndarray
    cell: np.ndarray
    atype: np.ndarray
    fparam: np.ndarray | None = None
    aparam: np.ndarray | None = None
    charge_spin: np.ndarray | None = None
    spin: np.ndarray | None = None

    @property
    def n_frames(self) -> int:
        """Number of frames."""
        return self.atype.shape[0]

    @property
    def n_atoms(self) -> int:
        """Number of atoms of each frame, virtual ones included."""
        return self.atype.shape[1]

    @property
    def real(self) -> np.ndarray:
        """Mask of the real atoms: (n_frames, n_atoms) bool."""
        return self.atype >= 0

    def batch(self, frames: slice | np.ndarray) -> Batch:
        """Return the real atoms of some frames, without edges."""
        real, cell = self.real[frames], self.cell[frames]
        parameters: dict[str, Any] = {}
        for name in PARAMETERS:
            values = getattr(self, name)
            if values is not None:
                parameters[name] = values[frames] if name in _OF_FRAMES else values[frames][real]
        return Batch(
            coord=self.coord[frames][real],
            cell=cell,
            periodic=np.abs(cell).max(axis=(1, 2)) > 0,
            atype=self.atype[frames][real],
            frame=np.nonzero(real)[0].astype(np.int64),
            natoms=real.sum(axis=1).astype(np.int64),
            **parameters,
        )


def make_frames(
    model: Model,
    coords: Any,
    cells: Any,
    atom_types: Any,
    *,
    fparam: Any = None,
    aparam: Any = None,
    charge_spin: Any = None,
    spin: Any = None,
    mixed_type: bool = False,
) -> Frames:
    """Check what a caller gave, and bring it into one form.

    Parameters
    ----------
    model : Model
        Says how many types and parameters there are.
    coords, cells, atom_types, fparam, aparam, charge_spin, spin, mixed_type
        See :meth:`deepmd.infer.DeepEval.eval`.

    Raises
    ------
    InputError
        If anything does not fit.
    """
    coord = _numbers(coords, "coords")
    atype = _types(atom_types, coord, mixed_type)
    nf, na = atype.shape
    coord = coord.reshape(nf, na, 3)
    _check_types(atype, model.get_type_map())
    _check_finite(coord, atype, "coords", "is at NaN or infinity")
    given = {"fparam": fparam, "aparam": aparam, "charge_spin": charge_spin, "spin": spin}
    return Frames(coord, _cells(cells, nf), atype, **_inputs(model, nf, atype, given))


def check_batch(model: Model, batch: Batch) -> Batch:
    """Return a batch with all inputs of a model, its defaults where the data have none.

    Raises
    ------
    InputError
        If types or inputs do not fit the model.
    """
    atype = batch.atype[None]
    _check_types(atype, model.get_type_map())
    given = {n: getattr(batch, n) if batch.find.get(n, 1.0) else None for n in PARAMETERS}
    inputs = _inputs(model, batch.n_frames, atype, given)
    of_atoms = {n: None if inputs[n] is None else inputs[n][0] for n in _OF_ATOMS}
    return dataclasses.replace(batch, **{**inputs, **of_atoms})


def numbered(
    names: Sequence[str], types: Mapping[str, int], *, where: str, fix: str | None = None
) -> list[int]:
    """Return the types of atoms by the names of their elements."""
    for k, name in enumerate(names):
        if name not in types:
            known = ", ".join(types)
            raise InputError(
                f"made for types {known}; the system has {name} (atom {k})", where=where, fix=fix
            )
    return [types[name] for name in names]


def _inputs(model: Model, nf: int, atype: np.ndarray, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the inputs of a model by name: (nf, dim), or (*atype.shape, dim) for those of atoms."""
    charges = (nf, model.get_dim_chg_spin())
    default = model.get_default_chg_spin()
    charge_spin = _parameters("charge_spin", given["charge_spin"], charges, default)
    if charge_spin is not None:
        check_charge_spin(charge_spin, "charge_spin")
    per_frame, default = (nf, model.get_dim_fparam()), model.get_default_fparam()
    per_atom = (*atype.shape, model.get_dim_aparam())
    return {
        "fparam": _parameters("fparam", given["fparam"], per_frame, default),
        "aparam": _parameters("aparam", given["aparam"], per_atom),
        "charge_spin": charge_spin,
        "spin": _spin(given["spin"], model, atype),
    }


def _numbers(value: Any, name: str) -> np.ndarray:
    try:
        array = np.asarray(value)
        if array.dtype.kind not in "fiub":
            raise TypeError
        return array.astype(np.float64, copy=False)
    except (TypeError, ValueError):
        raise InputError("is no array of real numbers", where=name) from None


def _types(value: Any, coord: np.ndarray, mixed_type: bool) -> np.ndarray:
    """Return the types (n_frames, n_atoms); the number of frames follows from the coordinates."""
    given = _numbers(value, "atom_types")
    types = given.astype(np.int64)
    if (types != given).any():
        raise InputError("holds numbers that are no integers", where="atom_types")
    rows = types.reshape(1, -1) if types.ndim < 2 else types.reshape(len(types), -1)
    na = rows.shape[1]
    if mixed_type or (len(rows) > 1 and coord.size == rows.size * 3):
        if coord.size != rows.size * 3:
            raise InputError(
                f"{coord.size} numbers do not fit {len(rows)} frames of {na} atoms",
                where="coords",
                fix=f"{rows.size * 3} are needed",
            )
        if not mixed_type and (rows != rows[:1]).any():
            raise InputError(
                "the types differ from frame to frame", where="atom_types", fix="set mixed_type"
            )
        return rows
    na = types.size
    if na == 0:
        frames = coord.shape[0] if coord.ndim == 3 else 1
        if coord.size:
            raise InputError("there are coordinates, but no atom types", where="atom_types")
        return np.zeros((frames, 0), np.int64)
    if coord.size % (3 * na):
        raise InputError(
            f"{coord.size} numbers are no whole number of frames of {na} atoms",
            where="coords",
            fix=f"give a multiple of {3 * na}, or as many atom_types as there are atoms",
        )
    return np.broadcast_to(types.reshape(1, na), (coord.size // (3 * na), na))


def _check_types(atype: np.ndarray, type_map: list[str]) -> None:
    wrong = atype >= len(type_map)
    if wrong.any():
        frame, atom = np.argwhere(wrong)[0]
        raise InputError(
            f"atom {atom} has type {atype[frame, atom]}, the model has {len(type_map)} types "
            f"({', '.join(type_map[:8])}{', …' if len(type_map) > 8 else ''})",
            where="atom_types",
            fix=f"give numbers from 0 to {len(type_map) - 1}, -1 for a virtual atom",
        )


def _check_finite(values: np.ndarray, atype: np.ndarray, where: str, what: str) -> None:
    """Refuse numbers (n_frames, n_atoms, 3) of real atoms that are not finite."""
    wrong = ~np.isfinite(values).all(axis=2) & (atype >= 0)
    if wrong.any():
        frame, atom = np.argwhere(wrong)[0]
        raise InputError(f"atom {atom} of frame {frame} {what}", where=where)


def _cells(value: Any, nf: int) -> np.ndarray:
    if value is None:
        return np.zeros((nf, 3, 3))
    fix = "give three vectors per frame, or None for an open system"
    cells = _spread(_numbers(value, "cells"), "cells", (nf, 9), repeated=1, fix=fix)
    cells = cells.reshape(nf, 3, 3)
    for frame, cell in enumerate(cells if cells.strides[0] else cells[:1]):
        if not np.isfinite(cell).all():
            raise InputError(f"frame {frame} has a NaN or infinite cell vector", where="cells")
        if cell.any():
            with located(f"cells, frame {frame}"):
                check_cell(cell)
    return cells


def _spin(value: Any, model: Model, atype: np.ndarray) -> np.ndarray | None:
    """Spins of all atoms, (n_frames, n_atoms, 3)."""
    if not model.has_spin():
        if value is not None:
            raise NotAvailableError("the model takes no spins", where="spin", fix="leave it out")
        return None
    if value is None:
        raise InputError(
            "the model needs the spins of the atoms, none are given",
            where="spin",
            fix="give three numbers per atom, zero for types without spin",
        )
    fix = "give three per atom of every frame, or of one frame"
    spin = _spread(_numbers(value, "spin"), "spin", (*atype.shape, 3), repeated=1, fix=fix)
    _check_finite(spin, atype, "spin", "has a NaN or infinite spin")
    return spin


def _parameters(
    name: str, value: Any, shape: tuple[int, ...], default: list[float] | None = None
) -> np.ndarray | None:
    """Parameters of frames (n_frames, dim), or of atoms (n_frames, n_atoms, dim)."""
    dim = shape[-1]
    kind, fix = (
        ("frame", f"give {dim} per frame, or {dim} for all")
        if len(shape) == 2
        else ("atomic", f"give {dim} per atom of every frame, of one frame, or {dim} for all atoms")
    )
    if not dim:
        if value is not None and _numbers(value, name).size:
            raise InputError(
                f"the model takes no {kind} parameters", where=name, fix="leave it out"
            )
        return None
    value = default if value is None else value
    if value is None:
        what = f"{dim} {kind} parameters"
        if name == "charge_spin":
            what = "charge_spin, the charge and multiplicity of every frame"
        raise InputError(f"the model needs {what}, none are given", where=name)
    array = _numbers(value, name)
    if not np.isfinite(array).all():
        raise InputError("holds NaN or infinite numbers", where=name)
    return _spread(array, name, shape, repeated=len(shape) - 1, fix=fix)


def _spread(
    array: np.ndarray, name: str, shape: tuple[int, ...], *, repeated: int, fix: str
) -> np.ndarray:
    """Give numbers the shape they need; up to ``repeated`` of the first axes may be left out."""
    for k in range(repeated + 1):
        if array.size == math.prod(shape[k:]):
            return np.broadcast_to(array.reshape(shape[k:]), shape)
    frames = f"{shape[0]} frames" + (f" of {shape[1]} atoms" if len(shape) == 3 else "")
    raise InputError(f"{array.size} numbers do not fit {frames}", where=name, fix=fix)
