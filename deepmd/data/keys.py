# SPDX-License-Identifier: LGPL-3.0-or-later
"""Names under which files of other programs hold labels: standard ones, and those that are declared."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

import numpy as np

from deepmd.base.errors import DataError, did_you_mean
from deepmd.data.quantities import OF_ATOMS, OF_FRAMES, is_atomic

#: Label -> names under which it is found without a declaration, the usual one first.
STANDARD: dict[str, tuple[str, ...]] = {
    "energy": ("energy", "REF_energy", "ref_energy", "dft_energy", "DFT_energy", "energy_dft"),
    "force": (
        "forces", "force", "REF_forces", "REF_force", "ref_forces", "ref_force", "dft_forces",
        "dft_force", "DFT_forces", "forces_dft",
    ),
    "virial": (
        "virial", "virials", "REF_virial", "REF_virials", "ref_virial", "dft_virial", "DFT_virial",
    ),
    "stress": ("stress", "REF_stress", "ref_stress", "dft_stress", "DFT_stress"),
    "charge": ("charge", "total_charge"),
    "multiplicity": ("multiplicity", "spin_multiplicity"),
    "spin": ("spin", "spins"),
    "force_mag": ("force_mag", "mag_forces"),
    "atom_dipole": ("atom_dipole", "atomic_dipole"),
    "atom_polarizability": ("atom_polarizability", "atomic_polarizability"),
}  # fmt: skip
for _name in (*OF_FRAMES, *OF_ATOMS, "hessian"):
    STANDARD.setdefault(_name, (_name,))
#: Declarations that are no labels of their own; what they become.
PARTS = {"stress": "virial", "charge": "charge_spin", "multiplicity": "charge_spin"}
#: Not a label: whether cells are periodic, in place of what the file says.
PBC = "pbc"
#: Labels that must be equal this well to be taken for the same.
_SAME = 1e-6
#: Labels of other names are properties of the user, but for those so similar to a standard one.
_TYPING_ERROR = 0.85


@dataclasses.dataclass
class Values:
    """What one structure of a file holds beside positions and cell.

    Attributes
    ----------
    of_frame, of_atoms : dict of str to array
        By their names in the file.
    """

    of_frame: dict[str, Any]
    of_atoms: dict[str, Any]

    def get(self, name: str) -> Any:
        """Return what has a name, or None."""
        found = self.of_frame.get(name)
        return self.of_atoms.get(name) if found is None else found


def check_keys(keys: Mapping[str, Any], where: str) -> dict[str, str | None]:
    """Return a declaration {label: name in the file, or null}, checked as far as it can be without data.

    Raises
    ------
    DataError
    """
    for label, name in keys.items():
        meant = get_close_matches(label, [*STANDARD, PBC], n=1, cutoff=_TYPING_ERROR)
        if meant and label not in (*STANDARD, PBC):
            raise DataError(
                "is no label", where=f"{where}/{label}", fix=f'did you mean "{meant[0]}"?'
            )
        if not isinstance(name, str | None) or name == "":
            raise DataError(
                f"{name!r} is no name",
                where=f"{where}/{label}",
                fix=f'write the name in the files, as in "{label}": "REF_{label}", or null to leave it out',
            )
        if label == PBC and (
            name is None or len(name.split()) != 3 or set(name.split()) - {"T", "F"}
        ):
            raise DataError(
                f'"{name}" is not understood', where=f"{where}/pbc", fix='write "T T T" or "F F F"'
            )
    given = [name for label, name in keys.items() if name is not None and label != PBC]
    twice = next((n for n in given if given.count(n) > 1), None)
    if twice is not None:
        raise DataError(
            f'"{twice}" is two labels', where=where, fix="give every label its own name"
        )
    if keys.get("virial") and keys.get("stress"):
        raise DataError(
            "virial and stress are both declared", where=where, fix="declare one of them"
        )
    return dict(keys)


def choose(every: Sequence[Values], keys: Mapping[str, str | None], where: str) -> dict[str, str]:
    """Return the name in the file of every label that it has.

    Parameters
    ----------
    every : sequence of Values
        One per frame.
    keys : mapping
        Declared names.
    where : str
        The file.

    Raises
    ------
    DataError
        If a declared name is not there, or several standard names could be meant.
    """
    census = {n for v in every for n in (*v.of_frame, *v.of_atoms)}
    out: dict[str, str] = {}
    taken = {name for name in keys.values() if name is not None}
    for label, name in keys.items():
        if label == PBC or name is None:
            continue
        if name not in census:
            raise DataError(
                f'no frame has "{name}", which training_data/keys declares as {label}',
                where=where,
                fix=did_you_mean(name, census) or "the file has positions only",
            )
        out[label] = name
    declared = set(out)
    for label, names in STANDARD.items():
        if label in keys or (label in ("virial", "stress") and {"virial", "stress"} & declared):
            continue
        present = [n for n in names if n in census and n not in taken]
        if label in ("spin", "force_mag"):  # elsewhere this is a multiplicity, or along one axis
            present = [n for n in present if all(_is_vector(v.of_atoms.get(n)) for v in every)]
        if len(present) > 1:
            _check_same(every, present, label, where)
        if present:
            out[label] = present[0]
    _settle_virial(out, every, keys, where)
    if ("charge" in out) != ("multiplicity" in out):  # one alone is no input of a model
        out.pop("charge", None), out.pop("multiplicity", None)
    if "charge_spin" in out:
        out.pop("charge", None), out.pop("multiplicity", None)
    return out


def _is_vector(value: Any) -> bool:
    return value is None or (np.ndim(value) == 2 and np.shape(value)[1] == 3)


def _check_same(every: Sequence[Values], names: Sequence[str], label: str, where: str) -> None:
    """Raise DataError unless every frame has equal numbers under all names."""
    first, *others = names
    for number, values in enumerate(every):
        one = values.get(first)
        for other in others:
            two = values.get(other)
            if one is None and two is None:
                continue
            if one is None or two is None or not _agree(one, two):
                raise DataError(
                    f'{label} may be "{first}" or "{other}", which differ in frame {number}',
                    where=where,
                    fix=f'say which: "keys": {{"{label}": "{first}"}} in training_data',
                )


def _agree(one: Any, two: Any) -> bool:
    one, two = np.ravel(one), np.ravel(two)
    return one.shape == two.shape and np.allclose(one, two, rtol=_SAME, atol=_SAME)


def _settle_virial(
    out: dict[str, str], every: Sequence[Values], keys: Mapping[str, str | None], where: str
) -> None:
    """Of virial and stress take the virial, if both say the same."""
    if "virial" not in out or "stress" not in out:
        return
    for number, values in enumerate(every):
        virial, stress = values.get(out["virial"]), values.get(out["stress"])
        volume = values.of_frame.get("_volume")
        if virial is None or stress is None or not volume:
            continue
        one, two = matrix(virial), -volume * matrix(stress)
        if np.abs(one - two).max() > 1e-4 * max(np.abs(one).max(), np.abs(two).max()) + 1e-6:
            raise DataError(
                f'"{out["virial"]}" and "{out["stress"]}" differ in frame {number}: the virial is '
                f"{one[0, 0]:.6g} eV in its first element, minus volume times stress {two[0, 0]:.6g} eV",
                where=where,
                fix='say which: "keys": {"virial": null} or {"stress": null} in training_data',
            )
    del out["stress"]


def matrix(values: Any) -> np.ndarray:
    """Return a tensor (3, 3) of 6 numbers in Voigt's order (xx yy zz yz xz xy) or of 9."""
    flat = np.asarray(values, dtype=np.float64).reshape(-1)
    if flat.size == 6:
        xx, yy, zz, yz, xz, xy = flat
        return np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])
    return flat.reshape(3, 3)


def labels_in(
    values: Values, chosen: Mapping[str, str], natoms: int, volume: float
) -> tuple[dict[str, np.ndarray], str | None]:
    """Return the labels of a frame, flat, and what is wrong with them."""
    out: dict[str, np.ndarray] = {}
    for label, name in chosen.items():
        value = values.get(name)
        if value is None:
            continue
        try:
            flat = np.asarray(value, dtype=np.float64).reshape(-1)
        except (TypeError, ValueError):
            return out, f'{label} ("{name}") is no array of numbers'
        if label in ("virial", "stress"):
            if flat.size not in (6, 9):
                return out, f'{label} ("{name}") has {flat.size} numbers, expected 6 or 9'
            if label == "virial":
                out[label] = matrix(flat).reshape(-1)
            elif volume:
                out["virial"] = (-volume * matrix(flat)).reshape(-1)
            continue
        atomic = is_atomic(label)
        known = (OF_ATOMS if atomic else OF_FRAMES).get(label, 0)
        if label == "hessian":
            known, atomic = (3 * natoms) ** 2, False
        of_atoms = name in values.of_atoms and values.of_frame.get(name) is None
        wanted = known * (natoms if atomic else 1)
        if (atomic != of_atoms and label in STANDARD and not (atomic and flat.size == wanted)) or (
            known and flat.size != wanted
        ):
            meant = f"{natoms} atoms x {known or 'n'}" if atomic else str(known or "n")
            return out, f'{label} ("{name}") has {flat.size} numbers, expected {meant}'
        out[label] = flat
    if "charge" in out and "multiplicity" in out:
        out["charge_spin"] = np.concatenate([out.pop("charge"), out.pop("multiplicity")])
    out.pop("charge", None), out.pop("multiplicity", None)
    return out, None


def described(chosen: Mapping[str, str], names: Iterable[str]) -> str:
    """Return one line about what was taken for what, and which names were not used."""
    found = [
        f"{PARTS.get(label, label)} from {name}"
        + (" (minus volume times stress)" if label == "stress" else "")
        for label, name in chosen.items()
    ]
    rest = sorted(n for n in set(names) - set(chosen.values()) if not n.startswith("_"))
    text = ", ".join(found) or "no label"
    return f"{text}; not used: {', '.join(rest)}" if rest else text
