# SPDX-License-Identifier: LGPL-3.0-or-later
"""Attention by the compiled kernels, center by center; empty slots are not evaluated.

The layers of :mod:`deepmd.pt.fused.attention` where they are smooth, normalized and gated by angles, as
in DPA-1, and the attention between pairs of DPA-2; see ``source/kernels/attention.h`` and
``pair_attention.h``. Switches of empty slots are taken for constants.
"""

import ctypes
from typing import Any

import torch

from deepmd.dpmodel.nn.attention import (
    AttentionArrays,
    AttentionOptions,
    NeighborSlots,
)
from deepmd.dpmodel.nn.pair_attention import (
    PairAttentionArrays,
    PairAttentionOptions,
    Pairs,
)
from deepmd.dpmodel.ops import register
from deepmd.pt.fused.blocks import Fused, in_blocks
from deepmd.pt.fused.kernels import kernels, threads

Tensor = torch.Tensor


class _Layer(ctypes.Structure):
    """``deepmd_attention_layer``."""

    _fields_ = (
        ("e", ctypes.c_int64),
        ("h", ctypes.c_int64),
        ("scale", ctypes.c_double),
        ("eps", ctypes.c_double),
        *((name, ctypes.c_void_p) for name in AttentionArrays._fields),
    )


class _Pairs(ctypes.Structure):
    """``deepmd_pair_attention_layer``."""

    _fields_ = (
        ("e", ctypes.c_int64),
        ("heads", ctypes.c_int64),
        ("scale", ctypes.c_double),
        ("gated", ctypes.c_int32),
        ("w", ctypes.c_void_p),
        ("b", ctypes.c_void_p),
    )


class _Slots(ctypes.Structure):
    """``deepmd_slots``."""

    _fields_ = (
        ("n", ctypes.c_int64),
        ("k", ctypes.c_int64),
        ("more", ctypes.c_int64),
        ("x", ctypes.c_void_p),
        ("sw", ctypes.c_void_p),
        ("unit", ctypes.c_void_p),
        ("filled", ctypes.c_void_p),
        ("first", ctypes.c_void_p),
        ("state", ctypes.c_void_p),
        ("threads", ctypes.c_int32),
    )


def _fits(
    g: Tensor,
    slots: NeighborSlots,
    arrays: AttentionArrays,
    options: AttentionOptions,
    *,
    order: int = 3,
) -> bool:
    """Whether the kernels have such a layer."""
    return (
        options.smooth
        and options.normalize
        and options.dotr
        and in_blocks(g, order)
        and all(x is None or x.dtype == g.dtype for x in (*arrays, slots.switch, slots.direction))
        and kernels(g.dtype) is not None
    )


@register("attention_layer", "torch", device="cpu", when=_fits, priority=1)
def _(
    g: Tensor,
    slots: NeighborSlots,
    arrays: AttentionArrays,
    options: AttentionOptions,
    *,
    order: int,
) -> Tensor:
    if arrays.b_in is None:
        arrays = arrays._replace(b_in=g.new_zeros(arrays.w_in.shape[1]))
    if arrays.b_out is None:
        arrays = arrays._replace(b_out=g.new_zeros(arrays.w_out.shape[1]))

    def layer(w_in: Tensor, *others: Tensor) -> _Layer:
        e, wide = w_in.shape
        places = (w.data_ptr() for w in (w_in, *others))
        return _Layer(e, wide // 3, options.scale, options.eps, *places)

    fused = _Attention("attention", layer, order, slots.mask, slots.more)
    return fused(g, slots.switch, slots.direction, *arrays)


def _pairs_fit(
    g2: Tensor,
    h2: Tensor,
    pairs: Pairs,
    arrays: PairAttentionArrays,
    options: PairAttentionOptions,
    *,
    order: int = 3,
) -> bool:
    """Whether the kernels have such an attention, and products of projections do not widen it."""
    return (
        options.smooth
        and g2.shape[-1] <= 2 * options.hidden
        and in_blocks(g2, order)
        and all(x.dtype == g2.dtype for x in (*arrays, h2, pairs.switch))
        and kernels(g2.dtype) is not None
    )


@register("pair_attention", "torch", device="cpu", when=_pairs_fit)
def _(
    g2: Tensor,
    h2: Tensor,
    pairs: Pairs,
    arrays: PairAttentionArrays,
    options: PairAttentionOptions,
    *,
    order: int,
) -> Tensor:
    def layer(w: Tensor, b: Tensor) -> _Pairs:
        scale = options.hidden**-0.5
        return _Pairs(len(w), options.heads, scale, options.has_gate, w.data_ptr(), b.data_ptr())

    fused = _Attention("pair_attention", layer, order, pairs.mask, pairs.more)
    return fused(g2, pairs.switch, h2, _joined(arrays, options.heads), arrays.b_head)


def _joined(arrays: PairAttentionArrays, heads: int) -> Tensor:
    """Products of projections (e, 2 heads e): queries with keys, values with those from heads."""
    e = len(arrays.w_qk)
    qk = arrays.w_qk.view(e, -1, 2 * heads)
    queries = torch.einsum("adh,bdh->ahb", qk[..., :heads], qk[..., heads:])
    w_v, w_head = arrays.w_v.view(e, e, heads), arrays.w_head.view(e, heads, e)
    values = torch.einsum("ach,chb->ahb", w_v, w_head)
    return torch.cat([queries, values], 1).view(e, -1)


class _Attention(Fused):
    """Attention: features (n, k, e), switches (n, k), directions (n, k, 3), weights -> (n, k, e).

    Parameters
    ----------
    name : str
        Start of the names of its functions.
    layer : callable
        Returns the structure that they take, from the weights.
    mask : (n, k)
    more : int
        Empty slots beyond the k.
    """

    moving = 3

    def __init__(self, name: str, layer: Any, order: int, mask: Tensor, more: int) -> None:
        super().__init__(order)
        self.name, self.make, self.mask, self.more = name, layer, mask, int(more)

    def value(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        x, sw, unit, *arrays = (t.contiguous() for t in inputs)
        self.x, self.sw, self.unit, self.arrays = x, sw, unit, arrays
        n, k, _ = x.shape
        self.layer, mask = self.make(*arrays), self.mask.to(x.dtype).contiguous()
        filled, first = torch.empty((2, n + 1), dtype=torch.int64)
        self.filled, self.first = filled, first
        counted = (t.data_ptr() for t in (mask, filled, first))
        self.function("count")(ctypes.byref(self.layer), n, k, *counted)
        self.state = torch.empty(int(first[-1]), dtype=x.dtype)
        y = torch.empty_like(x)
        self.run("value", y)
        return (y,)

    def function(self, name: str) -> Any:
        """Return a function of the library."""
        return getattr(kernels(self.x.dtype), f"{self.name}_{name}")

    def run(self, name: str, *arrays: Tensor) -> None:
        """Call a function of the library on the slots and arrays."""
        n, k, _ = self.x.shape
        given = self.x, self.sw, self.unit, self.filled, self.first, self.state
        slots = _Slots(n, k, self.more, *(t.data_ptr() for t in given), threads())
        places = (t.data_ptr() for t in arrays)
        self.function(name)(ctypes.byref(self.layer), ctypes.byref(slots), *places)

    def vjp(self, *adjoints: Tensor) -> tuple[Tensor, ...]:
        self.y_bar = adjoints[0].contiguous()
        found = tuple(torch.empty_like(t) for t in (self.x, self.sw, self.unit))
        self.run("vjp", self.y_bar, *found)
        return found

    def jvp(self, *tangents: Tensor) -> tuple[Tensor, ...]:
        self.x_dot, *others = (t.contiguous() for t in tangents)
        y_dot = torch.empty_like(self.x)
        self.run("jvp", self.x_dot, *others, y_dot)
        return (y_dot,)

    def vjp_of_vjp(self, *adjoints: Tensor) -> tuple[Tensor | None, ...]:
        again, x_bar = adjoints[0].contiguous(), torch.empty_like(self.x)
        grads = self.x.new_empty(sum(w.numel() for w in self.arrays))
        self.run("vjp_of_vjp", again, self.y_bar, self.x_dot, x_bar, grads)
        parts = grads.split([w.numel() for w in self.arrays])
        own = (g.view(w.shape) for g, w in zip(parts, self.arrays, strict=True))
        return x_bar, None, None, *own
