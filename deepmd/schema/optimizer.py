# SPDX-License-Identifier: LGPL-3.0-or-later
"""Section ``optimizer``."""

from dargs import Argument

from deepmd.schema.common import BELOW_ONE, NOT_NEGATIVE, option
from deepmd.schema.registry import optimizer_args


def adam_moments(beta1: float = 0.9, beta2: float = 0.999) -> list[Argument]:
    """Decay factors of the two moments."""
    return [
        option("adam_beta1", float, beta1, "Decay of the first moment.", rule=BELOW_ONE),
        option("adam_beta2", float, beta2, "Decay of the second moment.", rule=BELOW_ONE),
    ]


def weight_decay(default: float, doc: str) -> Argument:
    """Decay of the parameters."""
    return option("weight_decay", float, default, doc, rule=NOT_NEGATIVE)


@optimizer_args.register("Adam", doc="Adaptive moments.")
def adam_arguments() -> list[Argument]:
    """Keys of Adam."""
    return [*adam_moments(), weight_decay(0.0, "Added to the gradients times the parameters.")]


@optimizer_args.register("AdamW", doc="Adaptive moments with decoupled weight decay.")
def adamw_arguments() -> list[Argument]:
    """Keys of AdamW."""
    return [*adam_moments(), weight_decay(0.001, "Shrinks the parameters, apart from the moments.")]


def optimizer_argument() -> Argument:
    """Return the section."""
    return Argument(
        "optimizer",
        dict,
        [],
        [optimizer_args.variant(default="Adam")],
        optional=True,
        default={},
        doc="How parameters are updated.",
    )
