# SPDX-License-Identifier: LGPL-3.0-or-later
"""What message-passing layers are made of: linear layers, activated sums, updates."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from deepmd.dpmodel import ops
from deepmd.dpmodel.nn.activation import activation, numpy_dtype, precision_name
from deepmd.dpmodel.nn.layers import Dense
from deepmd.dpmodel.nn.random import Seed, stream
from deepmd.utils.errors import InputError


def plain_layer(n_in: int, n_out: int, *, bias: bool, precision: str, seed: Seed) -> Dense:
    """Return a linear layer without activation."""
    return Dense(
        n_in,
        n_out,
        activation_function="none",
        bias=bias,
        precision=precision_name(precision),
        seed=seed,
    )


def check_update_style(style: str) -> None:
    """Raise InputError for an unknown way to join updates."""
    if style not in ("res_avg", "res_incr", "res_residual"):
        raise InputError(
            f'update_style "{style}" is unknown',
            where="model/descriptor",
            fix="use res_avg, res_incr or res_residual",
        )


def combine_updates(terms: Sequence[Any], residuals: Sequence[Any], style: str) -> Any:
    """Join the old value, first, and its updates.

    ``res_avg``: sum over the root of their number; ``res_incr``: old value plus the sum of the
    updates over the root of theirs; ``res_residual``: updates weighted by trained vectors.
    """
    old, *updates = terms
    if style == "res_residual":
        return sum((r * u for r, u in zip(residuals, updates, strict=True)), start=old)
    total = sum(updates[1:], start=updates[0])
    if style == "res_avg":
        return (old + total) * (len(terms) ** -0.5)
    return old + total * (len(updates) ** -0.5)


def residual(width: int, size: float, kind: str, precision: str, seed: Seed) -> np.ndarray:
    """Initial weights of an update: all ``size`` (const), or normal with that deviation (norm)."""
    dtype = numpy_dtype(precision)
    if kind == "const":
        return np.full(width, size, dtype)
    if kind == "norm":
        return stream(seed).normal(0.0, size, width).astype(dtype)
    raise InputError(
        f'update_residual_init "{kind}" is unknown',
        where="model/descriptor",
        fix='use "norm" or "const"',
    )


@ops.op
def activated_sum(
    z: Any, weight: Any, segment: Any, n: Any, width: int, activation_function: str
) -> tuple[Any, Any]:
    """Activate rows; sum the first columns, weighted, over the rows of a segment.

    Parameters
    ----------
    z : (k, c)
    weight : (k,)
    segment : (k,) int
    n : int
        Number of segments.
    width : int
        How many columns are summed.

    Returns
    -------
    sums : (n, width)
    others : (k, c - width)
        The other columns, activated.
    """
    y = activation(activation_function)(z)
    return ops.segment_sum(y[:, :width] * weight[:, None], segment, n), y[:, width:]
