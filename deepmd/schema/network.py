# SPDX-License-Identifier: LGPL-3.0-or-later
"""Settings of networks, the same wherever there is one: ``precision: str = PRECISION``."""

from collections.abc import Sequence
from typing import Any

from deepmd.schema.common import ACTIVATIONS, PRECISIONS, Rule, is_activation, one_of
from deepmd.schema.settings import setting

ACTIVATION = setting(
    "tanh",
    f"Activation function: {', '.join(ACTIVATIONS)}; silut and custom_silu take a threshold "
    "(silut:3.0). Upper and lower case are the same.",
    rule=Rule(is_activation, f"must be one of {', '.join(ACTIVATIONS)}"),
)
PRECISION = setting(
    "default",
    "Precision of the networks; default is float64. Geometry and sums are always float64.",
    rule=one_of(*PRECISIONS),
)
SEED = setting(
    None,
    "Seed of the initial parameters.",
    rule=Rule(lambda v: not isinstance(v, int) or v >= 0, "must be 0 or greater"),
    kind=[int, None],
    absent=True,
)


def widths(default: Sequence[int], doc: str, *, alias: Sequence[str] = (), least: int = 0) -> Any:
    """Declare the widths of the hidden layers of a network, and how many it has at least."""
    must = "every width must be greater than 0" + f", and there must be {least}" * bool(least)
    rule = Rule(lambda v: len(v) >= least and all(n > 0 for n in v), must)
    return setting(default, doc, alias=alias, rule=rule)


def timestep(default: bool) -> Any:
    """Declare whether residual layers have a trained factor."""
    return setting(default, "Multiply residual layers by a trainable factor per channel.")
