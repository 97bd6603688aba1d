# SPDX-License-Identifier: LGPL-3.0-or-later
"""Energy of an atom, E = Σ_i e_i."""

from collections.abc import Sequence
from typing import Any

from deepmd.dpmodel.descriptor.base import Atoms, DescriptorOutput, Slots
from deepmd.dpmodel.fitting.base import Fitting, fitting_serial
from deepmd.dpmodel.nn.random import Seed
from deepmd.dpmodel.output_def import FittingOutputDef, energy_output
from deepmd.schema.fitting import ener_fitting_arguments
from deepmd.schema.registry import fitting_args


@Fitting.register("ener")
class EnergyFitting(Fitting):
    """Energy per atom [eV].

    With at least one number in ``atom_ener`` the energy of an isolated atom, the network's output
    for a zero descriptor, is subtracted for the types that have a number (for all types with
    ``mixed_types``); the numbers themselves only switch this on.

    Parameters
    ----------
    ntypes, dim_descrpt : int
        Number of types, width of the descriptor.
    neuron : list of int
        Widths of the hidden layers.
    resnet_dt : bool
        Whether residual layers have a trained factor per channel.
    numb_fparam, numb_aparam, dim_case_embd : int
        Widths of the frame parameters, atomic parameters and case vector.
    default_fparam : list of float, optional
        Used for frames without frame parameters.
    atom_ener : list of (float or None)
        See above.
    mixed_types : bool
        One network for all types.
    """

    serial = fitting_serial("ener", 4, "dim_out atom_ener", constants=("var_name", "dim_out"))
    var_name = "energy"
    dim_out = 1

    def __init__(
        self,
        ntypes: int,
        dim_descrpt: int,
        *,
        neuron: Sequence[int] = (120, 120, 120),
        resnet_dt: bool = True,
        numb_fparam: int = 0,
        numb_aparam: int = 0,
        dim_case_embd: int = 0,
        default_fparam: Sequence[float] | None = None,
        rcond: float | None = None,
        activation_function: str = "tanh",
        precision: str = "default",
        mixed_types: bool = False,
        exclude_types: Sequence[int] = (),
        trainable: bool | Sequence[bool] = True,
        use_aparam_as_mask: bool = False,
        atom_ener: Sequence[float | None] | None = (),
        type_map: Sequence[str] | None = None,
        seed: Seed = None,
    ) -> None:
        self.atom_ener = [] if atom_ener is None else list(atom_ener)
        self._init_networks(
            ntypes=ntypes,
            dim_descrpt=dim_descrpt,
            net_out=1,
            neuron=neuron,
            resnet_dt=resnet_dt,
            numb_fparam=numb_fparam,
            numb_aparam=numb_aparam,
            dim_case_embd=dim_case_embd,
            default_fparam=default_fparam,
            rcond=rcond,
            activation_function=activation_function,
            precision=precision,
            mixed_types=mixed_types,
            exclude_types=exclude_types,
            trainable=trainable,
            use_aparam_as_mask=use_aparam_as_mask,
            type_map=type_map,
            seed=seed,
        )

    def output_def(self) -> FittingOutputDef:
        """Return what this fitting predicts."""
        return energy_output()

    def call(self, output: DescriptorOutput, atoms: Atoms, slots: Slots) -> dict[str, Any]:
        """Evaluate: energy (n_atoms, 1) [eV], float64, without the model's bias."""
        energy = self.atomic_values(output, atoms, slots)
        energy = self.without_vacuum(energy, output, atoms, slots)
        return {"energy": self.without_excluded(energy, atoms)}


fitting_args.register("ener")(ener_fitting_arguments)
