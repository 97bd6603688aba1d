# SPDX-License-Identifier: LGPL-3.0-or-later
"""Attention with first and second derivatives, in blocks that stay in the cache.

The parts here serve one block. Like :class:`deepmd.pt.fused.blocks.Fused` they have a value, and ``vjp``,
``jvp`` and ``vjp_of_vjp`` for its derivatives; ``x_bar`` is the adjoint of x and ``x_dot`` its tangent.
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
from deepmd.pt.fused.blocks import Blocked, in_blocks

Tensor = torch.Tensor


def _turned(x: Tensor) -> Tensor:
    return x.transpose(-1, -2)


class _Plain:
    """Identity, for vectors that are not normalized."""

    def __init__(self, z: Tensor) -> None:
        self.y = z

    def vjp(self, y_bar: Tensor) -> Tensor:
        self.z_bar = y_bar
        return y_bar

    def jvp(self, z_dot: Tensor) -> Tensor:
        self.y_dot = z_dot
        return z_dot

    def vjp_of_vjp(self, y_bar: Tensor) -> Tensor:
        return y_bar


class _Unit(_Plain):
    """Normalization to unit length, y = z / |z|, along the last axis.

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

    def vjp(self, y_bar: Tensor) -> Tensor:
        self.z_bar, self.along_bar = self.project(y_bar)
        return self.z_bar

    def jvp(self, z_dot: Tensor) -> Tensor:
        self.change = self.mean(self.z_bar, z_dot)
        self.y_dot, self.along_dot = self.project(z_dot)
        return self.y_dot

    def vjp_of_vjp(self, y_bar: Tensor) -> Tensor:
        z_bar, _ = self.project(y_bar)
        z_bar.addcmul_(self.z_bar, self.r * self.along_dot, value=-1.0)
        z_bar.addcmul_(self.y_dot, self.r * self.along_bar, value=-1.0)
        return z_bar.addcmul_(self.y, self.r * self.change, value=-1.0)


class _Normal(_Unit):
    """Layer normalization, (z - <z>) / sqrt(<(z - <z>)²> + eps), <> a mean over the last axis."""

    def __init__(self, z: Tensor, eps: float) -> None:
        self.share = 1.0 / z.shape[-1]
        z = z - z.mean(-1, keepdim=True)
        self.r = self.mean(z, z).add_(eps).rsqrt_()
        self.y = z.mul_(self.r)

    def project(self, w: Tensor) -> tuple[Tensor, Tensor]:
        return super().project(w - w.mean(-1, keepdim=True))


class _Softmax:
    """Gated softmax, p = w gate with w the softmax of ``a = (scale s + 20) pair - 20``.

    s, p (c, ..., K, K); pair and gate may be the same for all heads. Without ``mask`` (c, K), which
    is 1 for the columns there are, the switched softmax of :func:`gated_softmax`.
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

    def logits(self, w_bar: Tensor) -> Tensor:
        """Adjoint of a from that of w."""
        return self.w * (w_bar - (self.w * w_bar).sum(-1, keepdim=True))

    def vjp(self, p_bar: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the adjoints of s, pair and gate."""
        self.p_bar, self.a_bar = p_bar, self.logits(p_bar * self.gate)
        self.s_bar = (self.a_bar * self.pair).mul_(self.scale)
        return self.s_bar, self.a_bar * self.lifted, p_bar * self.w

    def jvp(self, s_dot: Tensor, pair_dot: Tensor, gate_dot: Tensor) -> Tensor:
        """Return the tangent of p."""
        a_dot = (s_dot * self.pair).mul_(self.scale).addcmul_(self.lifted, pair_dot)
        centered = a_dot - (self.w * a_dot).sum(-1, keepdim=True)
        w_bar = self.p_bar * self.gate
        total = (self.w * w_bar).sum(-1, keepdim=True)
        self.w_bar_dot = w_bar.mul_(centered).addcmul_(a_dot, total, value=-1.0)
        self.w_bar_dot.addcmul_(self.p_bar, gate_dot)
        self.s_bar_dot = (self.a_bar * pair_dot).mul_(self.scale)
        self.w_dot = centered.mul_(self.w)
        self.p_dot = torch.addcmul(self.w * gate_dot, self.w_dot, self.gate)
        return self.p_dot

    def vjp_of_vjp(self, p_bar: Tensor) -> Tensor:
        """Return the adjoint of s."""
        a_bar = self.logits(torch.addcmul(self.w_bar_dot, p_bar, self.gate))
        return a_bar.mul_(self.pair).mul_(self.scale).add_(self.s_bar_dot)


class _Weights:
    """Block of :func:`gated_softmax`: s (c, heads, K, K), pair and gate (c, 1, K, K)."""

    def __init__(self, s: Tensor, pair: Tensor, gate: Tensor, *, more: int, scale: float) -> None:
        self.softmax = _Softmax(s, pair, gate, more, scale)
        self.outputs = (self.softmax.p,)

    def vjp(self, p_bar: Tensor) -> tuple[Tensor, ...]:
        s_bar, *others = self.softmax.vjp(p_bar)
        return s_bar, *(x.sum(1, keepdim=True) for x in others)

    def jvp(self, *d: Tensor) -> tuple[Tensor]:
        return (self.softmax.jvp(*d),)

    def vjp_of_vjp(self, p_bar: Tensor) -> tuple[Tensor | None, ...]:
        softmax = self.softmax
        gate_bar = (p_bar * softmax.w).addcmul_(softmax.p_bar, softmax.w_dot)
        # Pair is made of switches, which are independent of the parameters.
        return softmax.vjp_of_vjp(p_bar), None, gate_bar.sum(1, keepdim=True)


def _fits(x: Tensor, *others: Any, order: int = 3, **named: Any) -> bool:
    return in_blocks(x, order)


@register("gated_softmax", "torch", device="cpu", when=_fits)
def _(s: Tensor, pair: Tensor, gate: Tensor, more: int, scale: float, *, order: int) -> Tensor:
    part = functools.partial(_Weights, more=more, scale=scale)
    return Blocked(part, order, rows=3, moving=3, elements=s[0].numel())(s, pair, gate)


class _Layer:
    """Block of an attention layer.

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

    def vjp(self, y_bar: Tensor) -> tuple[Tensor, ...]:
        self.y_bar = y_bar
        z_bar = self.norm.vjp(y_bar * self.gamma)
        s_bar, pair_bar, gate_bar = self.softmax.vjp(torch.bmm(z_bar, _turned(self.v_out)))
        self.v_out_bar = torch.bmm(_turned(self.softmax.p), z_bar)
        in_bar = self.qkv.vjp(self._qkv_bar(self.v_out_bar, (s_bar, self.qkv.y)))
        x_bar = torch.addmm(z_bar.view_as(self.x), in_bar.view(len(self.x), -1), self.w_in.t())
        pair_bar.addcmul_(gate_bar, self.cosine)
        return (
            x_bar.view_as(y_bar),
            _both(pair_bar, self.sw[..., None])[..., 0],
            _both(gate_bar * self.pair, self.unit) if self.dotr else torch.zeros_like(self.unit),
        )

    def _qkv_bar(self, v_out_bar: Tensor, *terms: tuple[Tensor, Tensor]) -> Tensor:
        """Adjoint of q, k and v; the terms are adjoints of q k, each with its q and k."""
        out = torch.empty_like(self.qkv.y)
        for n, (s_bar, qkv) in enumerate(terms):
            out[:, :, 0].baddbmm_(s_bar, qkv[:, :, 1], beta=min(n, 1))
            out[:, :, 1].baddbmm_(_turned(s_bar), qkv[:, :, 0], beta=min(n, 1))
        out[:, :, 2] = torch.matmul(v_out_bar, self.w_out.t())
        return out

    def jvp(self, x_dot: Tensor, sw_dot: Tensor, unit_dot: Tensor) -> tuple[Tensor]:
        self.x_dot = x_dot.reshape(self.x.shape)
        qkv_dot = self.qkv.jvp((self.x_dot @ self.w_in).view_as(self.qkv.y))
        (q, key, _), (q_dot, key_dot, v_dot) = self.qkv.y.unbind(2), qkv_dot.unbind(2)
        pair_dot = outer(sw_dot, self.sw)
        pair_dot = pair_dot + _turned(pair_dot)
        gate_dot = pair_dot * self.cosine
        if self.dotr:
            cosine_dot = torch.bmm(unit_dot, _turned(self.unit))
            gate_dot.addcmul_(self.pair, cosine_dot + _turned(cosine_dot))
        s_dot = torch.baddbmm(torch.bmm(q, _turned(key_dot)), q_dot, _turned(key))
        p_dot = self.softmax.jvp(s_dot, pair_dot, gate_dot)
        self.v_out_dot = torch.matmul(v_dot, self.w_out)
        z_dot = torch.baddbmm(x_dot, p_dot, self.v_out).baddbmm_(self.softmax.p, self.v_out_dot)
        return (self.norm.jvp(z_dot) * self.gamma,)

    def vjp_of_vjp(self, y_bar: Tensor) -> tuple[Tensor | None, ...]:
        norm, softmax, qkv = self.norm, self.softmax, self.qkv
        gamma_bar = (y_bar * norm.y).addcmul_(self.y_bar, norm.y_dot)
        z_bar = norm.vjp_of_vjp(y_bar * self.gamma)
        p_bar = torch.bmm(z_bar, _turned(self.v_out)).baddbmm_(norm.z_bar, _turned(self.v_out_dot))
        v_out_bar = torch.bmm(_turned(softmax.p), z_bar).baddbmm_(
            _turned(softmax.p_dot), norm.z_bar
        )
        s_bar = softmax.vjp_of_vjp(p_bar)
        qkv_bar = self._qkv_bar(v_out_bar, (s_bar, qkv.y), (softmax.s_bar, qkv.y_dot))
        in_bar = qkv.vjp_of_vjp(qkv_bar).view(len(self.x), -1)
        w_in_bar = (self.x.t() @ in_bar).addmm_(self.x_dot.t(), qkv.z_bar.view(len(self.x), -1))
        v, v_dot, v_bar = (_flat(t) for t in (qkv.y[:, :, 2], qkv.y_dot[:, :, 2], v_out_bar))
        w_out_bar = (v.t() @ v_bar).addmm_(v_dot.t(), _flat(self.v_out_bar))
        x_bar = torch.addmm(_flat(z_bar), in_bar, self.w_in.t()).view_as(z_bar)
        b_in_bar, b_out_bar = in_bar.sum(0), _flat(z_bar).sum(0)
        gamma_bar, beta_bar = _flat(gamma_bar).sum(0), _flat(y_bar).sum(0)
        return (
            x_bar,
            None,
            None,
            None,
            w_in_bar,
            b_in_bar,
            w_out_bar,
            b_out_bar,
            gamma_bar,
            beta_bar,
        )


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
    elements = g.shape[1] * arrays.w_in.shape[1]
    fused = Blocked(part, order, rows=4, moving=3, elements=elements)
    return fused(g, sw, slots.direction, slots.mask, *arrays)
