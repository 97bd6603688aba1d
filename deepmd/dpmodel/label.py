# SPDX-License-Identifier: LGPL-3.0-or-later
"""Labels and parameters of a data set, besides positions, cells and types."""

import dataclasses
from typing import Any

import numpy as np

from deepmd.base.errors import InputError
from deepmd.dpmodel.output_def import Level

#: Numbers of charges (from -100) and multiplicities (from 0) that models tell apart.
CHARGES, MULTIPLICITIES = 200, 100


@dataclasses.dataclass(frozen=True)
class Label:
    """One quantity of a frame or of its atoms.

    Parameters
    ----------
    name : str
        File name without suffix, and the key in ``Batch.labels``. For an atomic label ``atom_x``
        and ``atomic_x`` are the same; the file of either name is found. The names ``fparam``,
        ``aparam``, ``spin`` and ``charge_spin`` go to the fields of that name in the batch.
    size : int
        Numbers per frame, or per atom.
    atomic : bool
        Whether there is one set of numbers per atom.
    required : bool
        Whether a system without the file is an error.
    default : float or tuple of float
        Filled in where the file is missing; one number, or ``size`` of them.
    high_precision : bool
        Never to be cast below float64 by a backend (energies).
    sel_type : tuple of int, optional
        The file may hold the atoms of these types only; the others get zero.
    pairwise : bool
        One number per pair of coordinates: (3 n_atoms)² per frame whatever ``size`` says (Hessian).
        In a batch it is (n_atoms, 3 × 3 n), n being the atoms of the largest frame: three rows of
        the matrix per atom, with zeros behind the coordinates of a smaller frame.
    """

    name: str
    size: int
    atomic: bool
    required: bool = False
    default: float | tuple[float, ...] = 0.0
    high_precision: bool = False
    sel_type: tuple[int, ...] | None = None
    pairwise: bool = False

    def file_names(self) -> tuple[str, ...]:
        """Names (without suffix) under which the label may be stored, the preferred one first."""
        for prefix in ("atom_", "atomic_"):
            if self.atomic and self.name.startswith(prefix):
                rest = self.name.removeprefix(prefix)
                return f"atom_{rest}", f"atomic_{rest}"
        return (self.name,)


#: Spins of the atoms.
SPIN = Label("spin", 3, True, required=True)


def check_charge_spin(values: Any, where: str, frames: np.ndarray | None = None) -> None:
    """Raise InputError unless charges and multiplicities (n_frames, 2) are some that models know."""
    numbers = np.asarray(values)
    least = np.array([-(CHARGES // 2), 0])
    most = least + np.array([CHARGES, MULTIPLICITIES]) - 1
    wrong = (numbers != np.round(numbers)) | (numbers < least) | (numbers > most)
    if wrong.any():
        row, k = np.argwhere(wrong)[0]
        frame = row if frames is None else frames[row]
        raise InputError(
            f"{('charge', 'multiplicity')[k]} {numbers[row, k]:g} of frame {frame}",
            where=where,
            fix=f"give a whole number from {least[k]} to {most[k]}",
        )


def parameter_labels(model: Any) -> list[Label]:
    """Return what a model takes beside positions, cells and types: parameters, charges, spins."""
    labels = []
    for one in model.inputs():
        of_atoms = one.level is Level.ATOM
        if one.default is None:
            labels.append(Label(one.name, one.size, of_atoms, required=True))
        else:
            labels.append(Label(one.name, one.size, of_atoms, default=one.default))
    return labels
