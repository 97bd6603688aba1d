# SPDX-License-Identifier: LGPL-3.0-or-later
"""Outputs of a model: names, shapes, and which derivatives there are.

This is the one place where results have names. Whether a result belongs to frames, atoms or edges is
declared here and never read from a name, because the name of a property is the user's choice.
"""

import dataclasses
import enum
import math
from collections.abc import Mapping, Sequence
from typing import Any

from deepmd.base.errors import InputError


class Level(enum.StrEnum):
    """Rows of a result."""

    FRAME = "frame"
    ATOM = "atom"
    EDGE = "edge"


@dataclasses.dataclass(frozen=True)
class Result:
    """One array among the results of a model.

    Parameters
    ----------
    name : str
        Its key.
    level : Level
        Rows of the array.
    size : int
        Numbers per row, 0 where the output definition does not determine it.
    of : str
        The output that it is, or is derived from; empty where it is none.
    derivative : str
        With respect to ``position``, ``cell`` or ``spin``; empty for values.
    """

    name: str
    level: Level
    size: int = 0
    of: str = ""
    derivative: str = ""


#: Name of the output of the last hidden layer.
LAST_LAYER = "fitting_last_layer"
#: Inner results of the standard model, on request.
INNER = (Result("descriptor", Level.ATOM), Result(LAST_LAYER, Level.ATOM))
#: Factor of every atom, 0 where its type is excluded.
MASK = Result("mask", Level.ATOM, 1)
#: Names that data and results have by themselves.
RESERVED = frozenset(
    {"coord", "box", "type", "real_atom_types", "fparam", "aparam", "spin", "charge_spin"}
    | {r.name for r in (*INNER, MASK)}
)


def check_name(name: str, where: str) -> None:
    """Raise InputError for the name of an output that is taken, see :data:`RESERVED`."""
    if name in RESERVED:
        raise InputError(
            f'"{name}" is the name of another quantity', where=where, fix="choose another name"
        )


@dataclasses.dataclass(frozen=True)
class OutputVariableDef:
    """One quantity that a fitting predicts for every atom.

    Parameters
    ----------
    name : str
        Its name, such as ``energy``.
    shape : list of int
        Shape of the value of one atom.
    reducible : bool
        Whether the values of the atoms add up to one of the frame.
    r_differentiable, c_differentiable : bool
        Whether there are derivatives with respect to positions and to the cell.
    atomic : bool
        Whether the value belongs to atoms.
    intensive : bool
        Whether the value of the frame is the mean over its atoms, not the sum.
    magnetic : bool
        Whether there are derivatives with respect to spins.
    r_hessian : bool
        Whether there are second derivatives with respect to positions.
    label : str, optional
        Name of its data file, where that is not the output's name.
    """

    name: str
    shape: Sequence[int]
    reducible: bool = False
    r_differentiable: bool = False
    c_differentiable: bool = False
    atomic: bool = True
    intensive: bool = False
    magnetic: bool = False
    r_hessian: bool = False
    label: str | None = None

    def squeeze(self, dim: int) -> None:
        """Drop an axis of length 1 of the shape, in place; axes count from the end of the value."""
        shape = list(self.shape)
        if -len(shape) <= dim < len(shape) and shape[dim] == 1:
            shape.pop(dim)
        object.__setattr__(self, "shape", shape)

    @property
    def label_name(self) -> str:
        """Name of the data file; ``atom_`` before it for values of atoms."""
        return self.label or self.name

    @property
    def size(self) -> int:
        """Number of components."""
        return math.prod(self.shape)

    @property
    def atom_name(self) -> str:
        """Key of the values of atoms, where those of frames are beside them."""
        return f"atom_{self.name}"

    @property
    def edge_name(self) -> str:
        """Key of the derivatives with respect to edge vectors, (n_edges, size, 3)."""
        return f"{self.name}_grad"

    def raw_results(self) -> list[Result]:
        """Results of :meth:`Model.forward_edges` that belong to this output."""
        found = [Result(self.name, Level.ATOM, self.size, self.name)]
        if self.r_differentiable:
            found.append(Result(self.edge_name, Level.EDGE, 3 * self.size, self.name, "position"))
        return found

    def results(self) -> list[Result]:
        """Results of :meth:`Model.predict` that belong to this output."""
        name, size = self.name, self.size
        found = [
            Result(name, Level.FRAME, size, name),
            Result(self.atom_name, Level.ATOM, size, name),
        ]
        if self.r_differentiable:
            found += [
                Result("force", Level.ATOM, 3 * size, name, "position"),
                Result("virial", Level.FRAME, 9 * size, name, "cell"),
                Result("atom_virial", Level.ATOM, 9 * size, name, "cell"),
            ]
            if size == 1:
                found.append(Result("hessian", Level.FRAME, 0, name, "position"))
        if self.magnetic:
            found += [
                Result("force_mag", Level.ATOM, 3 * size, name, "spin"),
                Result("mask_mag", Level.ATOM, 1, name),
            ]
        return found


class FittingOutputDef:
    """The quantities a fitting predicts, by name."""

    def __init__(self, variables: Sequence[OutputVariableDef]) -> None:
        self.variables = {v.name: v for v in variables}

    def __getitem__(self, name: str) -> OutputVariableDef:
        return self.variables[name]

    def get_data(self) -> dict[str, OutputVariableDef]:
        """Return the definitions by name."""
        return self.variables

    def keys(self) -> list[str]:
        """Return the names."""
        return list(self.variables)

    def raw_results(self) -> dict[str, Result]:
        """Results of :meth:`Model.forward_edges` by name, the inner ones included."""
        own = [r for v in self.variables.values() for r in v.raw_results()]
        return {r.name: r for r in (*own, *INNER)}

    def results(self) -> dict[str, Result]:
        """Results of :meth:`Model.predict` by name, the inner ones included."""
        own = [r for v in self.variables.values() for r in v.results()]
        return {r.name: r for r in (*own, *INNER, MASK)}


def of_level(results: Mapping[str, Result], level: Level) -> frozenset[str]:
    """Names of the results of one level."""
    return frozenset(name for name, result in results.items() if result.level is level)


def of_derivatives(results: Mapping[str, Result]) -> frozenset[str]:
    """Names of the derivatives that :meth:`Model.predict` and its callers are asked for by name.

    Those with respect to spins come with those with respect to positions.
    """
    return frozenset(n for n, r in results.items() if r.derivative in ("position", "cell"))


def energy_output() -> FittingOutputDef:
    """Return the definition of an energy [eV]: sums up, has forces and virials."""
    return FittingOutputDef(
        [
            OutputVariableDef(
                "energy", [1], reducible=True, r_differentiable=True, c_differentiable=True
            )
        ]
    )


class ModelOutputDef:
    """Results of a model under the names of plugins, ``energy_redu``, ``energy_derv_r``, ….

    Parameters
    ----------
    fit_defs : FittingOutputDef
    """

    def __init__(self, fit_defs: FittingOutputDef) -> None:
        self.def_outp = fit_defs
        self.variables: dict[str, OutputVariableDef] = {}
        for name, v in fit_defs.get_data().items():
            shape = list(v.shape)
            self.variables[name] = v
            if v.reducible:
                self._add(f"{name}_redu", shape, atomic=False)
            if v.r_differentiable:
                self._add(f"{name}_derv_r", [*shape, 3])
            if v.c_differentiable:
                self._add(f"{name}_derv_c", [*shape, 9])
                self._add(f"{name}_derv_c_redu", [*shape, 9], atomic=False)
        self._add("mask", [1])

    def _add(self, name: str, shape: list[int], *, atomic: bool = True) -> None:
        self.variables[name] = OutputVariableDef(name, shape, atomic=atomic)

    def __getitem__(self, name: str) -> OutputVariableDef:
        return self.variables[name]

    def get_data(self) -> dict[str, OutputVariableDef]:
        """Return the definitions by name."""
        return self.variables

    def keys(self) -> list[str]:
        """Return the names."""
        return list(self.variables)


def fitting_check_output(code: type) -> type:
    """Return a subclass of a fitting that compares every result with its ``output_def()``.

    Parameters
    ----------
    code : type
        Has ``output_def()``, and returns {name: (n_frames, n_atoms, *shape)} when it is called.
    """

    def __call__(self: Any, *args: Any, **kwargs: Any) -> Any:
        found = super(checked, self).__call__(*args, **kwargs)
        for name, variable in self.output_def().get_data().items():
            if name not in found:
                raise ValueError(f"{code.__name__} gives no {name}, which its output_def() states")
            if list(found[name].shape[2:]) != list(variable.shape):
                raise ValueError(
                    f"{name} of {code.__name__} has shape {tuple(found[name].shape[2:])} per atom, "
                    f"its output_def() states {tuple(variable.shape)}"
                )
        return found

    body = {"__call__": __call__, "__module__": code.__module__, "__doc__": code.__doc__}
    checked: Any = type(code.__name__, (code,), body)
    return checked
