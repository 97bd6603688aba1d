# SPDX-License-Identifier: LGPL-3.0-or-later
"""Activated rows summed over segments, with first and second derivatives, in blocks.

Rows z are activated, ``y = f(z)``; some columns are weighted and summed over segments,
``S_a = Σ_{r in a} w_r y_r``, the others are handed out. In terms of the adjoints A of S and R of the
others, with ``ȳ = (w A_a, R)``, the adjoint of z is ``ȳ f'(z)`` and that of w is ``y · A_a``.
"""

import torch

import deepmd.dpmodel.nn.updates  # noqa: F401  (declares the operation)
from deepmd.dpmodel.ops import register
from deepmd.pt.fused import blocks
from deepmd.pt.fused.blocks import Fused, in_blocks, ranges
from deepmd.pt.fused.smooth import Smooth, smooth

Tensor = torch.Tensor


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
    """Whether there is a fast form of the activation, and of the derivatives."""
    return in_blocks(z, order) and smooth(activation_function) is not None


@register("activated_sum", "torch", device="cpu", when=_fits)
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
    f = smooth(activation_function)
    assert f is not None
    return _Sum(order, segment, n, width, f)(z, weight)


class _Sum(Fused):
    """Activation and sums: z (k, c), w (k,) -> sums (n, m), others (k, c - m).

    Weights are switches, which are independent of the parameters.
    """

    moving = 2

    def __init__(self, order: int, segment: Tensor, n: int, m: int, f: Smooth) -> None:
        super().__init__(order)
        self.segment, self.n, self.m, self.f = segment, n, m, f

    def value(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        self.z, self.w = z, w = inputs
        m = self.m
        self.blocks = ranges(len(z), blocks.BLOCK // z.shape[1])
        sums, others = z.new_zeros((self.n, m)), z.new_empty((len(z), z.shape[1] - m))
        for b in self.blocks:
            (y,) = self.f(z[b], 0)
            others[b] = y[:, m:]
            if m:
                sums.index_add_(0, self.segment[b], y[:, :m].mul_(w[b, None]))
        return sums, others

    def vjp(self, *adjoints: Tensor) -> tuple[Tensor, ...]:
        self.sums_bar, self.others_bar = adjoints
        z_bar, w_bar = torch.empty_like(self.z), torch.zeros_like(self.w)
        for b in self.blocks:
            y, slope = self.f(self.z[b], 1)
            near = self.write_y_bar(b, z_bar[b], *adjoints)
            z_bar[b].mul_(slope)
            if self.m:
                w_bar[b] = y[:, : self.m].mul_(near).sum(1)
        return z_bar, w_bar

    def write_y_bar(self, b: slice, out: Tensor, sums_bar: Tensor, others_bar: Tensor) -> Tensor:
        """Write the adjoint of activated rows, and return that of the sums they are in."""
        out[:, self.m :] = others_bar[b]
        near = sums_bar.index_select(0, self.segment[b])
        torch.mul(near, self.w[b, None], out=out[:, : self.m])
        return near

    def jvp(self, *tangents: Tensor) -> tuple[Tensor, ...]:
        self.z_dot, self.w_dot = tangents
        sums_dot, others_dot = torch.zeros_like(self.sums_bar), torch.empty_like(self.others_bar)
        for b in self.blocks:
            y, slope = self.f(self.z[b], 1)
            y_dot = slope.mul_(self.z_dot[b])
            others_dot[b] = y_dot[:, self.m :]
            if self.m:
                change = y_dot[:, : self.m].mul_(self.w[b, None])
                change.addcmul_(y[:, : self.m], self.w_dot[b, None])
                sums_dot.index_add_(0, self.segment[b], change)
        return sums_dot, others_dot

    def vjp_of_vjp(self, *adjoints: Tensor) -> tuple[Tensor | None, ...]:
        out = torch.empty_like(self.z)
        for b in self.blocks:
            _, slope, bend = self.f(self.z[b], 2)
            self.write_y_bar(b, out[b], *adjoints)
            y_dot_bar = torch.empty_like(slope)
            near = self.write_y_bar(b, y_dot_bar, self.sums_bar, self.others_bar)
            out[b, : self.m].addcmul_(near, self.w_dot[b, None])
            out[b].mul_(slope).addcmul_(y_dot_bar.mul_(bend), self.z_dot[b])
        return out, None
