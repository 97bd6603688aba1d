# SPDX-License-Identifier: LGPL-3.0-or-later
"""Activated and other sums over segments, by the compiled kernels.

The functions of :mod:`deepmd.pt.fused.activated_sum` and of ``take`` and ``segment_sum``.
"""

import ctypes
from typing import Any

import torch

import deepmd.dpmodel.nn.updates  # noqa: F401  (declares the operation)
from deepmd.dpmodel.ops import register
from deepmd.pt.fused.blocks import Fused, in_blocks
from deepmd.pt.fused.kernels import are_segments, kernels, threads
from deepmd.pt.fused.smooth import parsed

Tensor = torch.Tensor

#: Numbers of activation functions in ``kernels.h``.
_ACTIVATIONS = {"tanh": 1, "silu": 7, "silut": 8}


class _Rows(ctypes.Structure):
    """``deepmd_activated``."""

    _fields_ = (
        ("activation", ctypes.c_int32),
        ("threshold", ctypes.c_double),
        ("rows", ctypes.c_int64),
        ("columns", ctypes.c_int64),
        ("summed", ctypes.c_int64),
        ("weight", ctypes.c_void_p),
        ("segment", ctypes.c_void_p),
    )


def _fits(
    z: Tensor,
    weight: Tensor,
    segment: Tensor,
    n: int,
    width: int,
    activation_function: str,
    *,
    order: int = 3,
) -> bool:
    """Whether the kernels have the activation, and the rows of a segment follow each other."""
    return (
        in_blocks(z, order)
        and parsed(activation_function)[0] in _ACTIVATIONS
        and z.dtype == weight.dtype
        and kernels(z.dtype) is not None
        and are_segments(segment, n, ascending=True)
    )


@register("activated_sum", "torch", device="cpu", when=_fits, priority=1)
def _(
    z: Tensor,
    weight: Tensor,
    segment: Tensor,
    n: int,
    width: int,
    activation_function: str,
    *,
    order: int,
) -> tuple[Tensor, Tensor]:
    return _Sum(order, segment.contiguous(), n, width, activation_function)(z, weight)


class _Sum(Fused):
    """Activation and sums: z (k, c), w (k,) -> sums (n, m), others (k, c - m).

    Weights are switches, which are independent of the parameters.
    """

    moving = 2

    def __init__(self, order: int, segment: Tensor, n: int, m: int, activation: str) -> None:
        super().__init__(order)
        self.segment, self.n, self.m = segment, int(n), m
        self.kind, self.threshold = parsed(activation)

    @property
    def rows(self) -> Any:
        """What the kernels are told of the rows."""
        addresses = self.w.data_ptr(), self.segment.data_ptr()
        kind = _ACTIVATIONS[self.kind]
        return ctypes.byref(_Rows(kind, self.threshold, *self.z.shape, self.m, *addresses))

    def outputs(self) -> tuple[Tensor, Tensor]:
        """New arrays for sums and others."""
        k, c = self.z.shape
        return self.z.new_empty((self.n, self.m)), self.z.new_empty((k, c - self.m))

    def value(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        self.z, self.w = (x.contiguous() for x in inputs)
        self.call = kernels(self.z.dtype)
        found = self.outputs()
        self.call.activated_value(self.rows, self.n, threads(), *_at(self.z, *found))
        return found

    def vjp(self, *adjoints: Tensor) -> tuple[Tensor, ...]:
        self.bars = [x.contiguous() for x in adjoints]
        found = torch.empty_like(self.z), torch.empty_like(self.w)
        self.call.activated_vjp(self.rows, threads(), *_at(self.z, *self.bars, *found))
        return found

    def jvp(self, *tangents: Tensor) -> tuple[Tensor, ...]:
        self.dots = [x.contiguous() for x in tangents]
        found = self.outputs()
        given = _at(self.z, *self.dots, *found)
        self.call.activated_jvp(self.rows, self.n, threads(), *given)
        return found

    def vjp_of_vjp(self, *adjoints: Tensor) -> tuple[Tensor | None, ...]:
        again, out = [x.contiguous() for x in adjoints], torch.empty_like(self.z)
        given = _at(self.z, *again, *self.bars, *self.dots, out)
        self.call.activated_vjp_of_vjp(self.rows, threads(), *given)
        return out, None


def _at(*arrays: Tensor) -> list[int]:
    return [x.data_ptr() for x in arrays]


# -- rows by index, and its transpose -------------------------------------------------------------


def _has_sums(x: Tensor) -> bool:
    """Whether the kernels sum such rows."""
    return (
        in_blocks(x, 0)
        and x.ndim > 1
        and kernels(x.dtype) is not None
        and not torch._C._are_functorch_transforms_active()
    )


def _sums(x: Tensor, index: Tensor, n: int) -> bool:
    """Whether the kernels have a sum over segments in any order."""
    return _has_sums(x) and are_segments(index, n, ascending=False)


def _takes(x: Tensor, index: Tensor) -> bool:
    """Whether rows are taken that have a derivative, which is such a sum."""
    return x.requires_grad and _has_sums(x)


@register("segment_sum", "torch", device="cpu", when=_sums, priority=1)
def _(x: Tensor, segment: Tensor, n: int) -> Tensor:
    return _SegmentSum.apply(x, segment.contiguous(), int(n))


class _SegmentSum(torch.autograd.Function):
    """Sums of rows (k, ...) by index: (n, ...); its derivative takes rows, and back."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, index: Tensor, n: int) -> Tensor:
        ctx.index = index
        x = x.contiguous()
        out = x.new_empty((n, *x.shape[1:]))
        width = x.numel() // len(x)
        address = x.data_ptr(), index.data_ptr(), threads(), out.data_ptr()
        kernels(x.dtype).segment_sum(len(x), width, n, *address)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple:
        return _Take.apply(grads[0], ctx.index), None, None


class _Take(torch.autograd.Function):
    """Rows by an index from 0 on: (n, ...), (k,) -> (k, ...)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, index: Tensor) -> Tensor:
        ctx.index, ctx.n = index, len(x)
        return x.index_select(0, index)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple:
        if not len(ctx.index):
            return grads[0].new_zeros((ctx.n, *grads[0].shape[1:])), None
        return _SegmentSum.apply(grads[0], ctx.index, ctx.n), None


@register("take", "torch", device="cpu", when=_takes, priority=1)
def _(x: Tensor, index: Tensor) -> Tensor:
    flat = index.reshape(-1)
    flat = torch.where(flat < 0, flat + len(x), flat)
    rows = _Take.apply(x, flat)
    return rows if index.ndim == 1 else rows.reshape(*index.shape, *x.shape[1:])
