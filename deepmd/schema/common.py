# SPDX-License-Identifier: LGPL-3.0-or-later
"""Arguments and value checks that several sections share."""

import re
from collections.abc import Callable
from typing import Any

from dargs import Argument

ACTIVATIONS = (
    "relu",
    "tanh",
    "gelu",
    "gelu_tf",
    "silu",
    "silut",
    "custom_silu",
    "relu6",
    "softplus",
    "sigmoid",
    "linear",
    "none",
)
PRECISIONS = ("default", "float64", "float32", "float16", "bfloat16")


def is_activation(name: Any) -> bool:
    """Whether this names an activation function, ``silut:3.0`` included."""
    if not isinstance(name, str):
        return False
    base, _, threshold = name.lower().partition(":")
    if base not in ACTIVATIONS:
        return False
    return not threshold or (
        base in ("silut", "custom_silu") and re.fullmatch(r"\d+(\.\d*)?", threshold) is not None
    )


def is_sel(value: Any) -> bool:
    """Whether this is a neighbour selection: positive numbers, "auto" or "auto:factor"."""
    if isinstance(value, str):
        factor = re.fullmatch(r"auto(?::(\d+(?:\.\d*)?))?", value)
        return factor is not None and (factor[1] is None or float(factor[1]) >= 1.0)
    numbers = value if isinstance(value, list) else [value]
    return len(numbers) > 0 and all(n >= 0 for n in numbers) and sum(numbers) > 0


def option(
    name: str,
    dtype: Any,
    default: Any,
    doc: str,
    *,
    alias: list[str] | None = None,
    check: Callable[[Any], bool] | None = None,
    must: str = "",
) -> Argument:
    """Return an optional argument with a default; ``must`` says what ``check`` demands."""
    return Argument(
        name,
        dtype,
        optional=True,
        default=default,
        alias=alias,
        extra_check=check,
        extra_check_errmsg=must,
        doc=doc,
    )


def positive(value: Any) -> bool:
    """Whether a number is greater than 0 (None passes: not given)."""
    return value is None or value > 0


def not_negative(value: Any) -> bool:
    """Whether a number is at least 0 (None passes: not given)."""
    return value is None or value >= 0


def one_of(*choices: str) -> dict[str, Any]:
    """Keywords of :func:`option` for a choice between words."""
    return {"check": lambda v: v in choices, "must": f"must be one of {', '.join(choices)}"}


def widths_argument(default: list[int], doc: str, alias: list[str] | None = None) -> Argument:
    """Hidden widths of a network."""
    return option(
        "neuron",
        list[int],
        default,
        doc,
        alias=alias,
        check=lambda v: all(n > 0 for n in v),
        must="every width must be greater than 0",
    )


def activation_argument(default: str = "tanh") -> Argument:
    """Activation function of a network."""
    return option(
        "activation_function",
        str,
        default,
        f"Activation function: {', '.join(ACTIVATIONS)}; silut and custom_silu take a threshold "
        "(silut:3.0). Upper and lower case are the same.",
        check=is_activation,
        must=f"must be one of {', '.join(ACTIVATIONS)}",
    )


def precision_argument(default: str = "default") -> Argument:
    """Precision of a network."""
    return option(
        "precision",
        str,
        default,
        "Precision of the networks; default is float64. Geometry and sums are always float64.",
        **one_of(*PRECISIONS),
    )


def seed_argument() -> Argument:
    """Seed of the initial parameters."""
    return Argument(
        "seed",
        [int, None],
        optional=True,
        extra_check=not_negative,
        extra_check_errmsg="must be 0 or greater",
        doc="Seed of the initial parameters.",
    )


def common_network_arguments(
    *, activation: str = "tanh", resnet_dt: bool = False
) -> list[Argument]:
    """Activation, timestep, precision and seed: keys every network has."""
    return [
        activation_argument(activation),
        option(
            "resnet_dt",
            bool,
            resnet_dt,
            "Multiply residual layers by a trainable factor per channel.",
        ),
        precision_argument(),
        seed_argument(),
    ]
