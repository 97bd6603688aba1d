# SPDX-License-Identifier: LGPL-3.0-or-later
"""Activated rows summed over segments, with first and second derivatives, in blocks.

Rows z are activated, ``y = f(z)``; some columns are weighted and summed over segments,
``S_a = Σ_{r in a} w_r y_r``, the others are handed out. In terms of the adjoints A of S and R of the
others, with ``ȳ = (w A_a, R)``, the adjoint of z is ``ȳ f'(z)`` and that of w is ``y · A_a``. Both
are linear in A and R; :class:`_Gradient` differentiates them once more. A block of rows stays in
the cache during all of this.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch.autograd.function import once_differentiable
from torch.fx.experimental.proxy_tensor import get_proxy_mode

from deepmd.dpmodel.nn.updates import activated_sum
from deepmd.dpmodel.ops import register
from deepmd.pt.smooth import smooth

Tensor = torch.Tensor

#: Numbers in a block.
BLOCK = 1 << 16


@register("activated_sum", "torch")
def _(
    z: Tensor, weight: Tensor, segment: Tensor, n: int, width: int, activation_function: str
) -> tuple[Tensor, Tensor]:
    f = smooth(activation_function)
    traced = get_proxy_mode() is not None or torch.compiler.is_compiling()
    if f is None or traced or z.device.type != "cpu":
        reference: Any = activated_sum
        return reference.reference(z, weight, segment, n, width, activation_function)
    return _Sum.apply(z, weight, segment, n, width, f)


def _blocks(z: Tensor) -> list[slice]:
    step = max(1, BLOCK // max(z.shape[1], 1))
    return [slice(a, a + step) for a in range(0, z.shape[0], step)]


class _Sum(torch.autograd.Function):
    """z (k, c), w (k,) -> sums (n, m), others (k, c - m)."""

    @staticmethod
    def forward(
        ctx: Any, z: Tensor, w: Tensor, segment: Tensor, n: int, m: int, f: Callable
    ) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(z, w, segment)
        ctx.n, ctx.m, ctx.f = n, m, f
        sums, others = z.new_zeros((n, m)), z.new_empty((z.shape[0], z.shape[1] - m))
        for b in _blocks(z):
            (y,) = f(z[b], 0)
            others[b] = y[:, m:]
            if m:
                sums.index_add_(0, segment[b], y[:, :m].mul_(w[b, None]))
        return sums, others

    @staticmethod
    def backward(ctx: Any, a: Tensor, r: Tensor) -> tuple:
        z, w, segment = ctx.saved_tensors
        return *_Gradient.apply(a, r, z, w, segment, ctx.f), None, None, None, None


class _Gradient(torch.autograd.Function):
    """Adjoints a (n, m), r (k, c - m) -> those of z (k, c) and w (k,)."""

    @staticmethod
    def forward(
        ctx: Any, a: Tensor, r: Tensor, z: Tensor, w: Tensor, segment: Tensor, f: Callable
    ) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(a, r, z, w, segment)
        ctx.f = f
        ctx.set_materialize_grads(False)
        m = a.shape[1]
        of_z, of_w = torch.empty_like(z), torch.zeros_like(w)
        for b in _blocks(z):
            y, slope = f(z[b], 1)
            target = of_z[b]
            target[:, m:] = r[b]
            if m:
                near = a.index_select(0, segment[b])
                of_w[b] = y[:, :m].mul_(near).sum(1)
                torch.mul(near, w[b, None], out=target[:, :m])
            target.mul_(slope)
        return of_z, of_w

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, u: Tensor | None, v: Tensor | None) -> tuple:
        """From the adjoints u of the first result and v of the second."""
        a, r, z, w, segment = ctx.saved_tensors
        m = a.shape[1]
        of_a, of_r = torch.zeros_like(a), torch.empty_like(r)
        of_z, of_w = torch.empty_like(z), torch.zeros_like(w)
        u = torch.zeros_like(z) if u is None else u
        for b in _blocks(z):
            y, slope, bend = ctx.f(z[b], 2)
            index = segment[b]
            along = u[b] * slope  # how y changes along u
            of_r[b] = along[:, m:]
            target = of_z[b]
            target[:, m:] = r[b]
            if m:
                near = a.index_select(0, index)
                torch.mul(near, w[b, None], out=target[:, :m])
            target.mul_(bend).mul_(u[b])
            if m:
                of_w[b] = (along[:, :m] * near).sum(1)
                change = along[:, :m].mul_(w[b, None])
                if v is not None:
                    change.addcmul_(y[:, :m], v[b, None])
                    target[:, :m].addcmul_(near.mul_(v[b, None]), slope[:, :m])
                of_a.index_add_(0, index, change)
        return of_a, of_r, of_z, of_w, None, None
