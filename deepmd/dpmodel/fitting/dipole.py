# SPDX-License-Identifier: LGPL-3.0-or-later
"""A vector per atom, such as a dipole or the displacement of a Wannier centre.

Zhang et al., "Deep neural network for the dielectric response of insulators", Phys. Rev. B 102,
041121 (2020).
"""

from typing import Any

from dargs import Argument

from deepmd.dpmodel import ops
from deepmd.dpmodel.descriptor.base import Atoms, DescriptorOutput, Slots
from deepmd.dpmodel.fitting.base import Fitting, fitting_serial
from deepmd.dpmodel.fitting.tensor import TensorFitting, tensor_arguments
from deepmd.dpmodel.output_def import FittingOutputDef, OutputVariableDef
from deepmd.schema.registry import fitting_args


@Fitting.register("dipole")
class DipoleFitting(TensorFitting):
    """``μ_i = Σ_m y_im T_im`` with T the equivariant part of the descriptor.

    Parameters
    ----------
    ntypes, dim_descrpt : int
        Number of types, width of the descriptor.
    embedding_width : int
        Rows of the descriptor's equivariant part.
    r_differentiable, c_differentiable : bool
        Whether derivatives are predicted.
    options
        See :meth:`Fitting._init_networks`.
    """

    serial = fitting_serial("dipole", 4, "embedding_width r_differentiable c_differentiable")
    var_name = "dipole"

    def __init__(
        self,
        ntypes: int,
        dim_descrpt: int,
        *,
        embedding_width: int,
        r_differentiable: bool = True,
        c_differentiable: bool = True,
        **options: Any,
    ) -> None:
        self.embedding_width = embedding_width
        self.r_differentiable, self.c_differentiable = r_differentiable, c_differentiable
        self._init_networks(
            ntypes=ntypes, dim_descrpt=dim_descrpt, net_out=embedding_width, **options
        )

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


@fitting_args.register("dipole", doc="A vector per atom.")
def dipole_fitting_arguments() -> list[Argument]:
    """Keys of the dipole fitting."""
    return tensor_arguments("dipole_type", "dipole")
