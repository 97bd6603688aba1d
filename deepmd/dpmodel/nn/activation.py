# SPDX-License-Identifier: LGPL-3.0-or-later
"""Activation functions and number formats by name."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from deepmd.base.errors import InputError, did_you_mean
from deepmd.dpmodel.ops import xp


def _sigmoid(x: Any) -> Any:
    # The form with tanh neither overflows nor loses digits on either side.
    return 0.5 * xp(x).tanh(0.5 * x) + 0.5


def _softplus(x: Any) -> Any:
    space = xp(x)
    return space.maximum(x, 0.0 * x) + space.log1p(space.exp(-space.abs(x)))


def _gelu(x: Any) -> Any:
    return 0.5 * x * (1.0 + xp(x).tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * x * x * x)))


def _silu(x: Any) -> Any:
    return x * _sigmoid(x)


def _silut(threshold: float) -> Callable[[Any], Any]:
    """Silu below ``threshold``, continued with equal value and slope by a tanh that saturates."""
    s = 1.0 / (1.0 + math.exp(-threshold))
    slope, value = s + threshold * s * (1.0 - s), threshold * s

    def silut(x: Any) -> Any:
        space = xp(x)
        return space.where(x < threshold, _silu(x), space.tanh(slope * (x - threshold)) + value)

    return silut


_FUNCTIONS: dict[str, Callable[[Any], Any]] = {
    "tanh": lambda x: xp(x).tanh(x),
    "relu": lambda x: xp(x).maximum(x, 0.0 * x),
    "relu6": lambda x: xp(x).clip(x, 0.0, 6.0),
    "softplus": _softplus,
    "sigmoid": _sigmoid,
    "gelu": _gelu,
    "gelu_tf": _gelu,
    "silu": _silu,
    "linear": lambda x: x,
    "none": lambda x: x,
}

NAMES = (*_FUNCTIONS, "silut", "custom_silu")


def activation(name: str) -> Callable[[Any], Any]:
    """Return the activation function called ``name`` (any case; ``silut:3.0`` takes a threshold).

    Raises
    ------
    InputError
        If there is none of that name.
    """
    kind, _, threshold = str(name).lower().partition(":")
    if kind in ("silut", "custom_silu"):
        try:
            return _silut(float(threshold or 3.0))
        except ValueError:
            raise InputError(
                f'activation "{name}": the threshold is no number', fix='write "silut:3.0"'
            ) from None
    if kind not in _FUNCTIONS or threshold:
        raise InputError(f'unknown activation "{name}"', fix=did_you_mean(kind, NAMES))
    return _FUNCTIONS[kind]


_PRECISIONS = {
    "default": "float64",
    "float64": "float64",
    "double": "float64",
    "float32": "float32",
    "single": "float32",
}


def precision_name(name: str) -> str:
    """Return the dtype name of a precision: ``default`` means float64.

    Raises
    ------
    InputError
        If the name is unknown, or names a format models cannot be run in.
    """
    if name not in _PRECISIONS:
        raise InputError(
            f'precision "{name}" is not available', fix='use "float64", "float32" or "default"'
        )
    return _PRECISIONS[name]


def numpy_dtype(name: str) -> np.dtype:
    """Return the NumPy dtype of a precision name."""
    return np.dtype(precision_name(name))
