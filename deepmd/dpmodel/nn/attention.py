# SPDX-License-Identifier: LGPL-3.0-or-later
"""Gated self-attention over the neighbors of an atom.

Zhang et al., "Pretraining of attention-based deep learning potential model for molecular
simulation", npj Comput. Mater. 10, 94 (2024), eq. 7-12.
"""

import dataclasses
import functools
from typing import Any, NamedTuple

from deepmd.dpmodel import ops
from deepmd.dpmodel.module import Module, Serial
from deepmd.dpmodel.nn.norm import LayerNorm
from deepmd.dpmodel.nn.random import Seed, child_seed
from deepmd.dpmodel.nn.updates import linear
from deepmd.schema.network import PRECISION, SEED
from deepmd.schema.settings import Settings, setting

#: Logits are moved up by this before the switch and down after it, so that a weight of
#: exp(-SHIFT) is left of a neighbor at the cutoff.
SHIFT = 20.0


@dataclasses.dataclass
class NeighborSlots:
    """Slots of neighbors, as attention reads them.

    Attributes
    ----------
    mask : (n, K) float
        1 for a neighbor, 0 for an empty slot.
    switch : (n, K)
        0 in empty slots.
    direction : (n, K, 3)
        Unit vectors to the neighbors; zero in empty slots.
    more : int
        Empty slots of the definition beyond the K of this batch.
    """

    mask: Any
    switch: Any
    direction: Any
    more: Any

    @functools.cached_property
    def pair(self) -> Any:
        """Products of switches (n, K, K)."""
        return outer(self.switch, self.switch)

    @functools.cached_property
    def cosine(self) -> Any:
        """Cosines between the directions (n, K, K)."""
        return ops.xp(self.direction).matmul(self.direction, ops.matrix_transpose(self.direction))


def outer(x: Any, y: Any) -> Any:
    """Products of all pairs, (..., K), (..., K) -> (..., K, K)."""
    return x[..., :, None] * y[..., None, :]


@ops.op
def gated_softmax(s: Any, pair: Any, gate: Any, more: Any, scale: float, *, order: int = 3) -> Any:
    """Softmax of logits with weights that vanish at the cutoff, times a gate.

    Logits become ``(scale s + 20) pair - 20``; empty slots, and the ``more`` that are not there,
    count with ``exp(-20)`` in the denominator.

    Parameters
    ----------
    s : (n, heads, K, K)
    pair, gate : (n, 1, K, K)
    more : int
    scale : float
    order : int
        Highest derivative that will be asked for, see :mod:`deepmd.dpmodel.ops`.
    """
    space = ops.xp(s)
    s = (s * scale + SHIFT) * pair - SHIFT
    top = ops.stop_gradient(space.maximum(ops.amax(s), 0.0 * ops.amax(s) - SHIFT))
    e = space.exp(s - top)
    total = space.sum(e, axis=-1, keepdims=True) + ops.times(space.exp(-SHIFT - top), more)
    return e * (1.0 / total) * gate


def masked_softmax(s: Any, mask: Any) -> Any:
    """Softmax of logits (..., K, K) over the columns with mask (..., K) 1; zero elsewhere."""
    space = ops.xp(s)
    columns, rows = mask[..., None, :], mask[..., :, None]
    low = s * columns + (columns - 1.0) * 1e30
    top = ops.stop_gradient(ops.amax(low))
    e = space.exp((s - top) * columns) * columns
    total = space.sum(e, axis=-1, keepdims=True)
    return e * (1.0 / (total + (1.0 - space.sign(total)))) * rows


class AttentionSettings(Settings):
    """Settings of attention."""

    nnei: int = setting(..., "Slots of the definition.")
    embed_dim: int = setting(..., "Width of the features.")
    hidden_dim: int = setting(..., "Width of the attention.")
    dotr: bool = setting(True, "Multiply weights by the cosine between the two neighbors.")
    do_mask: bool = setting(False, "Has no effect.")
    scaling_factor: float = setting(1.0, "Logits are q·k (hidden_dim scaling_factor)^(-1/2).")
    normalize: bool = setting(True, "Divide q, k and v by their lengths.")
    temperature: float | None = setting(None, "Logits are q·k temperature.")
    bias: bool = setting(True, "Whether the linear layers have biases.")
    smooth: bool = setting(True, "Let the weight of a neighbor vanish at the cutoff.")
    precision: str = PRECISION
    seed: Seed = SEED


class GatedAttention(AttentionSettings, Module):
    """Projections of one head of attention, its weights multiplied by cosines between the neighbors."""

    serial = Serial(
        layout="nnei embed_dim hidden_dim num_heads dotr do_mask scaling_factor normalize"
        " temperature bias smooth precision in_proj out_proj",
        children=("in_proj", "out_proj"),
        constants=("num_heads",),
    )
    num_heads = 1

    def build(self) -> None:
        h = self.hidden_dim
        self.in_proj = linear(self, self.embed_dim, 3 * h, "in", bias=self.bias)
        self.out_proj = linear(self, h, self.embed_dim, "out", bias=self.bias)

    @property
    def scale(self) -> float:
        """Factor of the logits."""
        return self.temperature or (self.hidden_dim * self.scaling_factor) ** -0.5

    def empty(self, g: Any) -> Any:
        """Output for an empty slot: the bias alone."""
        return 0.0 * g if self.out_proj.b is None else 0.0 * g + self.out_proj.b


def unit(x: Any) -> Any:
    """Divide vectors (..., h) by their lengths."""
    space = ops.xp(x)
    squares = space.sum(x * x, axis=-1, keepdims=True)
    return x * (1.0 / space.sqrt(space.maximum(squares, 0.0 * squares + 1e-24)))


class AttentionArrays(NamedTuple):
    """Arrays of an attention layer of width e and hidden width h; biases may be None.

    Attributes
    ----------
    w_in, b_in : (e, 3 h), (3 h,)
        Projections to q, k and v, side by side.
    w_out, b_out : (h, e), (e,)
    gamma, beta : (e,)
        Scale and shift of the layer normalization.
    """

    w_in: Any
    b_in: Any
    w_out: Any
    b_out: Any
    gamma: Any
    beta: Any


class AttentionOptions(NamedTuple):
    """Options of an attention layer: factor of the logits, epsilon, and see the settings."""

    scale: float
    eps: float
    normalize: bool = True
    dotr: bool = True
    smooth: bool = True


@ops.op
def attention_layer(
    g: Any,
    slots: NeighborSlots,
    arrays: AttentionArrays,
    options: AttentionOptions,
    *,
    order: int = 3,
) -> Any:
    """Attention, residual and layer normalization.

    Parameters
    ----------
    g : (n, K, e)
        Features of the neighbors.
    slots : NeighborSlots
    arrays : AttentionArrays
    options : AttentionOptions
    order : int
        Highest derivative that will be asked for, see :mod:`deepmd.dpmodel.ops`.

    Returns
    -------
    (n, K, e)
    """
    space, x = ops.xp(g), ops.linear(g, arrays.w_in, arrays.b_in)
    q, k, v = ops.split(x, 3)
    if options.normalize:
        q, k, v = (unit(x) for x in (q, k, v))
    s = space.matmul(q, ops.matrix_transpose(k))
    if options.smooth:
        gate = slots.pair * slots.cosine if options.dotr else slots.pair
        wide = [x[:, None, :, :] for x in (s, slots.pair, gate)]
        p = gated_softmax(*wide, slots.more, options.scale, order=order)[:, 0, :, :]
    else:
        p = masked_softmax(s * options.scale, slots.mask)
        if options.dotr:
            p = p * slots.cosine
    # The projection on v first, where it makes v narrower: products over neighbors cost the most.
    h, e = arrays.w_out.shape
    if e < h:
        attended = space.matmul(p, ops.linear(v, arrays.w_out))
        attended = attended if arrays.b_out is None else attended + arrays.b_out
    else:
        attended = ops.linear(space.matmul(p, v), arrays.w_out, arrays.b_out)
    return ops.layer_norm(g + attended, arrays.gamma, arrays.beta, options.eps)


class LayerSettings(AttentionSettings):
    """Settings of attention with layer normalization."""

    trainable_ln: bool = setting(True, "Train scale and shift of the layer norms.")
    ln_eps: float = setting(1e-5, "Epsilon of the layer norms.")


class GatedAttentionLayer(LayerSettings, Module):
    """Attention, residual and layer normalization."""

    serial = Serial(
        layout="nnei embed_dim hidden_dim dotr do_mask scaling_factor normalize temperature"
        " trainable_ln ln_eps precision attention_layer attn_layer_norm",
        children=("attention_layer", "attn_layer_norm"),
    )
    child_kinds = {"attention_layer": GatedAttention}

    def build(self) -> None:
        self.attention_layer = self.part(GatedAttention)
        self.attn_layer_norm = self.part(
            LayerNorm, n=self.embed_dim, eps=self.ln_eps, trainable=self.trainable_ln
        )

    def call(self, g: Any, slots: NeighborSlots, *, order: int = 3) -> Any:
        """Apply the layer: (n, K, embed_dim) -> (n, K, embed_dim); see :func:`attention_layer`."""
        return attention_layer(g, slots, self.arrays, self.options, order=order)

    @property
    def arrays(self) -> AttentionArrays:
        """Arrays of the layer, as operations take them."""
        attention, norm = self.attention_layer, self.attn_layer_norm
        first, last = attention.in_proj, attention.out_proj
        return AttentionArrays(first.weight, first.b, last.weight, last.b, norm.w, norm.b)

    @property
    def options(self) -> AttentionOptions:
        """Options of the layer, as operations take them."""
        attention = self.attention_layer
        return AttentionOptions(
            attention.scale,
            self.attn_layer_norm.eps,
            attention.normalize,
            attention.dotr,
            attention.smooth,
        )

    def empty(self, g: Any) -> Any:
        """Apply the layer to the features of an empty slot."""
        return self.attn_layer_norm(g + self.attention_layer.empty(g))


class NeighborGatedAttention(LayerSettings, Module):
    """Stack of attention layers."""

    serial = Serial(
        layout="@class @version layer_num nnei embed_dim hidden_dim dotr do_mask scaling_factor"
        " normalize temperature trainable_ln ln_eps precision attention_layers",
        name="NeighborGatedAttention",
        children=("attention_layers",),
    )
    child_kinds = {"attention_layers": GatedAttentionLayer}

    layer_num: int = setting(..., "Number of layers.")

    def build(self) -> None:
        self.attention_layers = [
            self.part(GatedAttentionLayer, seed=child_seed(self.seed, k))
            for k in range(self.layer_num)
        ]

    def call(self, g: Any, empty: Any, slots: NeighborSlots, *, order: int = 3) -> tuple[Any, Any]:
        """Apply all layers to the features of the slots, and to those of an empty one."""
        for layer in self.attention_layers:
            g, empty = layer(g, slots, order=order), layer.empty(empty)
        return g, empty
