# SPDX-License-Identifier: LGPL-3.0-or-later
"""Electron populations of atoms, of spin up (α) and down (β)."""

from typing import Any

from deepmd.dpmodel.descriptor.base import Atoms
from deepmd.dpmodel.fitting.base import Fitting, fitting_serial
from deepmd.dpmodel.fitting.invar import InvarFitting
from deepmd.dpmodel.output_def import FittingOutputDef, OutputVariableDef
from deepmd.schema.network import widths
from deepmd.schema.settings import setting


@Fitting.register("population")
class PopulationFitting(InvarFitting):
    """Populations of the α and of the β electrons of every atom; those of a frame are the sums.

    As in DeePMD-kit 3.2.0, the means per type that are stored with the model are not added.
    """

    serial = fitting_serial("population", 4, "dim_out atom_ener", constants=("var_name", "dim_out"))
    var_name = "population"
    reads_directions = False
    dim_out = 2

    default_fparam: list[float] | None = setting(None, key=False)
    neuron: list[int] = widths(
        (128, 128, 128), "Widths of the fitting network.", alias=["n_neuron"]
    )

    def output_def(self) -> FittingOutputDef:
        """Return what this fitting predicts."""
        return FittingOutputDef([OutputVariableDef("population", [2], reducible=True)])

    def shifted(self, value: Any, bias: Any, std: Any, atoms: Atoms) -> Any:
        """Return the output as it is."""
        return value
