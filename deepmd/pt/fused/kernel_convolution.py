# SPDX-License-Identifier: LGPL-3.0-or-later
"""Convolutions of DPA-2 by the compiled kernels, center by center; see ``source/training``."""

import ctypes

import torch

import deepmd.dpmodel.nn.updates  # noqa: F401  (declares the operation)
from deepmd.dpmodel.ops import register
from deepmd.pt.fused.blocks import Fused, in_blocks
from deepmd.pt.fused.kernels import kernels, pointers, threads

Tensor = torch.Tensor


class _Convolution(ctypes.Structure):
    """``deepmd_convolution``."""

    _fields_ = (
        *((name, ctypes.c_int64) for name in ("n", "k", "a", "c")),
        *((name, ctypes.c_void_p) for name in ("w", "y", "f", "h", "state")),
        ("threads", ctypes.c_int32),
    )


def _fits(near: Tensor, pairs: Tensor, directions: Tensor, w: Tensor, *, order: int = 3) -> bool:
    """Whether the kernels have these arrays."""
    return (
        in_blocks(near, order)
        and all(x.dtype == near.dtype for x in (pairs, directions, w))
        and kernels(near.dtype) is not None
    )


@register("convolution", "torch", device="cpu", when=_fits)
def _(
    near: Tensor, pairs: Tensor, directions: Tensor, w: Tensor, *, order: int
) -> tuple[Tensor, Tensor]:
    return _Sums(order)(near, pairs, directions, w)


class _Sums(Fused):
    """Features (n, k, c), (n, k, a), (n, k, 3) and w (a, c) -> sums (n, c), moments (n, 3, c)."""

    moving = 3

    def value(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        *rows, w = self.inputs = [x.contiguous() for x in inputs]
        (n, k, c), a = rows[0].shape, len(w)
        places = (x.data_ptr() for x in (w, *rows))
        self.layer = _Convolution(n, k, a, c, *places, None, threads())
        size = kernels(w.dtype).convolution_state(ctypes.byref(self.layer))
        self.state = w.new_empty(size)
        self.layer.state = self.state.data_ptr()
        outputs = w.new_empty((n, c)), w.new_empty((n, 3, c))
        self._run("value", *(x.data_ptr() for x in outputs))
        return outputs

    def _run(self, name: str, *arguments: object) -> None:
        function = getattr(kernels(self.state.dtype), f"convolution_{name}")
        function(ctypes.byref(self.layer), *arguments)

    def vjp(self, *adjoints: Tensor) -> tuple[Tensor, ...]:
        self.bar = [x.contiguous() for x in adjoints]
        found = tuple(torch.empty_like(x) for x in self.inputs[:3])
        self._run("vjp", pointers(self.bar), pointers(found))
        return found

    def jvp(self, *tangents: Tensor) -> tuple[Tensor, ...]:
        self.dot = [x.contiguous() for x in tangents]
        found = tuple(torch.empty_like(x) for x in self.bar)
        self._run("jvp", pointers(self.dot), *(x.data_ptr() for x in found))
        return found

    def vjp_of_vjp(self, *adjoints: Tensor) -> tuple[Tensor | None, ...]:
        again = [x.contiguous() for x in adjoints]
        found = tuple(torch.empty_like(x) for x in self.inputs)
        arrays = (pointers(x) for x in (again, self.bar, self.dot, found[:3]))
        self._run("vjp_of_vjp", *arrays, found[3].data_ptr())
        return found
