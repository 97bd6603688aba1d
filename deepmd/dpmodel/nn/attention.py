# SPDX-License-Identifier: LGPL-3.0-or-later
"""Gated self-attention over the neighbours of an atom.

Zhang et al., "Pretraining of attention-based deep learning potential model for molecular
simulation", npj Comput. Mater. 10, 94 (2024), eq. 7-12.
"""

import dataclasses
import functools
from typing import Any

from deepmd.dpmodel import ops
from deepmd.dpmodel.module import Module, Serial
from deepmd.dpmodel.nn.activation import precision_name
from deepmd.dpmodel.nn.layers import Dense
from deepmd.dpmodel.nn.norm import LayerNorm
from deepmd.dpmodel.nn.random import Seed, child_seed

#: Logits are moved up by this before the switch and down after it, so that a weight of
#: exp(-SHIFT) is left of a neighbour at the cutoff.
SHIFT = 20.0


@dataclasses.dataclass
class NeighbourSlots:
    """What attention must know of the slots.

    Attributes
    ----------
    mask : (n, K) float
        1 for a neighbour, 0 for an empty slot.
    switch : (n, K)
        0 in empty slots.
    direction : (n, K, 3)
        Unit vectors to the neighbours; zero in empty slots.
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
def gated_softmax(s: Any, pair: Any, gate: Any, more: Any, scale: float) -> Any:
    """Softmax of logits with weights that vanish at the cutoff, times a gate.

    Logits become ``(scale s + 20) pair - 20``; empty slots, and the ``more`` that are not there,
    count with ``exp(-20)`` in the denominator.

    Parameters
    ----------
    s : (n, heads, K, K)
    pair, gate : (n, 1, K, K)
    """
    space = ops.xp(s)
    s = (s * scale + SHIFT) * pair - SHIFT
    top = ops.stop_gradient(space.maximum(ops.amax(s), 0.0 * ops.amax(s) - SHIFT))
    e = space.exp(s - top)
    total = space.sum(e, axis=-1, keepdims=True) + more * space.exp(-SHIFT - top)
    return e / total * gate


def masked_softmax(s: Any, mask: Any) -> Any:
    """Softmax of logits (..., K, K) over the columns with mask (..., K) 1; zero elsewhere."""
    space = ops.xp(s)
    columns, rows = mask[..., None, :], mask[..., :, None]
    low = s * columns + (columns - 1.0) * 1e30
    top = ops.stop_gradient(ops.amax(low))
    e = space.exp((s - top) * columns) * columns
    total = space.sum(e, axis=-1, keepdims=True)
    return e / (total + (1.0 - space.sign(total))) * rows


class GatedAttention(Module):
    """One head of attention, its weights multiplied by cosines between the neighbours."""

    serial = Serial(
        layout="nnei embed_dim hidden_dim num_heads dotr do_mask scaling_factor normalize"
        " temperature bias smooth precision in_proj out_proj",
        children=("in_proj", "out_proj"),
        constants=("num_heads",),
    )
    num_heads = 1

    def __init__(
        self,
        nnei: int,
        embed_dim: int,
        hidden_dim: int,
        *,
        dotr: bool = True,
        do_mask: bool = False,
        scaling_factor: float = 1.0,
        normalize: bool = True,
        temperature: float | None = None,
        bias: bool = True,
        smooth: bool = True,
        precision: str = "default",
        seed: Seed = None,
    ) -> None:
        self.nnei, self.embed_dim, self.hidden_dim = nnei, embed_dim, hidden_dim
        self.dotr, self.do_mask, self.bias, self.smooth = dotr, do_mask, bias, smooth
        self.scaling_factor, self.normalize = scaling_factor, normalize
        self.temperature, self.precision = temperature, precision
        keys: dict[str, Any] = {
            "activation_function": "none",
            "bias": bias,
            "precision": precision_name(precision),
        }
        self.in_proj = Dense(embed_dim, 3 * hidden_dim, seed=child_seed(seed, "in"), **keys)
        self.out_proj = Dense(hidden_dim, embed_dim, seed=child_seed(seed, "out"), **keys)

    @property
    def scale(self) -> float:
        """Factor of the logits."""
        return self.temperature or (self.hidden_dim * self.scaling_factor) ** -0.5

    def call(self, g: Any, slots: NeighbourSlots) -> Any:
        """Attend: (n, K, embed_dim) -> (n, K, embed_dim)."""
        space = ops.xp(g)
        h = self.hidden_dim
        q, k, v = (self.in_proj(g)[..., part * h : (part + 1) * h] for part in range(3))
        if self.normalize:
            q, k, v = (unit(x) for x in (q, k, v))
        s = space.matmul(q, ops.matrix_transpose(k))
        if self.smooth:
            gate = slots.pair * slots.cosine if self.dotr else slots.pair
            wide = [x[:, None, :, :] for x in (s, slots.pair, gate)]
            p = gated_softmax(*wide, slots.more, self.scale)[:, 0, :, :]
        else:
            p = masked_softmax(s * self.scale, slots.mask)
            if self.dotr:
                p = p * slots.cosine
        return self.out_proj(space.matmul(p, v))

    def empty(self, g: Any) -> Any:
        """What the layer gives for an empty slot: the bias alone."""
        return 0.0 * g if self.out_proj.b is None else 0.0 * g + self.out_proj.b


def unit(x: Any) -> Any:
    """Divide vectors (..., h) by their lengths."""
    space = ops.xp(x)
    squares = space.sum(x * x, axis=-1, keepdims=True)
    return x / space.sqrt(space.maximum(squares, 0.0 * squares + 1e-24))


@ops.op
def attention_layer(g: Any, layer: "GatedAttentionLayer", slots: NeighbourSlots) -> Any:
    """Attention, residual and layer normalisation: (n, K, embed_dim) -> (n, K, embed_dim)."""
    return layer.attn_layer_norm(g + layer.attention_layer(g, slots))


#: Settings of an attention that the modules around it repeat in their dictionaries.
_SETTINGS: dict[str, Any] = {
    "dotr": True,
    "do_mask": False,
    "scaling_factor": 1.0,
    "normalize": True,
    "temperature": None,
}


def _keep_settings(module: Module, given: dict[str, Any]) -> None:
    for name, value in _SETTINGS.items():
        setattr(module, name, given.get(name, value))


class GatedAttentionLayer(Module):
    """Attention, residual and layer normalisation."""

    serial = Serial(
        layout="nnei embed_dim hidden_dim dotr do_mask scaling_factor normalize temperature"
        " trainable_ln ln_eps precision attention_layer attn_layer_norm",
        children=("attention_layer", "attn_layer_norm"),
    )
    child_kinds = {"attention_layer": GatedAttention}

    def __init__(
        self,
        nnei: int,
        embed_dim: int,
        hidden_dim: int,
        *,
        trainable_ln: bool = True,
        ln_eps: float = 1e-5,
        precision: str = "default",
        **attention: Any,
    ) -> None:
        self.nnei, self.embed_dim, self.hidden_dim = nnei, embed_dim, hidden_dim
        self.trainable_ln, self.ln_eps, self.precision = trainable_ln, ln_eps, precision
        _keep_settings(self, attention)
        self.attention_layer = GatedAttention(
            nnei, embed_dim, hidden_dim, precision=precision, **attention
        )
        self.attn_layer_norm = LayerNorm(
            embed_dim, eps=ln_eps, trainable=trainable_ln, precision=precision
        )

    def call(self, g: Any, slots: NeighbourSlots) -> Any:
        """Apply the layer: (n, K, embed_dim) -> (n, K, embed_dim)."""
        return attention_layer(g, self, slots)

    def empty(self, g: Any) -> Any:
        """Apply the layer to the features of an empty slot."""
        return self.attn_layer_norm(g + self.attention_layer.empty(g))


class NeighborGatedAttention(Module):
    """A stack of attention layers.

    Parameters
    ----------
    layer_num : int
        Number of layers.
    nnei : int
        Slots of the definition.
    embed_dim, hidden_dim : int
        Widths of the features and of the attention.
    dotr : bool
        Multiply weights by the cosine between the two neighbours.
    scaling_factor, temperature : float
        Logits are ``q·k (hidden_dim scaling_factor)^(-1/2)``, or ``q·k temperature``.
    normalize : bool
        Divide q, k and v by their lengths.
    smooth : bool
        Let the weight of a neighbour vanish at the cutoff.
    """

    serial = Serial(
        layout="@class @version layer_num nnei embed_dim hidden_dim dotr do_mask scaling_factor"
        " normalize temperature trainable_ln ln_eps precision attention_layers",
        name="NeighborGatedAttention",
        children=("attention_layers",),
    )
    child_kinds = {"attention_layers": GatedAttentionLayer}

    def __init__(
        self,
        layer_num: int,
        nnei: int,
        embed_dim: int,
        hidden_dim: int,
        *,
        trainable_ln: bool = True,
        ln_eps: float = 1e-5,
        precision: str = "default",
        seed: Seed = None,
        **attention: Any,
    ) -> None:
        self.layer_num, self.nnei = layer_num, nnei
        self.embed_dim, self.hidden_dim = embed_dim, hidden_dim
        self.trainable_ln, self.ln_eps, self.precision = trainable_ln, ln_eps, precision
        _keep_settings(self, attention)
        self.attention_layers = [
            GatedAttentionLayer(
                nnei,
                embed_dim,
                hidden_dim,
                trainable_ln=trainable_ln,
                ln_eps=ln_eps,
                precision=precision,
                seed=child_seed(seed, k),
                **attention,
            )
            for k in range(layer_num)
        ]

    def call(self, g: Any, empty: Any, slots: NeighbourSlots) -> tuple[Any, Any]:
        """Apply all layers to the features of the slots, and to those of an empty one."""
        for layer in self.attention_layers:
            g, empty = layer(g, slots), layer.empty(empty)
        return g, empty
