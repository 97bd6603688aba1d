# SPDX-License-Identifier: LGPL-3.0-or-later
"""Energy of an atom, E = Σ_i e_i."""

from deepmd.dpmodel.fitting.base import Fitting, fitting_serial
from deepmd.dpmodel.fitting.invar import InvarFitting
from deepmd.dpmodel.fitting.named_layers import check_names, share_equal_layers, share_layers
from deepmd.dpmodel.nn.layers import FittingNetwork
from deepmd.dpmodel.nn.random import Seed
from deepmd.schema.settings import setting


@Fitting.register("ener")
class EnergyFitting(InvarFitting):
    """Energy per atom [eV].

    With at least one number in ``atom_ener`` the network's output for a descriptor of zeros is
    subtracted for the types that have a number (for all types with ``mixed_types``). Training takes
    the numbers as biases: they are the energies of isolated atoms whose descriptor is zero.
    """

    serial = fitting_serial(
        "ener", 4, "dim_out atom_ener", constants=("var_name", "dim_out"), names_layers=True
    )
    var_name = "energy"
    reads_directions = False
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
        "Names of the layers; of one network, layers of equal name share their parameters.",
        kind=list[str],
        absent=True,
    )
    use_aparam_as_mask: bool = setting(False, key=True)

    def build(self) -> None:
        """Make the networks, in which layers of one name are one layer."""
        check_names(self.layer_name, len(self.neuron) + 1)
        super().build()

    def fresh_network(self, seed: Seed) -> FittingNetwork:
        """Return a network of one type with initial values."""
        network = super().fresh_network(seed)
        share_layers(network.layers, self.layer_name)
        return network

    def restore(self, data: dict) -> None:
        """Take networks and statistics from a dictionary; layers of one name are one there, too."""
        super().restore(data)
        for network in self.nets.networks:
            share_equal_layers(network.layers, self.layer_name)
