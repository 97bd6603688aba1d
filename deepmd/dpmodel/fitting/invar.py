# SPDX-License-Identifier: LGPL-3.0-or-later
"""Any number of invariant quantities per atom."""

from collections.abc import Sequence
from typing import Any

from deepmd.dpmodel.descriptor.base import Atoms, DescriptorOutput, Slots
from deepmd.dpmodel.fitting.base import Fitting, fitting_serial
from deepmd.dpmodel.output_def import FittingOutputDef, OutputVariableDef
from deepmd.schema.settings import setting


@Fitting.registry.register("invar")
class InvarFitting(Fitting):
    """Numbers that do not change when the system is turned: ``y_i = N(x_i)``, summed over atoms."""

    serial = fitting_serial("invar", 4, "dim_out atom_ener", constants=())

    var_name: str = setting(..., "Name of the output.", key=False)
    dim_out: int = setting(..., "Numbers per atom.", key=False)
    atom_ener: list[float | None] | None = setting(
        None, "With at least one number the output of an isolated atom is subtracted.", key=False
    )

    @property
    def net_out(self) -> int:
        """Numbers that the networks put out."""
        return self.dim_out

    def output_def(self) -> FittingOutputDef:
        """Return what this fitting predicts."""
        return FittingOutputDef(
            [
                OutputVariableDef(
                    self.var_name,
                    [self.dim_out],
                    reducible=True,
                    r_differentiable=True,
                    c_differentiable=True,
                )
            ]
        )

    def fixed_bias(self, name: str) -> Sequence[Any] | None:
        """Energies of isolated atoms: with the vacuum energy taken off they are the bias."""
        numbers = self.atom_ener if name == "energy" else None
        return numbers if any(e is not None for e in numbers or ()) else None

    def call(self, output: DescriptorOutput, atoms: Atoms, slots: Slots) -> dict[str, Any]:
        """Evaluate: {var_name: (n_atoms, dim_out)} float64, without the model's bias."""
        y = self.atomic_values(output, atoms, slots)
        y = self.without_vacuum(y, output, atoms, slots)
        return {self.var_name: self.without_excluded(y, atoms)}
