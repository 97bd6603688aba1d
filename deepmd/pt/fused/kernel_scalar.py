# SPDX-License-Identifier: LGPL-3.0-or-later
"""Sum over numbers s of s G(s), G a small embedding network, by the compiled kernels.

The function of :mod:`deepmd.pt.fused.embedding` for rows of one number, the angles of se_e3. Nothing is
kept between the derivatives: evaluating a small network again takes less time than reading it.
"""

import ctypes
from collections.abc import Sequence

import torch

from deepmd.dpmodel.nn.layers import DenseArrays, DenseOptions
from deepmd.dpmodel.ops import register
from deepmd.pt.fused.blocks import Fused, in_blocks
from deepmd.pt.fused.embedding import are_tanh
from deepmd.pt.fused.kernels import kernels, pointers, threads

Tensor = torch.Tensor

#: ``DEEPMD_SCALAR_ROWS``, which the widths of a network stay below.
_WIDEST = 64


class _Net(ctypes.Structure):
    """``deepmd_scalar``."""

    _fields_ = (
        ("layers", ctypes.c_int64),
        ("widths", ctypes.c_void_p),
        ("copies", ctypes.c_void_p),
        ("w", ctypes.c_void_p),
        ("b", ctypes.c_void_p),
    )


def _fits(
    r: Tensor,
    layers: Sequence[DenseArrays],
    options: Sequence[DenseOptions],
    table: Tensor | None = None,
    index: Tensor | None = None,
    *,
    order: int = 3,
) -> bool:
    """Whether the kernels have the function: rows of one number, a small network of tanh."""
    return (
        table is None
        and r.shape[-1] == 1
        and in_blocks(r, order)
        and are_tanh(layers, options)
        and 1 + sum(layer.w.shape[1] for layer in layers) <= _WIDEST
        and all(layer.w.dtype == r.dtype for layer in layers)
        and kernels(r.dtype) is not None
    )


@register("embed_contract", "torch", device="cpu", when=_fits, priority=1)
def _(
    r: Tensor,
    layers: Sequence[DenseArrays],
    options: Sequence[DenseOptions],
    table: None = None,
    index: None = None,
    *,
    order: int,
) -> Tensor:
    weights = [p for layer in layers for p in (layer.w, layer.b)]
    return _Sum(order, [o.copies for o in options])(r, *weights)


class _Sum(Fused):
    """The sum: numbers (n, k, 1), weights and biases of the layers -> (n, width, 1)."""

    def __init__(self, order: int, copies: list[int]) -> None:
        super().__init__(order)
        self.copies = (ctypes.c_int32 * len(copies))(*copies)

    def value(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        self.s, *weights = (x.contiguous() for x in inputs)
        self.call, self.weights = kernels(self.s.dtype), weights
        w, b = weights[0::2], weights[1::2]
        self.widths = (ctypes.c_int64 * (len(w) + 1))(1, *(x.shape[1] for x in w))
        self.lists = pointers(w), pointers(b)
        arrays = (self.widths, self.copies, *self.lists)
        self.net = _Net(len(w), *(ctypes.addressof(x) for x in arrays))
        return (self.run("value", out=self.sums()),)

    def sums(self) -> Tensor:
        """New array for sums."""
        return self.s.new_empty((len(self.s), self.widths[-1], 1))

    def run(self, name: str, *given: Tensor, out: Tensor) -> Tensor:
        """Call a function of the library that writes one array."""
        n, k, _ = self.s.shape
        places = [x.data_ptr() for x in (self.s, *given)]
        function = getattr(self.call, f"scalar_{name}")
        function(ctypes.byref(self.net), n, k, *places, threads(), out.data_ptr())
        return out

    def vjp(self, *adjoints: Tensor) -> tuple[Tensor, ...]:
        self.bar = adjoints[0].contiguous()
        return (self.run("vjp", self.bar, out=torch.empty_like(self.s)),)

    def jvp(self, *tangents: Tensor) -> tuple[Tensor, ...]:
        self.s_dot = tangents[0].contiguous()
        return (self.run("jvp", self.s_dot, out=self.sums()),)

    def vjp_of_vjp(self, *adjoints: Tensor) -> tuple[Tensor | None, ...]:
        n, k, _ = self.s.shape
        given = [adjoints[0].contiguous(), self.bar, self.s_dot]
        grads = [torch.empty_like(x) for x in self.weights]
        self.call.scalar_vjp_of_vjp(
            *(ctypes.byref(self.net), n, k, self.s.data_ptr()),
            *(x.data_ptr() for x in given),
            *(threads(), pointers(grads[0::2]), pointers(grads[1::2])),
        )
        return None, *grads
