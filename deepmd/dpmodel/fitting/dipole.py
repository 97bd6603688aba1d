# SPDX-License-Identifier: LGPL-3.0-or-later
"""A vector per atom, such as a dipole or the displacement of a Wannier center.

Zhang et al., "Deep neural network for the dielectric response of insulators", Phys. Rev. B 102,
041121 (2020).
"""

from typing import Any

from deepmd.dpmodel import ops
from deepmd.dpmodel.descriptor.base import Atoms, DescriptorOutput, Slots
from deepmd.dpmodel.fitting.base import Fitting, fitting_serial
from deepmd.dpmodel.fitting.tensor import TensorFitting
from deepmd.dpmodel.output_def import FittingOutputDef, OutputVariableDef
from deepmd.schema.settings import setting


@Fitting.register("dipole")
class DipoleFitting(TensorFitting):
    """A vector per atom: ``μ_i = Σ_m y_im T_im``, T the equivariant part of the descriptor."""

    serial = fitting_serial("dipole", 4, "embedding_width r_differentiable c_differentiable")
    var_name = "dipole"
    quantity = "dipole"
    sel_alias = "dipole_type"

    r_differentiable: bool = setting(True, "Whether there are forces.", key=False)
    c_differentiable: bool = setting(True, "Whether there are virials.", key=False)

    def output_def(self) -> FittingOutputDef:
        """Return what this fitting predicts."""
        variable = OutputVariableDef(
            "dipole",
            [3],
            reducible=True,
            r_differentiable=self.r_differentiable,
            c_differentiable=self.c_differentiable,
        )
        return FittingOutputDef([variable])

    def call(self, output: DescriptorOutput, atoms: Atoms, slots: Slots) -> dict[str, Any]:
        """Evaluate: dipole (n_atoms, 3) float64."""
        y = self.atomic_values(output, atoms, slots)[:, None, :]
        mu = ops.xp(y).matmul(y, self.rotation(output))[:, 0, :]
        return {"dipole": self.without_excluded(mu, atoms)}

    def shifted(self, value: Any, bias: Any, std: Any, atoms: Atoms) -> Any:
        """Return the output as it is: a constant vector would not turn with the system."""
        return value
