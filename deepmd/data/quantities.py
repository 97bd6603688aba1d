# SPDX-License-Identifier: LGPL-3.0-or-later
"""Labels of the data format: sizes, and those that a system has."""

import math
from collections.abc import Collection, Iterable

from deepmd.base.errors import DataError
from deepmd.data.lmdb import LmdbSystem
from deepmd.data.path import DPPath
from deepmd.data.system import BOX, COORD, TYPES, System
from deepmd.dpmodel.label import Label

#: Numbers per frame, by name; 0 stands for any number.
OF_FRAMES = {
    "energy": 1,
    "virial": 9,
    "fparam": 0,
    "charge_spin": 2,
    "dipole": 3,
    "polarizability": 9,
    "dos": 0,
    "efield": 3,
    "numb_copy": 1,
}
#: Numbers per atom, by name; every name that starts with ``atom_`` or ``atomic_`` is one of them.
OF_ATOMS = {
    "force": 3,
    "spin": 3,
    "force_mag": 3,
    "aparam": 0,
    "drdq": 0,
    "atom_ener": 1,
    "atom_pref": 1,
    "atom_ener_coeff": 1,
    "atom_dipole": 3,
    "atom_polarizability": 9,
    "atom_weight": 1,
    "atom_dos": 0,
}
_NO_LABELS = {COORD.name, BOX.name, TYPES.name}
#: Entries of a frame of an LMDB data set that are no labels.
_NO_LABELS_LMDB = {"atom_numbs", "atom_names", "orig"}


def common_name(name: str) -> str:
    """Return the name of a label, ``atom_x`` for ``atomic_x``."""
    return f"atom_{name.removeprefix('atomic_')}" if name.startswith("atomic_") else name


def is_atomic(name: str) -> bool:
    """Whether a label has numbers for every atom."""
    return name in OF_ATOMS or name.startswith(("atom_", "atomic_"))


def label_of(name: str, width: int, natoms: int, where: object) -> Label:
    """Return the label of an array with ``width`` numbers per frame of ``natoms`` atoms.

    Raises
    ------
    DataError
        If the number does not fit the name.
    """
    name = common_name(name)
    if name == "hessian":
        return Label(name, 1, False, pairwise=True)
    atomic = is_atomic(name)
    known = (OF_ATOMS if atomic else OF_FRAMES).get(name, 0)
    size, rest = divmod(width, natoms if atomic else 1)
    if rest or (known and size != known) or size == 0:
        wanted = f"{natoms} atoms x {known or 'n'}" if atomic else str(known or "n")
        raise DataError(
            f"{name} has {width} numbers per frame, expected {wanted}",
            where=str(where),
            fix="labels of some of the atoms only cannot be converted"
            if atomic
            else "correct it or remove it",
        )
    return Label(name, size, atomic, high_precision=name == "energy")


def is_of_some_atoms(name: str, width: int, natoms: int) -> bool:
    """Whether ``width`` numbers per frame can be a label of some of the atoms, as of ``sel_type``."""
    size = OF_ATOMS.get(name, 0)
    if not is_atomic(name) or name == "force":
        return False
    return width < natoms * size and width % size == 0 if size else width % natoms > 0


def labels_of(
    system: System, only: Collection[str] | None = None, *, of_all_atoms: bool = False
) -> list[Label]:
    """Return the labels that all frames of a system have, sorted by name.

    Parameters
    ----------
    system : System
    only : collection of str, optional
        Names; all by default.
    of_all_atoms : bool
        Leave out labels of some of the atoms, which are an error otherwise.
    """
    if isinstance(system, LmdbSystem):
        found = _labels_of_lmdb(system)
        return [label for label in found if only is None or label.name in only]
    files: dict[str, DPPath] = {}
    for one in system.sets:
        for file in one.glob("*.npy"):
            name = common_name(file.name.removesuffix(".npy"))
            if name not in _NO_LABELS and (only is None or name in only):
                files.setdefault(name, file)
    out = []
    for name in sorted(files):
        file = files[name]
        count = system.counts[[str(s) for s in system.sets].index(str(file.parent))]
        width, rest = divmod(math.prod(file.open_array().shape), max(count, 1))
        if rest:
            raise DataError(
                f"its size is no multiple of the {count} frames of coord.npy",
                where=file,
                fix="complete the file or remove it",
            )
        if not (of_all_atoms and is_of_some_atoms(name, width, system.natoms)):
            out.append(label_of(name, width, system.natoms, file))
    return out


def _labels_of_lmdb(system: LmdbSystem) -> list[Label]:
    common: dict[str, int] | None = None
    for number in system._frames:
        frame = system.file.frame(int(number))
        sizes = {
            common_name(k): _size(v)
            for k, v in frame.items()
            if k not in _NO_LABELS | _NO_LABELS_LMDB and not k.startswith("find_") and v is not None
        }
        absent = {
            common_name(k.removeprefix("find_"))
            for k, v in frame.items()
            if k.startswith("find_") and not v
        }
        here = {k: n for k, n in sizes.items() if k not in absent and n}
        common = here if common is None else {k: n for k, n in common.items() if k in here}
    return [label_of(k, n, system.natoms, system.path) for k, n in sorted((common or {}).items())]


def _size(value: object) -> int:
    if isinstance(value, str | bytes | dict):
        return 0
    shape = getattr(value, "shape", None)
    return math.prod(shape) if shape is not None else 1


def union(many: Iterable[Iterable[Label]]) -> dict[str, Label]:
    """Return labels by name; sizes of one name must agree.

    Raises
    ------
    DataError
        If they do not.
    """
    out: dict[str, Label] = {}
    for labels in many:
        for label in labels:
            known = out.setdefault(label.name, label)
            if known.size != label.size and not label.pairwise:
                raise DataError(
                    f"{label.name} has {known.size} numbers in some systems and {label.size} in others",
                    where="systems",
                    fix="convert them separately",
                )
    return out
