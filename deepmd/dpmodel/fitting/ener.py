# SPDX-License-Identifier: LGPL-3.0-or-later
"""Energy of an atom, E = Σ_i e_i."""

from deepmd.dpmodel.fitting.base import Fitting, fitting_serial
from deepmd.dpmodel.fitting.invar import InvarFitting
from deepmd.schema.settings import setting


@Fitting.register("ener")
class EnergyFitting(InvarFitting):
    """Energy per atom [eV].

    With at least one number in ``atom_ener`` the network's output for a descriptor of zeros is
    subtracted for the types that have a number (for all types with ``mixed_types``). Training takes
    the numbers as biases: they are the energies of isolated atoms whose descriptor is zero.
    """

    serial = fitting_serial("ener", 4, "dim_out atom_ener", constants=("var_name", "dim_out"))
    var_name = "energy"
    dim_out = 1

    rcond: float | None = setting(None, key=True)
    atom_ener: list[float | None] | None = setting(
        (),
        "Biases, eV, one per type, with the network's output for a descriptor of zeros taken off: "
        "energies of isolated atoms if their descriptor is zero. Null leaves a type to the fit.",
        kind=list[float | None],
    )
    layer_name: list[str] | None = setting(
        None,
        "Names of the layers; layers of equal name share their parameters.",
        kind=list[str],
        absent=True,
    )
    use_aparam_as_mask: bool = setting(False, key=True)
