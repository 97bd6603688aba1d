# SPDX-License-Identifier: LGPL-3.0-or-later
"""Sum over neighbors of an embedded scalar times its row, by the compiled kernels.

The function of :mod:`deepmd.pt.fused.embedding`, in ``libdeepmd_training``; see
``source/training/training.h``. Where the library was not built, that module's form runs.
"""

import ctypes
from collections.abc import Sequence
from typing import Any

import torch

from deepmd.dpmodel.nn.layers import DenseArrays, DenseOptions
from deepmd.dpmodel.ops import register
from deepmd.pt.fused.blocks import Fused, in_blocks
from deepmd.pt.fused.embedding import are_tanh
from deepmd.pt.fused.kernels import kernels, pointers, threads

Tensor = torch.Tensor

#: Numbers in a row.
ROW = 4


class _Rows(ctypes.Structure):
    """``deepmd_rows``."""

    _fields_ = (
        ("n", ctypes.c_int64),
        ("k", ctypes.c_int64),
        ("r", ctypes.c_void_p),
        ("first", ctypes.c_void_p),
        ("state", ctypes.c_void_p),
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
    """Whether the kernels have the function: rows of four numbers, layers of tanh, no table."""
    return (
        table is None
        and r.shape[-1] == ROW
        and in_blocks(r, order)
        and are_tanh(layers, options)
        and kernels(r.dtype) is not None
    )


@register("embed_contract", "torch", device="cpu", when=_fits, priority=1)
def by_rows(
    r: Tensor,
    layers: Sequence[DenseArrays],
    options: Sequence[DenseOptions],
    table: None = None,
    index: None = None,
    *,
    order: int,
) -> Tensor:
    """The network for every different row."""
    weights = [p for layer in layers for p in (layer.w, layer.b)]
    return _Embedding(order, [o.copies for o in options])(r, *weights)


class _Embedding(Fused):
    """The embedding: rows (n, k, 4), weights and biases of the layers -> sums (n, width, 4)."""

    def __init__(self, order: int, copies: list[int]) -> None:
        super().__init__(order)
        self.copies = copies

    def value(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        r, *weights = (x.contiguous() for x in inputs)
        self.call, self.r, self.shapes = kernels(r.dtype), r, [w.shape for w in weights]
        self.net = _Net(self.call, weights, self.copies)
        n, k, _ = r.shape
        self.first = torch.empty(n + 1, dtype=torch.int64)
        self.call.embedding_count(n, k, r.data_ptr(), self.first.data_ptr())
        size = int(self.first[-1]) * self.call.embedding_state(self.net)
        self.state = torch.empty(size, dtype=r.dtype)
        t = r.new_empty((n, self.shapes[-2][1], ROW))
        self.run("value", t)
        return (t,)

    def run(self, name: str, *arrays: Tensor, lists: Sequence[Any] = ()) -> None:
        """Call a function of the library with dense arrays, and with lists of arrays."""
        n, k, _ = self.r.shape
        places = (x.data_ptr() for x in (self.r, self.first, self.state))
        rows = _Rows(n, k, *places, threads())
        given = (x.data_ptr() for x in arrays)
        getattr(self.call, f"embedding_{name}")(self.net, ctypes.byref(rows), *given, *lists)

    def vjp(self, *adjoints: Tensor) -> tuple[Tensor, ...]:
        self.t_bar, r_bar = adjoints[0].contiguous(), torch.empty_like(self.r)
        self.run("vjp", self.t_bar, r_bar)
        return (r_bar,)

    def jvp(self, *tangents: Tensor) -> tuple[Tensor, ...]:
        self.r_dot, t_dot = tangents[0].contiguous(), torch.empty_like(self.t_bar)
        self.run("jvp", self.r_dot, t_dot)
        return (t_dot,)

    def vjp_of_vjp(self, *adjoints: Tensor) -> tuple[Tensor | None, ...]:
        again, grads = adjoints[0].contiguous(), [self.r.new_empty(s) for s in self.shapes]
        lists = [pointers(grads[0::2]), pointers(grads[1::2])]
        self.run("vjp_of_vjp", again, self.t_bar, self.r_dot, lists=lists)
        return None, *grads


class _Net(ctypes.c_void_p):
    """Packed weights of a network."""

    def __init__(self, call: Any, weights: Sequence[Tensor], copies: Sequence[int]) -> None:
        w, b = weights[0::2], weights[1::2]
        widths = (ctypes.c_int64 * (len(w) + 1))(1, *(x.shape[1] for x in w))
        times = (ctypes.c_int32 * len(w))(*copies)
        super().__init__(call.embedding_new(len(w), widths, times, pointers(w), pointers(b)))
        if not self:
            raise MemoryError("there is no memory for the weights of an embedding network")
        self._free = call.embedding_free

    def __del__(self) -> None:
        if self:
            self._free(self)
