# SPDX-License-Identifier: LGPL-3.0-or-later
"""What a model puts out: names, shapes, and which derivatives there are."""

import dataclasses
import math
from collections.abc import Sequence


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

    @property
    def label_name(self) -> str:
        """Name of the data file; ``atom_`` before it for values of atoms."""
        return self.label or self.name

    @property
    def size(self) -> int:
        """Number of components."""
        return math.prod(self.shape)


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


def energy_output() -> FittingOutputDef:
    """Return the definition of an energy [eV]: sums up, has forces and virials."""
    return FittingOutputDef(
        [
            OutputVariableDef(
                "energy", [1], reducible=True, r_differentiable=True, c_differentiable=True
            )
        ]
    )
