# SPDX-License-Identifier: LGPL-3.0-or-later
"""Parts of message-passing layers: linear layers, activated sums, updates."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from deepmd.dpmodel import ops
from deepmd.dpmodel.construction import claim
from deepmd.dpmodel.module import Module
from deepmd.dpmodel.nn.activation import activation, numpy_dtype, precision_name
from deepmd.dpmodel.nn.layers import Dense
from deepmd.dpmodel.nn.random import Seed, child_seed, stream
from deepmd.schema.common import POSITIVE, one_of
from deepmd.schema.network import PRECISION, SEED
from deepmd.schema.settings import Settings, setting


def linear(whole: Any, n_in: int, n_out: int, name: str | None = None, *, bias: bool) -> Dense:
    """Return a layer without activation, with the precision and, by its name, the seed of a whole."""
    return Dense(
        n_in,
        n_out,
        activation_function="none",
        bias=bias,
        precision=precision_name(whole.precision),
        seed=whole.seed if name is None else child_seed(whole.seed, name),
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


class MessageSettings(Settings):
    """Settings of message-passing layers, see :func:`combine_updates`."""

    axis_neuron: int = setting(4, "Columns of the symmetrized products.", rule=POSITIVE)
    update_style: str = setting(
        "res_avg",
        "Combination of updates: res_avg, res_incr or res_residual.",
        rule=one_of("res_avg", "res_incr", "res_residual"),
    )
    update_residual: float = setting(0.001, "Initial size of the residual vectors.")
    update_residual_init: str = setting(
        "norm", '"norm" (random) or "const".', rule=one_of("norm", "const")
    )


class MessageLayer(MessageSettings, Module):
    """Layer that updates several kinds of features, ``params`` being ``<kind>_residual``."""

    precision: str = PRECISION
    seed: Seed = SEED

    def make_residuals(self, **kinds: tuple[int, int]) -> None:
        """Make the vectors of the style res_residual, by kind: their width and number."""
        dtype, size = numpy_dtype(self.precision), self.update_residual
        for name, (width, count) in kinds.items():
            claim(width, count)
            vectors = [np.full(width, size, dtype) for _ in range(count)]
            if self.update_residual_init == "norm":
                streams = [stream(child_seed(self.seed, f"{name}{k}")) for k in range(count)]
                vectors = [s.normal(0.0, size, width).astype(dtype) for s in streams]
            setattr(self, f"{name}_residual", vectors if self._has_residuals else [])

    @property
    def _has_residuals(self) -> bool:
        return self.update_style == "res_residual"

    def symmetrized(self, moments: Any) -> Any:
        """Invariant products of moments: (n, 3, width) -> (n, axis_neuron * width)."""
        space = ops.xp(moments)
        some = ops.matrix_transpose(moments[:, :, : self.axis_neuron])
        product = space.matmul(some, moments) * (1.0 / 3.0)
        return space.reshape(product, (ops.shape(moments)[0], self.axis_neuron * moments.shape[-1]))

    def combine(self, kind: str, terms: Sequence[Any]) -> Any:
        """Join the old value of a kind of features, first, and its updates."""
        return combine_updates(terms, getattr(self, f"{kind}_residual"), self.update_style)

    def serialize(self) -> dict:
        out = super().serialize()
        if not self._has_residuals:
            del out["@variables"]
        return out

    @classmethod
    def deserialize(cls, data: dict) -> Any:
        return super().deserialize({"@variables": {name: [] for name in cls.serial.params}, **data})


@ops.op
def activated_sum(
    z: Any,
    weight: Any,
    segment: Any,
    n: Any,
    width: int,
    activation_function: str,
    *,
    order: int = 3,
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
        Number of columns that are summed.
    activation_function : str
    order : int
        Highest derivative that will be asked for, see :mod:`deepmd.dpmodel.ops`.

    Returns
    -------
    sums : (n, width)
    others : (k, c - width)
        The other columns, activated.
    """
    y = activation(activation_function)(z)
    return ops.segment_sum(y[:, :width] * weight[:, None], segment, n), y[:, width:]


@ops.op
def convolution(
    near: Any, pairs: Any, directions: Any, w: Any, *, order: int = 3
) -> tuple[Any, Any]:
    """Convolution of atom features with projected pair features, and moments of the former.

    Parameters
    ----------
    near : (n, K, c)
        Features of the neighbors.
    pairs : (n, K, a)
        Features of the pairs, weighted: 0 in empty slots.
    directions : (n, K, 3)
        Weighted, too.
    w : (a, c)
        Projection of the pairs' features.
    order : int
        Highest derivative that will be asked for, see :mod:`deepmd.dpmodel.ops`.

    Returns
    -------
    sums : (n, c)
        Sum over the neighbors of projected pair times atom features.
    moments : (n, 3, c)
        Sum over the neighbors of directions times atom features.
    """
    sums = ops.xp(near).sum(ops.linear(pairs, w) * near, axis=1)
    return sums, ops.contract(directions, near)
