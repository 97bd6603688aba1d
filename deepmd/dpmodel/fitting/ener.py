# SPDX-License-Identifier: LGPL-3.0-or-later
"""Energy of an atom, E = Σ_i e_i."""

from deepmd.dpmodel.fitting.base import Fitting, fitting_serial
from deepmd.dpmodel.fitting.invar import InvarFitting
from deepmd.schema.settings import setting


@Fitting.register("ener")
class EnergyFitting(InvarFitting):
    """Energy per atom [eV].

    With at least one number in ``atom_ener`` the energy of an isolated atom, the network's output
    for a zero descriptor, is subtracted for the types that have a number (for all types with
    ``mixed_types``); the numbers themselves only switch this on.
    """

    serial = fitting_serial("ener", 4, "dim_out atom_ener", constants=("var_name", "dim_out"))
    var_name = "energy"
    dim_out = 1

    rcond: float | None = setting(None, key=True)
    atom_ener: list[float | None] | None = setting(
        (),
        "Energies of isolated atoms, eV, one per type; null leaves a type to the bias fit.",
        kind=list[float | None],
    )
    layer_name: list[str] | None = setting(
        None,
        "Names of the layers; layers of equal name share their parameters.",
        kind=list[str],
        absent=True,
    )
    use_aparam_as_mask: bool = setting(False, key=True)
