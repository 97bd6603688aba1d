# SPDX-License-Identifier: LGPL-3.0-or-later
"""Section ``learning_rate``."""

from dargs import Argument

from deepmd.schema.common import (
    BELOW_ONE,
    FRACTION,
    NOT_NEGATIVE,
    POSITIVE,
    choice,
    count,
    flag,
    option,
    required,
)
from deepmd.schema.registry import lr_args


@lr_args.register("exp", doc="The rate falls by a constant factor.")
def exp_arguments() -> list[Argument]:
    """Keys of the exponential schedule."""
    return [
        count("decay_steps", 5000, "Steps between two decays."),
        option(
            "decay_rate",
            [float, None],
            None,
            "Factor of one decay; computed from the final rate if absent.",
            rule=FRACTION,
        ),
        flag("smooth", "Decay at every step, not every decay_steps."),
    ]


@lr_args.register("cosine", doc="The rate follows half a cosine.")
def cosine_arguments() -> list[Argument]:
    """Keys of the cosine schedule: none."""
    return []


@lr_args.register("wsd", doc="Warm up, stay, decay at the end.")
def wsd_arguments() -> list[Argument]:
    """Keys of the warm-up, stable, decay schedule."""
    return [
        option(
            "decay_phase_ratio",
            float,
            0.1,
            "Length of the final decay as a fraction of all steps.",
            rule=FRACTION,
        ),
        choice("decay_type", "Shape of the final decay.", "inverse_linear", "cosine", "linear"),
    ]


def learning_rate_argument() -> Argument:
    """Return the section."""
    fields = [
        required("start_lr", float, "Rate after the warm-up.", rule=POSITIVE),
        option(
            "stop_lr",
            [float, None],
            None,
            "Rate at the end (5e-8 if neither this nor stop_lr_ratio is given).",
            rule=POSITIVE,
        ),
        option(
            "stop_lr_ratio",
            [float, None],
            None,
            "Rate at the end divided by start_lr.",
            rule=POSITIVE,
        ),
        option("warmup_steps", int, 0, "Steps of the linear warm-up.", rule=NOT_NEGATIVE),
        option(
            "warmup_ratio",
            [float, None],
            None,
            "The warm-up as a fraction of all steps.",
            rule=BELOW_ONE,
        ),
        option(
            "warmup_start_factor",
            float,
            0.0,
            "The warm-up starts at this fraction of start_lr.",
            rule=NOT_NEGATIVE,
        ),
        choice(
            "scale_by_worker",
            "How the rate grows with the number of processes.",
            "linear",
            "sqrt",
            "none",
        ),
    ]
    return Argument(
        "learning_rate",
        dict,
        fields,
        [lr_args.variant(default="exp")],
        optional=True,
        doc="Schedule of the learning rate.",
    )
