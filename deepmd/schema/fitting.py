# SPDX-License-Identifier: LGPL-3.0-or-later
"""Arguments that fitting networks share, and those of the built-in ones."""

from dargs import Argument, Variant

from deepmd.schema.common import (
    NOT_NEGATIVE,
    common_network_arguments,
    flag,
    option,
    unset,
    widths_argument,
)
from deepmd.schema.registry import fitting_args


def fitting_variant() -> Variant:
    """Choice among the registered fitting networks."""
    return fitting_args.variant(default="ener")


def parameter_arguments() -> list[Argument]:
    """Frame, atomic and case parameters that enter a fitting network."""
    return [
        option(
            "numb_fparam",
            int,
            0,
            "Number of frame parameters (file fparam.npy).",
            rule=NOT_NEGATIVE,
        ),
        option(
            "numb_aparam",
            int,
            0,
            "Number of atomic parameters (file aparam.npy).",
            rule=NOT_NEGATIVE,
        ),
        option(
            "default_fparam",
            [list[float], None],
            None,
            "Frame parameters of systems without fparam.npy.",
        ),
        option(
            "dim_case_embd",
            int,
            0,
            "Length of the one-hot vector that tells branches of a multi-task model apart.",
            rule=NOT_NEGATIVE,
        ),
    ]


def common_fitting_arguments(widths: list[int]) -> list[Argument]:
    """Parameters, network and trainability: keys of every fitting."""
    return [
        *parameter_arguments(),
        widths_argument(widths, "Widths of the fitting network.", alias=["n_neuron"]),
        *common_network_arguments(resnet_dt=True),
        option(
            "trainable",
            [bool, list[bool]],
            True,
            "Whether the parameters are trained, for all or for each layer.",
        ),
    ]


def ener_fitting_arguments() -> list[Argument]:
    """Keys of the energy fitting."""
    return [
        *common_fitting_arguments([120, 120, 120]),
        option(
            "rcond",
            [float, None],
            None,
            "Singular values below this fraction of the largest are dropped in the bias fit.",
        ),
        option(
            "atom_ener",
            list[float | None],
            [],
            "Energies of isolated atoms, eV, one per type; null leaves a type to the bias fit.",
        ),
        unset(
            "layer_name",
            list[str],
            "Names of the layers; layers of equal name share their parameters.",
        ),
        flag(
            "use_aparam_as_mask",
            "The atomic parameter is a mask for the descriptor se_a_mask, and no input of the network.",
        ),
    ]
