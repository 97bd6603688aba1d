# SPDX-License-Identifier: LGPL-3.0-or-later
"""Gated attention layers by the compiled kernels, center by center; empty slots are not evaluated.

The function of :mod:`deepmd.pt.fused.attention` where it is smooth, normalized and gated by angles, as
in DPA-1; see ``source/kernels/attention.h``. Switches of empty slots are taken for constants.
"""

import ctypes

import torch

from deepmd.dpmodel.nn.attention import (
    AttentionArrays,
    AttentionOptions,
    NeighborSlots,
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
    fused = _Attention(order, slots.mask.to(g.dtype).contiguous(), int(slots.more), options)
    return fused(g, slots.switch, slots.direction, *arrays)


class _Attention(Fused):
    """The layer: features (n, k, e), switches (n, k), directions (n, k, 3), weights -> (n, k, e)."""

    moving = 3

    def __init__(self, order: int, mask: Tensor, more: int, options: AttentionOptions) -> None:
        super().__init__(order)
        self.mask, self.more, self.options = mask, more, options

    def value(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        x, sw, unit, *arrays = (t.contiguous() for t in inputs)
        self.x, self.sw, self.unit, self.arrays = x, sw, unit, arrays
        self.call, (n, k, e) = kernels(x.dtype), x.shape
        options, places = self.options, (w.data_ptr() for w in arrays)
        self.layer = _Layer(e, arrays[0].shape[1] // 3, options.scale, options.eps, *places)
        self.filled, self.first = torch.empty((2, n + 1), dtype=torch.int64)
        counted = (t.data_ptr() for t in (self.mask, self.filled, self.first))
        self.call.attention_count(ctypes.byref(self.layer), n, k, *counted)
        self.state = torch.empty(int(self.first[-1]), dtype=x.dtype)
        y = torch.empty_like(x)
        self.run("value", y)
        return (y,)

    def run(self, name: str, *arrays: Tensor) -> None:
        """Call a function of the library."""
        n, k, _ = self.x.shape
        given = self.x, self.sw, self.unit, self.filled, self.first, self.state
        slots = _Slots(n, k, self.more, *(t.data_ptr() for t in given), threads())
        places = (t.data_ptr() for t in arrays)
        function = getattr(self.call, f"attention_{name}")
        function(ctypes.byref(self.layer), ctypes.byref(slots), *places)

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
