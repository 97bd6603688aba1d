# SPDX-License-Identifier: LGPL-3.0-or-later
"""Sum over neighbors of an embedded scalar times its row, by interpolation of the embedding.

A network of one number is an analytic function: over the range of a batch, a series of a few dozen
Chebyshev polynomials has all of its digits. The network is then evaluated at the nodes of the series
only, and what is left to do for a neighbor does not depend on the size of the network. See
``source/training/interpolated.cc``. In training only: evaluations take the network for every row.
"""

import ctypes
from collections.abc import Sequence
from typing import Any

import torch

from deepmd.dpmodel.nn.layers import DenseArrays, DenseOptions
from deepmd.dpmodel.ops import register
from deepmd.pt.fused import embedding, kernel_embedding
from deepmd.pt.fused.blocks import Fused, in_blocks
from deepmd.pt.fused.kernels import kernels, pointers, threads

Tensor = torch.Tensor

#: Fewer rows than this have no series that is less work.
_ROWS = 64


class _Batch(ctypes.Structure):
    """``deepmd_batch``."""

    _fields_ = (
        ("n", ctypes.c_int64),
        ("k", ctypes.c_int64),
        ("r", ctypes.c_void_p),
        ("kind", ctypes.c_void_p),
        ("threads", ctypes.c_int32),
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
    """Whether the kernels have the function: rows of four numbers, layers of tanh, in training."""
    return (
        order == 2
        and r.shape[-1] == kernel_embedding.ROW
        and r.shape[0] * r.shape[1] >= _ROWS
        and in_blocks(r, order)
        and embedding.are_tanh(layers, options)
        and (table is None) == (index is None)
        and kernels(r.dtype) is not None
    )


@register("embed_contract", "torch", device="cpu", when=_fits, priority=2)
def _(
    r: Tensor,
    layers: Sequence[DenseArrays],
    options: Sequence[DenseOptions],
    table: Tensor | None = None,
    index: Tensor | None = None,
    *,
    order: int,
) -> Tensor:
    weights = [p for layer in layers for p in (layer.w, layer.b)]
    copies, kind = [o.copies for o in options], None
    if table is not None and index is not None:
        seen, kind = _kinds(index.expand(r.shape[:2]), len(table))
        weights[:2] = weights[0][:1], table.index_select(0, seen)
        copies[0] = 0
    net = _Series.of(r.detach(), [w.detach() for w in weights], copies, kind)
    if net is not None:
        return _Interpolated(order, net)(r, *weights)
    form = kernel_embedding.by_rows if table is None else embedding.by_blocks
    return form(r, layers, options, table, index, order=order)


def _kinds(index: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """Rows of a table of n that occur in an index, and the index into these."""
    index = index % n
    there = torch.zeros(n, dtype=torch.bool)
    there[index.reshape(-1)] = True
    number = there.cumsum(0) - 1
    return there.nonzero()[:, 0], number[index].contiguous()


class _Series(ctypes.c_void_p):
    """Series of a network over the range of a batch: rows (n, k, 4), kinds (n, k) or None."""

    r: Tensor
    kind: Tensor | None
    call: ctypes.CDLL
    shapes: list[torch.Size]

    @classmethod
    def of(
        cls, r: Tensor, weights: Sequence[Tensor], copies: Sequence[int], kind: Tensor | None
    ) -> "_Series | None":
        """Return the series, or None if there is none that is less work than the network."""
        w, b = ([x.contiguous() for x in weights[k::2]] for k in range(2))
        net, call = cls(), kernels(r.dtype)
        net.r, net.kind, net.call = r.contiguous(), kind, call
        net.shapes = [x.shape for x in weights]
        widths = (ctypes.c_int64 * (len(w) + 1))(1, *(x.shape[1] for x in w))
        times = (ctypes.c_int32 * len(w))(*copies)
        given = len(w), widths, times, pointers(w), pointers(b)
        kinds = 1 if kind is None else len(b[0])
        net.value = call.interpolated_new(*given, kinds, net.batch())
        return net if net else None

    def batch(self) -> Any:
        """Rows as the library takes them."""
        n, k, _ = self.r.shape
        kind = None if self.kind is None else self.kind.data_ptr()
        return ctypes.byref(_Batch(n, k, self.r.data_ptr(), kind, threads()))

    def run(self, name: str, *arrays: Tensor, lists: Sequence[Any] = ()) -> None:
        """Call a function of the library with dense arrays, and with lists of arrays."""
        given = (x.data_ptr() for x in arrays)
        getattr(self.call, f"interpolated_{name}")(self, self.batch(), *given, *lists)

    def __del__(self) -> None:
        if self:
            self.call.interpolated_free(self)


class _Interpolated(Fused):
    """The embedding: rows (n, k, 4), weights and biases of the layers -> sums (n, width, 4)."""

    def __init__(self, order: int, net: _Series) -> None:
        super().__init__(order)
        self.net = net

    def value(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        r = self.net.r
        t = r.new_empty((r.shape[0], self.net.shapes[-2][1], r.shape[2]))
        self.net.run("value", t)
        return (t,)

    def vjp(self, *adjoints: Tensor) -> tuple[Tensor, ...]:
        self.t_bar, r_bar = adjoints[0].contiguous(), torch.empty_like(self.net.r)
        self.net.run("vjp", self.t_bar, r_bar)
        return (r_bar,)

    def jvp(self, *tangents: Tensor) -> tuple[Tensor, ...]:
        self.r_dot, t_dot = tangents[0].contiguous(), torch.empty_like(self.t_bar)
        self.net.run("jvp", self.r_dot, t_dot)
        return (t_dot,)

    def vjp_of_vjp(self, *adjoints: Tensor) -> tuple[Tensor | None, ...]:
        again, net = adjoints[0].contiguous(), self.net
        grads = [net.r.new_empty(s) for s in net.shapes]
        lists = [pointers(grads[0::2]), pointers(grads[1::2])]
        net.run("vjp_of_vjp", again, self.t_bar, self.r_dot, lists=lists)
        return None, *grads
