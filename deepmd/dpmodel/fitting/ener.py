# SPDX-License-Identifier: LGPL-3.0-or-later
"""Energy of an atom, E = Σ_i e_i."""

from collections.abc import Sequence
from typing import Any

from deepmd.dpmodel import ops
from deepmd.dpmodel.descriptor.base import Atoms, DescriptorOutput, Slots
from deepmd.dpmodel.fitting.base import Fitting, older_fitting
from deepmd.dpmodel.module import Serial
from deepmd.dpmodel.nn.layers import FittingNetwork
from deepmd.dpmodel.nn.random import Seed
from deepmd.dpmodel.output_def import FittingOutputDef, OutputVariableDef
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

    serial = Serial(
        layout="@class @version var_name ntypes dim_descrpt neuron resnet_dt numb_fparam"
        " numb_aparam dim_case_embd default_fparam activation_function precision mixed_types nets"
        " rcond exclude_types @variables type_map tot_ener_zero trainable layer_name"
        " use_aparam_as_mask spin type dim_out atom_ener",
        name="Fitting",
        type="ener",
        version=4,
        accepts=(1, 2, 3, 4),
        buffers=(
            "bias_atom_e",
            "case_embd",
            "fparam_avg",
            "fparam_inv_std",
            "aparam_avg",
            "aparam_inv_std",
        ),
        children=("nets",),
        constants=("var_name", "tot_ener_zero", "layer_name", "spin", "dim_out"),
        upgrades={1: older_fitting, 2: older_fitting, 3: older_fitting},
    )
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
        return FittingOutputDef(
            [
                OutputVariableDef(
                    "energy", [1], reducible=True, r_differentiable=True, c_differentiable=True
                )
            ]
        )

    def call(self, output: DescriptorOutput, atoms: Atoms, slots: Slots) -> dict[str, Any]:
        """Evaluate: energy (n_atoms, 1) [eV], float64, without the model's bias."""
        energy = self.atomic_values(output, atoms, slots)
        if any(e is not None for e in self.atom_ener):
            vacuum = self.network_input(0.0 * output.value, atoms)
            energy = energy - ops.cast(
                self.per_network(vacuum, slots, atoms, self._vacuum), "float64"
            )
        if self.exclude_types:
            kept = [[float(t not in self.exclude_types)] for t in range(self.ntypes)]
            energy = energy * ops.take(ops.like(kept, energy), atoms.atype)
        return {"energy": energy}

    def _vacuum(self, t: int, network: FittingNetwork, rows: Any) -> Any:
        """Energy of isolated atoms of type t (-1: mixed), zero where none is subtracted."""
        energy = network(rows)
        has_number = t < 0 or (t < len(self.atom_ener) and self.atom_ener[t] is not None)
        return energy if has_number else 0.0 * energy


fitting_args.register("ener")(ener_fitting_arguments)
