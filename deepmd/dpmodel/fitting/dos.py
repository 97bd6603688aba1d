# SPDX-License-Identifier: LGPL-3.0-or-later
"""Density of states on a grid of energies, a sum over atoms.

Zeng et al., "Towards large-scale and spatiotemporally resolved diagnosis of electronic density of
states by deep learning", Phys. Rev. B 105, 174109 (2022).
"""

from deepmd.dpmodel.fitting.base import Fitting, fitting_serial
from deepmd.dpmodel.fitting.invar import InvarFitting
from deepmd.dpmodel.output_def import FittingOutputDef, OutputVariableDef
from deepmd.schema.common import POSITIVE
from deepmd.schema.settings import setting


@Fitting.register("dos")
class DOSFitting(InvarFitting):
    """Density of states of every atom."""

    serial = fitting_serial("dos", 4, "dim_out atom_ener")
    var_name = "dos"
    reads_directions = False

    precision: str = setting("float64")
    rcond: float | None = setting(None, key=True)
    numb_dos: int = setting(300, "Points of the energy grid.", rule=POSITIVE)

    @classmethod
    def construct(cls, config: dict, data: dict) -> "DOSFitting":
        """Build from the stored keys."""
        return cls(numb_dos=config.pop("dim_out"), **config)

    @property
    def dim_out(self) -> int:  # type: ignore[override]
        """Numbers per atom."""
        return self.numb_dos

    def output_def(self) -> FittingOutputDef:
        """Return what this fitting predicts."""
        return FittingOutputDef([OutputVariableDef("dos", [self.numb_dos], reducible=True)])
