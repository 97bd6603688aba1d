# SPDX-License-Identifier: LGPL-3.0-or-later
"""Section ``learning_rate``."""

from dargs import Argument

from deepmd.schema.common import BELOW_ONE, FRACTION, NOT_NEGATIVE, POSITIVE, one_of
from deepmd.schema.registry import lr_args
from deepmd.schema.settings import Settings, setting


class RateKeys(Settings):
    """Keys of every schedule."""

    start_lr: float = setting(..., "Rate after the warm-up.", rule=POSITIVE)
    stop_lr: float | None = setting(
        None,
        "Rate at the end (5e-8 if neither this nor stop_lr_ratio is given).",
        rule=POSITIVE,
    )
    stop_lr_ratio: float | None = setting(
        None, "Rate at the end divided by start_lr.", rule=FRACTION
    )
    warmup_steps: int = setting(0, "Steps of the linear warm-up.", rule=NOT_NEGATIVE)
    warmup_ratio: float | None = setting(
        None, "The warm-up as a fraction of all steps.", rule=BELOW_ONE
    )
    warmup_start_factor: float = setting(
        0.0, "The warm-up starts at this fraction of start_lr.", rule=NOT_NEGATIVE
    )
    scale_by_worker: str = setting(
        None,
        "How start_lr grows with the number of processes that train together (TensorFlow); the rate "
        "of the other backends stays what it is.",
        absent=True,
        rule=one_of("linear", "sqrt", "none"),
    )


def learning_rate_argument() -> Argument:
    """Return the section."""
    return Argument(
        "learning_rate",
        dict,
        RateKeys.arguments(),
        [lr_args.variant(default="exp")],
        optional=True,
        doc="Schedule of the learning rate.",
    )
