# SPDX-License-Identifier: LGPL-3.0-or-later
"""Attention with first and second derivatives, in blocks that stay in the cache.

The parts here serve one block. Like :class:`deepmd.pt.blocks.Fused` they give a value, and ``pull``,
``push`` and ``pull_again`` its derivatives; tensors are named ``of_x`` for the adjoint of x and
``d_x`` for its change.
"""

import functools
from typing import Any

import torch

from deepmd.dpmodel.nn.attention import (
    SHIFT,
    AttentionArrays,
    AttentionOptions,
    NeighborSlots,
    outer,
)
from deepmd.dpmodel.ops import register
from deepmd.pt.blocks import Blocked, in_blocks

Tensor = torch.Tensor


def _turned(x: Tensor) -> Tensor:
    return x.transpose(-1, -2)


class _Plain:
    """y = z, where vectors are not normalised."""

    def __init__(self, z: Tensor) -> None:
        self.y = z

    def pull(self, of_y: Tensor) -> Tensor:
        self.of_z = of_y
        return of_y

    def push(self, d_z: Tensor) -> Tensor:
        self.d_y = d_z
        return d_z

    def pull_again(self, of_y: Tensor) -> Tensor:
        return of_y


class _Unit(_Plain):
    """y = z / |z| along the last axis.

    The derivative is ``w -> r (w - y <y w>)`` with r = 1/|z| and <> a sum.
    """

    def __init__(self, z: Tensor) -> None:
        self.share = 1.0
        self.r = torch.linalg.vector_norm(z, dim=-1, keepdim=True).clamp_(min=1e-12).reciprocal_()
        self.y = z * self.r

    def mean(self, a: Tensor, b: Tensor) -> Tensor:
        return (a * b).sum(-1, keepdim=True).mul_(self.share)

    def project(self, w: Tensor) -> tuple[Tensor, Tensor]:
        """Return the derivative along w, and <y w>."""
        along = self.mean(self.y, w)
        return torch.addcmul(w, self.y, along, value=-1.0).mul_(self.r), along

    def pull(self, of_y: Tensor) -> Tensor:
        self.of_z, self.of_along = self.project(of_y)
        return self.of_z

    def push(self, d_z: Tensor) -> Tensor:
        self.change = self.mean(self.of_z, d_z)
        self.d_y, self.d_along = self.project(d_z)
        return self.d_y

    def pull_again(self, of_y: Tensor) -> Tensor:
        of_z, _ = self.project(of_y)
        of_z.addcmul_(self.of_z, self.r * self.d_along, value=-1.0)
        of_z.addcmul_(self.d_y, self.r * self.of_along, value=-1.0)
        return of_z.addcmul_(self.y, self.r * self.change, value=-1.0)


class _Normal(_Unit):
    """y = (z - <z>) / sqrt(<(z - <z>)²> + eps), <> a mean over the last axis."""

    def __init__(self, z: Tensor, eps: float) -> None:
        self.share = 1.0 / z.shape[-1]
        z = z - z.mean(-1, keepdim=True)
        self.r = self.mean(z, z).add_(eps).rsqrt_()
        self.y = z.mul_(self.r)

    def project(self, w: Tensor) -> tuple[Tensor, Tensor]:
        return super().project(w - w.mean(-1, keepdim=True))


class _Softmax:
    """p = w gate with w the softmax of ``a = (scale s + 20) pair - 20``.

    s, p (c, ..., K, K); pair and gate may be the same for all heads. Without ``mask`` (c, K), which
    says what columns there are, the switched softmax of :func:`gated_softmax`.
    """

    def __init__(
        self, s: Tensor, pair: Tensor, gate: Tensor, more: int, scale: float, mask: Any = None
    ) -> None:
        self.pair, self.gate, self.scale = pair, gate, scale
        self.lifted = s * scale
        if mask is None:
            self.lifted.add_(SHIFT)
            a = (self.lifted * pair).sub_(SHIFT)
            top = a.amax(-1, keepdim=True).clamp_(min=-SHIFT)
            e = a.sub_(top).exp_()
            total = e.sum(-1, keepdim=True).add_(top.neg_().sub_(SHIFT).exp_(), alpha=float(more))
        else:
            columns = mask[:, None, :]
            a = self.lifted * columns
            e = a.sub_((a + (columns - 1.0) * 1e30).amax(-1, keepdim=True)).mul_(columns)
            e = e.exp_().mul_(columns)
            total = e.sum(-1, keepdim=True)
            total += total == 0.0
        self.w = e.div_(total)
        self.p = self.w * gate

    def logits(self, of_w: Tensor) -> Tensor:
        """Adjoint of a from that of w."""
        return self.w * (of_w - (self.w * of_w).sum(-1, keepdim=True))

    def pull(self, of_p: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the adjoints of s, pair and gate."""
        self.of_p, self.of_a = of_p, self.logits(of_p * self.gate)
        self.of_s = (self.of_a * self.pair).mul_(self.scale)
        return self.of_s, self.of_a * self.lifted, of_p * self.w

    def push(self, d_s: Tensor, d_pair: Tensor, d_gate: Tensor) -> Tensor:
        """Return the change of p."""
        d_a = (d_s * self.pair).mul_(self.scale).addcmul_(self.lifted, d_pair)
        centred = d_a - (self.w * d_a).sum(-1, keepdim=True)
        of_w = self.of_p * self.gate
        total = (self.w * of_w).sum(-1, keepdim=True)
        self.more_of_w = of_w.mul_(centred).addcmul_(d_a, total, value=-1.0)
        self.more_of_w.addcmul_(self.of_p, d_gate)
        self.more_of_s = (self.of_a * d_pair).mul_(self.scale)
        self.d_w = centred.mul_(self.w)
        self.d_p = torch.addcmul(self.w * d_gate, self.d_w, self.gate)
        return self.d_p

    def pull_again(self, of_p: Tensor) -> Tensor:
        """Return the adjoint of s."""
        of_a = self.logits(torch.addcmul(self.more_of_w, of_p, self.gate))
        return of_a.mul_(self.pair).mul_(self.scale).add_(self.more_of_s)


class _Weights:
    """A block of :func:`gated_softmax`: s (c, heads, K, K), pair and gate (c, 1, K, K)."""

    def __init__(self, s: Tensor, pair: Tensor, gate: Tensor, *, more: int, scale: float) -> None:
        self.softmax = _Softmax(s, pair, gate, more, scale)
        self.outputs = (self.softmax.p,)

    def pull(self, of_p: Tensor) -> tuple[Tensor, ...]:
        of_s, *others = self.softmax.pull(of_p)
        return of_s, *(x.sum(1, keepdim=True) for x in others)

    def push(self, *d: Tensor) -> tuple[Tensor]:
        return (self.softmax.push(*d),)

    def pull_again(self, of_p: Tensor) -> tuple[Tensor | None, ...]:
        softmax = self.softmax
        of_gate = (of_p * softmax.w).addcmul_(softmax.of_p, softmax.d_w)
        # Switches, of which pair is made, know no parameters.
        return softmax.pull_again(of_p), None, of_gate.sum(1, keepdim=True)


def _fits(x: Tensor, *others: Any, order: int = 3) -> bool:
    return in_blocks(x, order)


@register("gated_softmax", "torch", device="cpu", when=_fits)
def _(s: Tensor, pair: Tensor, gate: Tensor, more: int, scale: float, *, order: int) -> Tensor:
    part = functools.partial(_Weights, more=more, scale=scale)
    return Blocked(part, order, rows=3, moving=3, numbers=s[0].numel())(s, pair, gate)


class _Layer:
    """A block of an attention layer.

    Features x (c, K, e), switches (c, K) and unit vectors (c, K, 3) move. The weights of the
    projections are (e, 3 h) and (h, e); the outer one is put on v rather than on the sums of v.
    """

    def __init__(self, *arrays: Tensor, options: AttentionOptions, more: int) -> None:
        x, self.sw, self.unit, mask, self.w_in, b_in, self.w_out, b_out, self.gamma, beta = arrays
        c, k, e = x.shape
        self.x, self.dotr = x.reshape(-1, e), options.dotr
        z = torch.addmm(b_in, self.x, self.w_in).view(c, k, 3, -1)
        self.qkv = _Unit(z) if options.normalize else _Plain(z)
        q, key, v = self.qkv.y.unbind(2)
        self.pair = outer(self.sw, self.sw)
        self.cosine = (
            torch.bmm(self.unit, _turned(self.unit))
            if self.dotr
            else torch.ones_like(x[:1, :1, :1])
        )
        self.softmax = _Softmax(
            torch.bmm(q, _turned(key)),
            self.pair,
            self.pair * self.cosine,
            more,
            options.scale,
            None if options.smooth else mask,
        )
        self.v_out = torch.matmul(v, self.w_out)
        z = torch.baddbmm(x + b_out, self.softmax.p, self.v_out)
        self.norm = _Normal(z, options.eps)
        self.outputs = (torch.addcmul(beta, self.norm.y, self.gamma),)

    def pull(self, of_y: Tensor) -> tuple[Tensor, ...]:
        self.of_y = of_y
        of_z = self.norm.pull(of_y * self.gamma)
        of_s, of_pair, of_gate = self.softmax.pull(torch.bmm(of_z, _turned(self.v_out)))
        self.of_v_out = torch.bmm(_turned(self.softmax.p), of_z)
        of_in = self.qkv.pull(self._of_qkv(self.of_v_out, (of_s, self.qkv.y)))
        of_x = torch.addmm(of_z.view_as(self.x), of_in.view(len(self.x), -1), self.w_in.t())
        of_pair.addcmul_(of_gate, self.cosine)
        return (
            of_x.view_as(of_y),
            _both(of_pair, self.sw[..., None])[..., 0],
            _both(of_gate * self.pair, self.unit) if self.dotr else torch.zeros_like(self.unit),
        )

    def _of_qkv(self, of_v_out: Tensor, *terms: tuple[Tensor, Tensor]) -> Tensor:
        """Adjoint of q, k and v; the terms are adjoints of q k with the q and k to go with them."""
        out = torch.empty_like(self.qkv.y)
        for n, (of_s, qkv) in enumerate(terms):
            out[:, :, 0].baddbmm_(of_s, qkv[:, :, 1], beta=min(n, 1))
            out[:, :, 1].baddbmm_(_turned(of_s), qkv[:, :, 0], beta=min(n, 1))
        out[:, :, 2] = torch.matmul(of_v_out, self.w_out.t())
        return out

    def push(self, d_x: Tensor, d_sw: Tensor, d_unit: Tensor) -> tuple[Tensor]:
        self.d_x = d_x.reshape(self.x.shape)
        d_qkv = self.qkv.push((self.d_x @ self.w_in).view_as(self.qkv.y))
        (q, key, _), (d_q, d_key, d_v) = self.qkv.y.unbind(2), d_qkv.unbind(2)
        d_pair = outer(d_sw, self.sw)
        d_pair = d_pair + _turned(d_pair)
        d_gate = d_pair * self.cosine
        if self.dotr:
            d_cosine = torch.bmm(d_unit, _turned(self.unit))
            d_gate.addcmul_(self.pair, d_cosine + _turned(d_cosine))
        d_s = torch.baddbmm(torch.bmm(q, _turned(d_key)), d_q, _turned(key))
        d_p = self.softmax.push(d_s, d_pair, d_gate)
        self.d_v_out = torch.matmul(d_v, self.w_out)
        d_z = torch.baddbmm(d_x, d_p, self.v_out).baddbmm_(self.softmax.p, self.d_v_out)
        return (self.norm.push(d_z) * self.gamma,)

    def pull_again(self, of_y: Tensor) -> tuple[Tensor | None, ...]:
        norm, softmax, qkv = self.norm, self.softmax, self.qkv
        of_gamma = (of_y * norm.y).addcmul_(self.of_y, norm.d_y)
        of_z = norm.pull_again(of_y * self.gamma)
        of_p = torch.bmm(of_z, _turned(self.v_out)).baddbmm_(norm.of_z, _turned(self.d_v_out))
        of_v_out = torch.bmm(_turned(softmax.p), of_z).baddbmm_(_turned(softmax.d_p), norm.of_z)
        of_s = softmax.pull_again(of_p)
        of_qkv = self._of_qkv(of_v_out, (of_s, qkv.y), (softmax.of_s, qkv.d_y))
        of_in = qkv.pull_again(of_qkv).view(len(self.x), -1)
        of_w_in = (self.x.t() @ of_in).addmm_(self.d_x.t(), qkv.of_z.view(len(self.x), -1))
        v, d_v, of_v = (_flat(t) for t in (qkv.y[:, :, 2], qkv.d_y[:, :, 2], of_v_out))
        of_w_out = (v.t() @ of_v).addmm_(d_v.t(), _flat(self.of_v_out))
        of_x = torch.addmm(_flat(of_z), of_in, self.w_in.t()).view_as(of_z)
        of_b_in, of_b_out = of_in.sum(0), _flat(of_z).sum(0)
        of_gamma, of_beta = _flat(of_gamma).sum(0), _flat(of_y).sum(0)
        return of_x, None, None, None, of_w_in, of_b_in, of_w_out, of_b_out, of_gamma, of_beta


def _flat(x: Tensor) -> Tensor:
    """Rows of the last axes: (c, K, ...) -> (c K, ...)."""
    return x.flatten(0, 1)


def _both(a: Tensor, x: Tensor) -> Tensor:
    """Return (a + aᵀ) x."""
    return torch.baddbmm(torch.bmm(a, x), _turned(a), x)


@register("attention_layer", "torch", device="cpu", when=_fits)
def _(
    g: Tensor,
    slots: NeighborSlots,
    arrays: AttentionArrays,
    options: AttentionOptions,
    *,
    order: int,
) -> Tensor:
    sw = slots.switch if options.smooth else slots.mask
    if arrays.b_in is None:
        arrays = arrays._replace(b_in=g.new_zeros(arrays.w_in.shape[1]))
    if arrays.b_out is None:
        arrays = arrays._replace(b_out=g.new_zeros(arrays.w_out.shape[1]))
    part = functools.partial(_Layer, options=options, more=slots.more)
    numbers = g.shape[1] * arrays.w_in.shape[1]
    fused = Blocked(part, order, rows=4, moving=3, numbers=numbers)
    return fused(g, sw, slots.direction, slots.mask, *arrays)
