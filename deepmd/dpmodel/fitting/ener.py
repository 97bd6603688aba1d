# SPDX-License-Identifier: LGPL-3.0-or-later
"""Energy of an atom, E = Σ_i e_i."""

from collections.abc import Sequence
from typing import Any

from deepmd.dpmodel.fitting.base import Fitting, fitting_serial
from deepmd.dpmodel.fitting.invar import InvarFitting
from deepmd.dpmodel.output_def import FittingOutputDef, energy_output
from deepmd.schema.fitting import ener_fitting_arguments
from deepmd.schema.registry import fitting_args


@Fitting.register("ener")
class EnergyFitting(InvarFitting):
    """Energy per atom [eV].

    With at least one number in ``atom_ener`` the energy of an isolated atom, the network's output
    for a zero descriptor, is subtracted for the types that have a number (for all types with
    ``mixed_types``); the numbers themselves only switch this on.

    Parameters
    ----------
    ntypes, dim_descrpt : int
        Number of types, width of the descriptor.
    atom_ener : list of (float or None)
        See above.
    options
        See :meth:`Fitting._init_networks`.
    """

    serial = fitting_serial("ener", 4, "dim_out atom_ener", constants=("var_name", "dim_out"))

    def __init__(
        self,
        ntypes: int,
        dim_descrpt: int,
        *,
        atom_ener: Sequence[float | None] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(
            ntypes,
            dim_descrpt,
            var_name="energy",
            dim_out=1,
            atom_ener=atom_ener or (),
            **options,
        )

    def output_def(self) -> FittingOutputDef:
        """Return what this fitting predicts."""
        return energy_output()


fitting_args.register("ener")(ener_fitting_arguments)
