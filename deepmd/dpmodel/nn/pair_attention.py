# SPDX-License-Identifier: LGPL-3.0-or-later
"""Attention of DPA-2: between the neighbors of an atom, and of an atom to its neighbors.

Zhang et al., "DPA-2: a large atomic model as a multi-task learner", npj Comput. Mater. 10, 293
(2024).
"""

import math
from typing import Any, NamedTuple

from deepmd.dpmodel import ops
from deepmd.dpmodel.module import Module, Serial
from deepmd.dpmodel.nn.attention import SHIFT, gated_softmax, masked_softmax, outer
from deepmd.dpmodel.nn.random import Seed
from deepmd.dpmodel.nn.updates import linear
from deepmd.schema.network import PRECISION, SEED
from deepmd.schema.settings import setting


class Pairs(NamedTuple):
    """Slots of every atom.

    Attributes
    ----------
    j : (n, K) int
        Neighbor's number; any number in an empty slot.
    mask, switch : (n, K)
    more : int
        Empty slots of the definition beyond K.
    nsel : int
        Slots of the definition.
    order : int
        Highest derivative that will be asked for, see :mod:`deepmd.dpmodel.ops`.
    """

    j: Any
    mask: Any
    switch: Any
    more: Any
    nsel: int
    order: int = 3


class PairAttentionArrays(NamedTuple):
    """Arrays of the attention between pairs of width e with heads of width d, heads the last axis.

    Attributes
    ----------
    w_qk : (e, 2 d heads)
        Projections to queries and keys: the first and the second half of the heads.
    w_v : (e, e heads)
        Projection to values.
    w_head, b_head : (e heads, e), (e,)
        Projection of what the heads have found.
    """

    w_qk: Any
    w_v: Any
    w_head: Any
    b_head: Any


class PairAttentionOptions(NamedTuple):
    """Options of the attention between pairs: number and width of heads, and see the settings."""

    heads: int
    hidden: int
    has_gate: bool
    smooth: bool


def by_head(w: Any, x: Any, heads: int) -> Any:
    """Linear map whose heads are the last axis of its output: (n, K, e) -> (n, heads, K, size).

    Its weights (e, size heads) are sorted by head: they are fewer than the output.
    """
    space = ops.xp(x)
    n_in, n_out = w.shape
    n, k = ops.shape(x)[:2]
    w = space.permute_dims(space.reshape(w, (n_in, -1, heads)), (0, 2, 1))
    out = ops.linear(x, space.reshape(w, (n_in, n_out)))
    return space.permute_dims(space.reshape(out, (n, k, heads, n_out // heads)), (0, 2, 1, 3))


def pair_weights(g2: Any, h2: Any, pairs: Pairs, w_qk: Any, options: PairAttentionOptions) -> Any:
    """Weights between the neighbors of an atom, by head: (n, K, e), (n, K, 3) -> (n, heads, K, K)."""
    space, heads = ops.xp(g2), options.heads
    qk = by_head(w_qk, g2, 2 * heads)
    s = space.matmul(qk[:, :heads], ops.matrix_transpose(qk[:, heads:]))
    scale = 1.0 / math.sqrt(options.hidden)
    gate = space.matmul(h2, ops.matrix_transpose(h2))[:, None, :, :]
    if options.has_gate:
        s = s * gate
    gate = gate * (1.0 / math.sqrt(3.0))
    if not options.smooth:
        return masked_softmax(s * scale, pairs.mask[:, None, :]) * gate
    pair, seen = (outer(x, x)[:, None, :, :] for x in (pairs.switch, pairs.mask))
    gate = gate * pair * seen
    return gated_softmax(s, pair, gate, pairs.more, scale, order=pairs.order)


def mixed_pairs(weights: Any, g2: Any, arrays: PairAttentionArrays) -> Any:
    """Pair features mixed by weights (n, heads, K, K): (n, K, e) -> (n, K, e)."""
    space = ops.xp(g2)
    (n, k), heads = ops.shape(g2)[:2], weights.shape[1]
    mixed = space.matmul(weights, by_head(arrays.w_v, g2, heads))
    mixed = space.reshape(space.permute_dims(mixed, (0, 2, 3, 1)), (n, k, arrays.w_head.shape[0]))
    return ops.linear(mixed, arrays.w_head, arrays.b_head)


@ops.op
def pair_attention(
    g2: Any,
    h2: Any,
    pairs: Pairs,
    arrays: PairAttentionArrays,
    options: PairAttentionOptions,
    *,
    order: int = 3,
) -> Any:
    """Attention between the neighbors of an atom, gated by their directions.

    Parameters
    ----------
    g2, h2 : (n, K, e), (n, K, 3)
        Features and directions of the neighbors; the directions are independent of parameters.
    pairs : Pairs
    arrays : PairAttentionArrays
    options : PairAttentionOptions
    order : int
        Highest derivative that will be asked for, see :mod:`deepmd.dpmodel.ops`.

    Returns
    -------
    (n, K, e)
    """
    return mixed_pairs(pair_weights(g2, h2, pairs, arrays.w_qk, options), g2, arrays)


class _Heads(Module):
    """Base of the parts of an attention with several heads."""

    input_dim: int = setting(..., "Width of the features.")
    head_num: int = setting(..., "Number of heads.")
    precision: str = PRECISION
    seed: Seed = SEED


class _HiddenHeads(_Heads):
    """Base of the parts that compute weights."""

    hidden_dim: int = setting(..., "Width of a head.")


class PairAttentionMap(_HiddenHeads):
    """Attention weights between the neighbors of an atom, gated by their directions."""

    serial = Serial(
        layout="@class @version input_dim hidden_dim head_num has_gate smooth attnw_shift precision"
        " mapqk",
        name="Atten2Map",
        children=("mapqk",),
        constants=("attnw_shift",),
    )
    attnw_shift = SHIFT

    has_gate: bool = setting(False, "Multiply logits by h2·h2.")
    smooth: bool = setting(True, "Let weights vanish at the cutoff.")

    def build(self) -> None:
        self.mapqk = linear(self, self.input_dim, 2 * self.hidden_dim * self.head_num, bias=False)

    @property
    def options(self) -> PairAttentionOptions:
        """Options of the attention, as operations take them."""
        return PairAttentionOptions(self.head_num, self.hidden_dim, self.has_gate, self.smooth)

    def call(self, g2: Any, h2: Any, pairs: Pairs) -> Any:
        """Weights of every head: (n, K, ng2), (n, K, 3) -> (n, heads, K, K)."""
        return pair_weights(g2, h2, pairs, self.mapqk.weight, self.options)


class PairAttentionApply(_Heads):
    """Mix pair features with the weights of :class:`PairAttentionMap`."""

    serial = Serial(
        layout="@class @version input_dim head_num precision mapv head_map",
        name="Atten2MultiHeadApply",
        children=("mapv", "head_map"),
    )

    def build(self) -> None:
        heads = self.input_dim * self.head_num
        self.mapv = linear(self, self.input_dim, heads, "v", bias=False)
        self.head_map = linear(self, heads, self.input_dim, "head", bias=True)

    def arrays(self, attention: PairAttentionMap) -> PairAttentionArrays:
        """Arrays of both parts of an attention, as operations take them."""
        w_v, head = self.mapv.weight, self.head_map
        return PairAttentionArrays(attention.mapqk.weight, w_v, head.weight, head.b)


class DirectionAttentionApply(_Heads):
    """Mix directions with the weights of :class:`PairAttentionMap`."""

    serial = Serial(
        layout="@class @version input_dim head_num precision head_map",
        name="Atten2EquiVarApply",
        children=("head_map",),
    )

    def build(self) -> None:
        self.head_map = linear(self, self.head_num, 1, bias=False)

    def call(self, weights: Any, h2: Any) -> Any:
        """Apply: (n, heads, K, K), (n, K, 3) -> (n, K, 3)."""
        space = ops.xp(h2)
        mixed = space.matmul(weights, h2[:, None, :, :])
        return self.head_map(space.permute_dims(mixed, (0, 2, 3, 1)))[..., 0]


class LocalAttention(_HiddenHeads):
    """Attention of an atom to its neighbors."""

    serial = Serial(
        layout="@class @version input_dim hidden_dim head_num smooth attnw_shift precision mapq"
        " mapkv head_map",
        name="LocalAtten",
        children=("mapq", "mapkv", "head_map"),
        constants=("attnw_shift",),
    )
    attnw_shift = SHIFT

    smooth: bool = setting(True, "Let weights vanish at the cutoff.")

    def build(self) -> None:
        n, hidden, heads = self.input_dim, self.hidden_dim, self.head_num
        self.mapq = linear(self, n, hidden * heads, "q", bias=False)
        self.mapkv = linear(self, n, (hidden + n) * heads, "kv", bias=False)
        self.head_map = linear(self, n * heads, n, "head", bias=True)

    def call(self, g1: Any, near: Any, pairs: Pairs) -> Any:
        """Attend: (n, ng1), (n, K, ng1) -> (n, ng1)."""
        space = ops.xp(g1)
        n = ops.shape(pairs.j)[0]
        q = space.reshape(self.mapq(g1), (n, self.hidden_dim, self.head_num))
        q = space.permute_dims(q, (0, 2, 1))[:, :, None, :]
        kv = by_head(self.mapkv.weight, near, self.head_num)
        key, v = kv[..., : self.hidden_dim], kv[..., self.hidden_dim :]
        s = space.matmul(q, ops.matrix_transpose(key)) * (1.0 / math.sqrt(self.hidden_dim))
        p = self.weights(s, pairs)
        out = space.matmul(p, v)  # (n, heads, 1, ng1)
        return self.head_map(space.reshape(out, (n, self.head_num * self.input_dim)))

    def weights(self, s: Any, pairs: Pairs) -> Any:
        """Softmax over the neighbors of logits (n, heads, 1, K)."""
        space = ops.xp(s)
        mask, sw = pairs.mask[:, None, None, :], pairs.switch[:, None, None, :]
        if self.smooth:
            s = (s + SHIFT) * sw - SHIFT
            top = ops.stop_gradient(space.maximum(ops.amax(s), 0.0 * ops.amax(s) - SHIFT))
            e = space.exp(s - top)
            total = space.sum(e, axis=-1, keepdims=True)
            total = total + ops.times(space.exp(-SHIFT - top), pairs.more)
            return e / total * mask * sw
        low = s * mask + (mask - 1.0) * 1e30
        e = space.exp((s - ops.stop_gradient(ops.amax(low))) * mask) * mask
        total = space.sum(e, axis=-1, keepdims=True)
        return e / (total + (1.0 - space.sign(total)))
