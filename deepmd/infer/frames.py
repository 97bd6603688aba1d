# SPDX-License-Identifier: LGPL-3.0-or-later
"""What a caller hands over for evaluation, checked and in one form."""

import dataclasses
from typing import Any

import numpy as np

from deepmd.dpmodel.batch import Batch
from deepmd.dpmodel.model import Model
from deepmd.dpmodel.neighbors import check_cell
from deepmd.utils.errors import InputError, NotAvailableError


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
        """Which atoms are real: (n_frames, n_atoms) bool."""
        return self.atype >= 0

    def batch(self, frames: slice) -> Batch:
        """Return the real atoms of some frames, without edges."""
        real = self.real[frames]
        cell = self.cell[frames]
        return Batch(
            coord=self.coord[frames][real],
            cell=cell,
            periodic=np.abs(cell).max(axis=(1, 2)) > 0,
            atype=self.atype[frames][real],
            frame=np.nonzero(real)[0].astype(np.int64),
            natoms=real.sum(axis=1).astype(np.int64),
            fparam=None if self.fparam is None else self.fparam[frames],
            aparam=None if self.aparam is None else self.aparam[frames][real],
            charge_spin=None if self.charge_spin is None else self.charge_spin[frames],
            spin=None if self.spin is None else self.spin[frames][real],
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
    coords : numbers of any shape, n_frames × n_atoms × 3 of them [Å]
    cells : n_frames × 9 numbers, or 9 for all frames [Å]; None for an open system
    atom_types : (n_atoms,), or (n_frames, n_atoms) with ``mixed_type``
        Index into the type map; negative marks a virtual atom.
    fparam : n_frames × n_fparam numbers, or n_fparam for all frames
    aparam : n_frames × n_atoms × n_aparam numbers, or n_atoms × n_aparam, or n_aparam
    charge_spin : n_frames × 2 numbers, or 2 for all frames
        Charge [e] and spin multiplicity.
    spin : n_frames × n_atoms × 3 numbers, or n_atoms × 3 for all frames
        Spins of the atoms, of a model that takes them; zero for types without spin.
    mixed_type : bool
        Whether every frame has its own row of types.

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
    _check_finite(coord, atype)
    return Frames(
        coord,
        _cells(cells, nf),
        atype,
        _of_frames(fparam, model.get_dim_fparam(), model.get_default_fparam(), nf, "fparam"),
        _aparam(aparam, model, nf, na),
        _of_frames(
            charge_spin, model.get_dim_chg_spin(), model.get_default_chg_spin(), nf, "charge_spin"
        ),
        _spin(spin, model, atype),
    )


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


def _check_finite(coord: np.ndarray, atype: np.ndarray) -> None:
    wrong = ~np.isfinite(coord).all(axis=2) & (atype >= 0)
    if wrong.any():
        frame, atom = np.argwhere(wrong)[0]
        raise InputError(f"atom {atom} of frame {frame} is at NaN or infinity", where="coords")


def _cells(value: Any, nf: int) -> np.ndarray:
    if value is None:
        return np.zeros((nf, 3, 3))
    cells = _numbers(value, "cells")
    if cells.size not in (9, 9 * nf):
        raise InputError(
            f"{cells.size} numbers do not fit {nf} frames",
            where="cells",
            fix="give three vectors per frame, or None for an open system",
        )
    cells = np.broadcast_to(cells.reshape(-1, 3, 3), (nf, 3, 3))
    for frame, cell in enumerate(cells if cells.strides[0] else cells[:1]):
        if not np.isfinite(cell).all():
            raise InputError(f"frame {frame} has a NaN or infinite cell vector", where="cells")
        if cell.any():
            try:
                check_cell(cell)
            except InputError as error:
                raise InputError(error.what, where=f"cells, frame {frame}", fix=error.fix) from None
    return cells


def _of_frames(
    value: Any, dim: int, default: list[float] | None, nf: int, name: str
) -> np.ndarray | None:
    if value is None and dim:
        value = default
    array = _parameters(value, dim, name, "frame")
    if array is None:
        return None
    if array.size not in (dim, nf * dim):
        raise InputError(
            f"{array.size} numbers do not fit {nf} frames",
            where=name,
            fix=f"give {dim} per frame, or {dim} for all",
        )
    return np.broadcast_to(array.reshape(-1, dim), (nf, dim))


def _aparam(value: Any, model: Model, nf: int, na: int) -> np.ndarray | None:
    dim = model.get_dim_aparam()
    array = _parameters(value, dim, "aparam", "atomic")
    if array is None:
        return None
    if array.size == nf * na * dim:
        return array.reshape(nf, na, dim)
    if array.size not in (na * dim, dim):
        raise InputError(
            f"{array.size} numbers do not fit {nf} frames of {na} atoms",
            where="aparam",
            fix=f"give {dim} per atom of every frame, of one frame, or {dim} for all atoms",
        )
    return np.broadcast_to(array.reshape(1, -1, dim), (nf, na, dim))


def _spin(value: Any, model: Model, atype: np.ndarray) -> np.ndarray | None:
    """Spins of all atoms, (n_frames, n_atoms, 3)."""
    if not model.has_spin():
        if value is not None:
            raise NotAvailableError("the model takes no spins", where="spin", fix="leave it out")
        return None
    nf, na = atype.shape
    if value is None:
        raise InputError(
            "the model needs the spins of the atoms, none are given",
            where="spin",
            fix="give three numbers per atom, zero for types without spin",
        )
    array = _numbers(value, "spin")
    if array.size not in (nf * na * 3, na * 3):
        raise InputError(
            f"{array.size} numbers do not fit {nf} frames of {na} atoms",
            where="spin",
            fix="give three per atom of every frame, or of one frame",
        )
    spin = np.broadcast_to(array.reshape(-1, na, 3), (nf, na, 3))
    wrong = ~np.isfinite(spin).all(axis=2) & (atype >= 0)
    if wrong.any():
        frame, atom = np.argwhere(wrong)[0]
        raise InputError(f"atom {atom} of frame {frame} has a NaN or infinite spin", where="spin")
    return spin


def _parameters(value: Any, dim: int, name: str, kind: str) -> np.ndarray | None:
    """Check what holds for parameters of both kinds."""
    array = None if value is None else _numbers(value, name)
    if not dim:
        if array is not None and array.size:
            raise InputError(
                f"the model takes no {kind} parameters", where=name, fix="leave it out"
            )
        return None
    if array is None:
        raise InputError(f"the model needs {dim} {kind} parameters, none are given", where=name)
    if not np.isfinite(array).all():
        raise InputError("holds NaN or infinite numbers", where=name)
    return array
