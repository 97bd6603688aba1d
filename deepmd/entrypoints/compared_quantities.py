# SPDX-License-Identifier: LGPL-3.0-or-later
"""Quantities that ``dp test`` compares, with lines and files, for every kind of model."""

import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from deepmd.base.errors import NotAvailableError
from deepmd.dpmodel.label import Label, parameter_labels
from deepmd.dpmodel.output_def import OutputVariableDef
from deepmd.infer import DeepDOS, DeepEval, DeepPot, DeepProperty
from deepmd.infer.deep_tensor import DeepTensor


class Rows(NamedTuple):
    """Labels and predictions of a quantity, a row per frame, atom or element of a Hessian."""

    data: np.ndarray  # (n_rows, size)
    pred: np.ndarray
    frame: np.ndarray  # (n_rows,), number of the frame
    natoms: np.ndarray  # (n_rows, 1), atoms of the frame, of the types that are compared
    volume: np.ndarray  # (n_rows, 1) [Å³]
    weight: np.ndarray  # (n_rows, 1), of atom_pref.npy


class Form(NamedTuple):
    """A form in which a quantity is reported."""

    name: str  # of its errors, behind mae_ and rmse_
    title: str  # of its line; ? stands for MAE or RMSE
    unit: str = ""
    file: str = ""  # suffix of its detail file, if there is one
    columns: Sequence[str] = ()  # of that file
    divisor: Callable[[Rows], Any] | None = None
    note: str = ""  # at the end of the file's header
    weighted: bool = False
    averaged: bool = True  # whether the average over systems has this line

    def of(self, values: np.ndarray, rows: Rows) -> np.ndarray:
        """Values (n_rows, size) in this form."""
        return values if self.divisor is None else values / self.divisor(rows)


class Quantity(NamedTuple):
    """A quantity that is compared where its label is found."""

    label: Label
    result: str  # its name in what DeepEval.evaluate returns
    forms: Sequence[Form]
    derivatives: Sequence[str] = ()  # that it needs
    types: Sequence[int] | None = None  # of the atoms that are compared and counted; None: all
    periodic: bool = False  # whether open systems have none


class Kind(NamedTuple):
    """A kind of model: what is read and compared, and how it is written."""

    quantities: Sequence[Quantity]
    labels: Sequence[Label]  # beside those of the quantities
    width: int = 19  # of the titles
    measures: Sequence[str] = ("MAE", "RMSE")
    footer: str = ""
    file_per_frame: bool = False
    line_per_frame: bool = False  # of detail files, with the atoms side by side


def per_atom(rows: Rows) -> np.ndarray:
    """Divisor of values per atom."""
    return rows.natoms


def per_root(rows: Rows) -> np.ndarray:
    """Divisor of values per root of the number of atoms."""
    return np.sqrt(rows.natoms)


def minus_volume(rows: Rows) -> np.ndarray:
    """Divisor that makes stress of virials."""
    return -rows.volume


_AXES = ("x", "y", "z")
_TENSOR = tuple(a + b for a in _AXES for b in _AXES)
_VIRIAL = tuple(f"v{c}" for c in _TENSOR)
_STRESS = tuple(f"s{c}" for c in _TENSOR)
#: Word in titles and names of files, unit, width of the titles.
_INVARIANTS: dict[type[DeepEval], tuple[str, str, int]] = {
    DeepDOS: ("dos", "Occupation/eV", 19),
    DeepProperty: ("property", "units", 24),
}


def kind_of(predictor: DeepEval, path: str | os.PathLike[str], *, atomic: bool) -> Kind:
    """Return what a model is compared with; ``atomic`` asks for values of atoms."""
    parameters = parameter_labels(predictor.model)
    if isinstance(predictor, DeepPot):
        weight = Label("atom_pref", 1, atomic=True)
        return Kind(list(energies(predictor, atomic=atomic)), [weight, *parameters])
    variable = next(iter(predictor.model.output_def().get_data().values()))
    if isinstance(predictor, DeepTensor):
        return Kind(
            [tensor(variable, predictor.get_sel_type(), atomic=atomic)],
            parameters,
            width=len(variable.label_name) + 13,
            measures=("RMSE",),
            footer="The unit of error is the same as the unit of the labels",
            line_per_frame=atomic,
        )
    for opened, (word, unit, width) in _INVARIANTS.items():
        if isinstance(predictor, opened):
            quantities = list(invariants(variable, word, unit, atomic=atomic))
            return Kind(quantities, parameters, width, file_per_frame=True)
    raise NotAvailableError(
        f"it predicts {', '.join(predictor.model.kinds())}, which cannot be compared here",
        where=path,
    )


def energies(predictor: DeepPot, *, atomic: bool) -> Iterator[Quantity]:
    """Energy, force, virial; atomic energies and Hessian if asked for or there."""
    yield Quantity(
        Label("energy", 1, atomic=False, high_precision=True),
        "energy",
        [
            Form("energy", "Energy ?", "eV", ".e.out", "e"),
            Form("energy_per_atom", "Energy ?/Natoms", "eV", ".e_peratom.out", "e", per_atom),
        ],
    )
    spin = predictor.has_spin
    title, file = ("Force atom ?", ".fr.out") if spin else ("Force  ?", ".f.out")
    yield Quantity(
        Label("force", 3, atomic=True),
        "force",
        [
            Form("force", title, "eV/Å", file, [f"f{c}" for c in _AXES]),
            Form("weighted", "Force weighted ?", "eV/Å", weighted=True),
        ],
        ["force"],
    )
    if spin:
        types = np.flatnonzero(predictor.model.get_use_spin())
        form = Form("force_mag", "Force spin ?", "eV/uB", ".fm.out", [f"fm{c}" for c in _AXES])
        label = Label("force_mag", 3, atomic=True)
        yield Quantity(label, "force_mag", [form], ["force"], types.tolist())
    yield Quantity(
        Label("virial", 9, atomic=False),
        "virial",
        [
            Form("virial", "Virial ?", "eV", ".v.out", _VIRIAL),
            Form("virial_per_atom", "Virial ?/Natoms", "eV", ".v_peratom.out", _VIRIAL, per_atom),
            Form("stress", "Stress ?", "eV/Å³", ".s.out", _STRESS, minus_volume, " (eV/Å³)"),
        ],
        ["virial"],
        periodic=True,
    )
    if atomic:
        form = Form("atom_ener", "Atomic ener ?", "eV", averaged=False)
        yield Quantity(Label("atom_ener", 1, atomic=True), "atom_energy", [form])
    if predictor.has_hessian:
        form = Form("hessian", "Hessian ?", "eV/Å^2", ".h.out", "h")
        label = Label("hessian", 1, atomic=False, pairwise=True)
        yield Quantity(label, "hessian", [form], ["hessian"])


def tensor(variable: OutputVariableDef, types: Sequence[int], *, atomic: bool) -> Quantity:
    """Dipoles and polarizabilities: of frames, or with ``atomic`` of atoms in their place."""
    name, size, prefix = variable.label_name, variable.size, "atom_" if atomic else ""
    title = name.capitalize()
    columns = _AXES if size == 3 else [f"p{c}" for c in _TENSOR]
    forms = [Form(name, f"{title}  ?", file=".out", columns=columns)]
    if not atomic:
        forms.append(Form(f"{name}_sqrt_n", f"{title}  ?/sqrtN", divisor=per_root, averaged=False))
        forms.append(Form(f"{name}_per_n", f"{title}  ?/N", divisor=per_atom, averaged=False))
    return Quantity(
        Label(f"{prefix}{name}", size, atomic=atomic, sel_type=tuple(types) if atomic else None),
        f"{prefix}{variable.name}",
        forms,
        types=types,
    )


def invariants(
    variable: OutputVariableDef, word: str, unit: str, *, atomic: bool
) -> Iterator[Quantity]:
    """Numbers of frames, and of atoms if asked for: densities of states and properties."""
    name, size, title = variable.label_name, variable.size, word.upper()
    forms = [Form(name, f"{title} ?", unit, f".{word}.out", [word])]
    if word == "dos":
        forms.append(Form(f"{name}_per_atom", f"{title} ?/Natoms", unit, divisor=per_atom))
    yield Quantity(Label(name, size, atomic=False, high_precision=True), variable.name, forms)
    if atomic:
        file, column = f".a{word}.out", [f"a{word}"]
        form = Form(f"atom_{name}", f"Atomic {title} ?", unit, file, column, averaged=False)
        yield Quantity(Label(f"atom_{name}", size, atomic=True), f"atom_{variable.name}", [form])
