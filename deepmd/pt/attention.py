# SPDX-License-Identifier: LGPL-3.0-or-later
"""Parts of attention with first and second derivatives, in blocks that stay in the cache."""

from typing import Any

import torch
from torch.autograd.function import once_differentiable

from deepmd.dpmodel.nn.attention import SHIFT, gated_softmax, unit_parts
from deepmd.dpmodel.ops import register
from deepmd.pt import embedding

Tensor = torch.Tensor

#: Numbers in a block.
BLOCK = 1 << 16


def _blocks(x: Tensor) -> list[slice]:
    """Ranges of the first axis."""
    step = max(1, BLOCK // max(x[:1].numel(), 1))
    return [slice(a, a + step) for a in range(0, x.shape[0], step)]


@register("unit_parts", "torch")
def _(x: Tensor, count: int, *, unit: bool) -> list[Tensor]:
    if not unit or not embedding.in_blocks(x):
        reference: Any = unit_parts
        return reference.reference(x, count, unit=unit)
    return list(_Unit.apply(x, count))


def _lengths(x: Tensor) -> tuple[Tensor, Tensor]:
    """Unit vectors along the last axis, and one over the lengths."""
    inverse = torch.linalg.vector_norm(x, dim=-1, keepdim=True).clamp_(min=1e-12).reciprocal_()
    return x * inverse, inverse


def _across(y: Tensor, g: Tensor) -> Tensor:
    """Part of g that is perpendicular to unit vectors y."""
    return torch.addcmul(g, y, (y * g).sum(-1, keepdim=True), value=-1.0)


class _Unit(torch.autograd.Function):
    """x (..., count h) -> unit vectors (..., h) of its parts."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, count: int) -> tuple[Tensor, ...]:
        ctx.save_for_backward(x)
        h = x.shape[-1] // count
        outs = tuple(x.new_empty((*x.shape[:-1], h)) for _ in range(count))
        for b in _blocks(x):
            for part, out in zip(x[b].split(h, -1), outs, strict=True):
                out[b] = _lengths(part)[0]
        return outs

    @staticmethod
    def backward(ctx: Any, *g: Tensor) -> tuple:
        (x,) = ctx.saved_tensors
        return _UnitGradient.apply(x, *g), None


class _UnitGradient(torch.autograd.Function):
    """Adjoints g of unit vectors y = x/|x| -> adjoint of x, (g - y (y·g)) / |x|."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, *gs: Tensor) -> Tensor:
        ctx.save_for_backward(x, *gs)
        out = torch.empty_like(x)
        h = gs[0].shape[-1]
        for b in _blocks(x):
            for part, target, g in zip(x[b].split(h, -1), out[b].split(h, -1), gs, strict=True):
                y, inverse = _lengths(part)
                torch.mul(_across(y, g[b]), inverse, out=target)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, u: Tensor) -> tuple:
        x, *gs = ctx.saved_tensors
        of_x, of_gs = torch.empty_like(x), [torch.empty_like(g) for g in gs]
        h = gs[0].shape[-1]
        for b in _blocks(x):
            columns = [t[b].split(h, -1) for t in (x, u, of_x)]
            for part, along, target, g, of_g in zip(*columns, gs, of_gs, strict=True):
                y, inverse = _lengths(part)
                torch.mul(_across(y, along), inverse, out=of_g[b])
                a, p, q = ((v * w).sum(-1, keepdim=True) for v, w in _pairs(along, g[b], y))
                target.copy_(y * (a - 3.0 * p * q)).addcmul_(along, q).addcmul_(g[b], p)
                target.mul_(inverse.square_().neg_())
        return of_x, *of_gs


def _pairs(u: Tensor, g: Tensor, y: Tensor) -> list[tuple[Tensor, Tensor]]:
    return [(u, g), (y, u), (y, g)]


@register("gated_softmax", "torch")
def _(s: Tensor, pair: Tensor, gate: Tensor, more: int, scale: float) -> Tensor:
    if not embedding.in_blocks(s):
        reference: Any = gated_softmax
        return reference.reference(s, pair, gate, more, scale)
    return _Softmax.apply(s, pair, gate, more, scale)


class _Softmax(torch.autograd.Function):
    """Weights W of the softmax of ``a = (scale s + 20) pair - 20``, times the gate."""

    @staticmethod
    def forward(ctx: Any, s: Tensor, pair: Tensor, gate: Tensor, more: int, scale: float) -> Tensor:
        ctx.save_for_backward(s, pair, gate)
        ctx.scale, ctx.weights = scale, torch.empty_like(s)
        out = torch.empty_like(s)
        for b in _blocks(s):
            a = (s[b] * scale).add_(SHIFT).mul_(pair[b]).sub_(SHIFT)
            top = a.amax(-1, keepdim=True).clamp_(min=-SHIFT)
            e = a.sub_(top).exp_()
            total = e.sum(-1, keepdim=True).add_(top.neg_().sub_(SHIFT).exp_(), alpha=float(more))
            torch.div(e, total, out=ctx.weights[b])
            torch.mul(ctx.weights[b], gate[b], out=out[b])
        return out

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple:
        out = _SoftmaxGradient.apply(g, *ctx.saved_tensors, ctx.weights, ctx.scale)
        return *out, None, None


class _SoftmaxGradient(torch.autograd.Function):
    """Adjoint g of the output -> those of s, pair and gate; the latter two summed over heads.

    With ``y = g gate`` the adjoint of a is ``W (y - Σ W y)``. The derivative with respect to pair,
    which no parameter has a say in, is left out.
    """

    @staticmethod
    def forward(
        ctx: Any, g: Tensor, s: Tensor, pair: Tensor, gate: Tensor, w: Tensor, scale: float
    ) -> tuple[Tensor, ...]:
        ctx.save_for_backward(g, s, pair, gate)
        ctx.weights, ctx.scale = w, scale
        ctx.set_materialize_grads(False)
        of_s, of_pair, of_gate = torch.empty_like(s), torch.empty_like(pair), torch.empty_like(gate)
        for b in _blocks(s):
            of_a = _soft(w[b], g[b] * gate[b])
            torch.mul(of_a, pair[b], out=of_s[b]).mul_(scale)
            of_pair[b] = of_a.mul_((s[b] * scale).add_(SHIFT)).sum(1, keepdim=True)
            of_gate[b] = (g[b] * w[b]).sum(1, keepdim=True)
        return of_s, of_pair, of_gate

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, u: Tensor | None, v: Tensor | None, t: Tensor | None) -> tuple:
        g, s, pair, gate = ctx.saved_tensors
        of_g, of_s, of_gate = torch.empty_like(g), torch.empty_like(s), torch.empty_like(gate)
        u = torch.zeros_like(s) if u is None else u
        v = torch.zeros_like(pair) if v is None else v
        t = torch.zeros_like(gate) if t is None else t
        for b in _blocks(s):
            w, y = ctx.weights[b], g[b] * gate[b]
            along = (u[b] * pair[b]).mul_(ctx.scale)  # how a changes along u and v
            along.addcmul_((s[b] * ctx.scale).add_(SHIFT), v[b])
            centred = along - (w * along).sum(-1, keepdim=True)
            torch.mul(w, torch.addcmul(t[b].expand_as(w), centred, gate[b]), out=of_g[b])
            of_gate[b] = (w * centred).mul_(g[b]).sum(1, keepdim=True)
            total = (w * y).sum(-1, keepdim=True)
            of_w = centred.mul_(y).addcmul_(along, total, value=-1.0).addcmul_(g[b], t[b])
            torch.mul(_soft(w, of_w), pair[b], out=of_s[b])
            of_s[b].addcmul_(w.mul(y.sub_(total)), v[b]).mul_(ctx.scale)
        return of_g, of_s, None, of_gate, None, None


def _soft(w: Tensor, y: Tensor) -> Tensor:
    """Adjoint of logits from that of the weights of a softmax."""
    return w * (y - (w * y).sum(-1, keepdim=True))
