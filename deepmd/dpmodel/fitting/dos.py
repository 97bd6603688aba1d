# SPDX-License-Identifier: LGPL-3.0-or-later
"""Density of states on a grid of energies, a sum over atoms.

Zeng et al., "Towards large-scale and spatiotemporally resolved diagnosis of electronic density of
states by deep learning", Phys. Rev. B 105, 174109 (2022).
"""

from collections.abc import Sequence
from typing import Any

from dargs import Argument

from deepmd.dpmodel.fitting.base import Fitting, fitting_serial
from deepmd.dpmodel.fitting.invar import InvarFitting
from deepmd.dpmodel.output_def import FittingOutputDef, OutputVariableDef
from deepmd.schema.common import POSITIVE, option, precision_argument
from deepmd.schema.fitting import common_fitting_arguments
from deepmd.schema.registry import fitting_args


@Fitting.register("dos")
class DOSFitting(InvarFitting):
    """Density of states of every atom.

    Parameters
    ----------
    ntypes, dim_descrpt : int
        Number of types, width of the descriptor.
    numb_dos : int
        Points of the grid.
    atom_ener, options
        See :class:`~deepmd.dpmodel.fitting.invar.InvarFitting`.
    """

    serial = fitting_serial("dos", 4, "dim_out atom_ener")

    def __init__(
        self,
        ntypes: int,
        dim_descrpt: int,
        *,
        numb_dos: int = 300,
        atom_ener: Sequence[float | None] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(
            ntypes,
            dim_descrpt,
            var_name="dos",
            dim_out=numb_dos,
            atom_ener=atom_ener,
            **options,
        )

    @classmethod
    def construct(cls, config: dict, data: dict) -> "DOSFitting":
        """Build from the stored keys."""
        return cls(numb_dos=config.pop("dim_out"), **config)

    @property
    def numb_dos(self) -> int:
        """Points of the grid."""
        return self.dim_out

    def output_def(self) -> FittingOutputDef:
        """Return what this fitting predicts."""
        return FittingOutputDef([OutputVariableDef("dos", [self.dim_out], reducible=True)])


@fitting_args.register("dos", doc="Density of states.")
def dos_fitting_arguments() -> list[Argument]:
    """Keys of the fitting of the density of states."""
    common = [a for a in common_fitting_arguments([120, 120, 120]) if a.name != "precision"]
    return [
        *common,
        precision_argument("float64"),
        option(
            "rcond",
            [float, None],
            None,
            "Singular values below this fraction of the largest are dropped in the bias fit.",
        ),
        option("numb_dos", int, 300, "Points of the energy grid.", rule=POSITIVE),
    ]
