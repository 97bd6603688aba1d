# SPDX-License-Identifier: LGPL-3.0-or-later
"""Sum over neighbors of an embedded scalar times its row, in blocks that stay in the cache.

With ``G`` the network of the first component ``s`` of a row ``r`` (c numbers), the sum over the
neighbors k of one center is ``T = Σ_k r_k ⊗ G(s_k)``. The network's derivative ``G'`` is carried
along with its value, so that the gradient with respect to the rows needs no sweep back through the
network, and one sweep back gives the parameters' gradients of a loss of both energy and force.

Within a block channels come first, (width, rows): matrix products of this shape run fastest, and
both parts of a residual are contiguous.
"""

import functools
from collections.abc import Callable, Sequence

import torch

from deepmd.dpmodel.nn.layers import DenseArrays, DenseOptions
from deepmd.dpmodel.ops import register
from deepmd.pt.fused.blocks import Blocked, in_blocks, in_file
from deepmd.pt.torchscript.embedding import embed_contract as traced_embed_contract

Tensor = torch.Tensor
Layers = Sequence[DenseArrays]
Options = Sequence[DenseOptions]


def are_tanh(layers: Layers, options: Options) -> bool:
    """Whether all layers are activated by tanh, and have biases and no time steps."""
    return all(o.activation_function == "tanh" for o in options) and all(
        layer.b is not None and layer.idt is None for layer in layers
    )


def _tanh_and(runs: Callable[[Tensor, Tensor | None, int], bool]) -> Callable[..., bool]:
    """Return a condition of a form: all layers are activated by tanh, and ``runs(r, table, order)``."""

    def fits(
        r: Tensor,
        layers: Layers,
        options: Options,
        table: Tensor | None = None,
        index: Tensor | None = None,
        *,
        order: int = 3,
    ) -> bool:
        return runs(r, table, order) and are_tanh(layers, options)

    return fits


@register(
    "embed_contract",
    "torch",
    when=_tanh_and(lambda r, table, order: in_file(order) and table is None),
)
def _(
    r: Tensor,
    layers: Layers,
    options: Options,
    table: None = None,
    index: None = None,
    *,
    order: int,
) -> Tensor:
    return traced_embed_contract(r, layers, options)


@register(
    "embed_contract",
    "torch",
    device="cpu",
    when=_tanh_and(lambda r, table, order: in_blocks(r, order)),
)
def by_blocks(
    r: Tensor,
    layers: Layers,
    options: Options,
    table: Tensor | None = None,
    index: Tensor | None = None,
    *,
    order: int,
) -> Tensor:
    """The network for every row, in blocks."""
    weights = [p for layer in layers for p in (layer.w, layer.b)]
    if table is not None:
        weights[:2] = weights[0][:1], table
    times = [o.copies for o in options]
    rows = [r]
    if table is not None and index is not None:
        times[0] = 0
        rows.append(index.expand(r.shape[:2]) % table.shape[0])
    fixed = [w.detach() for w in weights]
    inner = [_Layer(*parts) for parts in zip(fixed[::2], fixed[1::2], times, strict=True)]
    elements = r.shape[1] * inner[-1].w.shape[1]
    part = functools.partial(_Part, layers=inner, order=order)
    return Blocked(part, order, rows=len(rows), moving=1, elements=elements)(*rows, *weights)


class _Layer:
    """Weights (width, n_in), biases (width, t), and copies of the input that are added: 0, 1 or 2."""

    def __init__(self, w: Tensor, b: Tensor, times: int) -> None:
        self.w, self.wt, self.times = w, w.t().contiguous(), times
        self.twice_b = b.reshape(-1, w.shape[1]).t() * 2.0


class _Part:
    """Block of rows (c, k, m), and values and derivatives of the layers.

    With ``kinds`` (c, k) the first layer has several biases, a row of its table each.
    """

    def __init__(self, r: Tensor, *others: Tensor, layers: list[_Layer], order: int) -> None:
        self.r, self.layers = r, layers
        self.shapes = [w.shape for w in others[-2 * len(layers) :]]
        self.kinds = others[0].reshape(-1) if len(others) > len(self.shapes) else None
        hidden = self.forward(r[..., 0].reshape(-1))
        self.hidden = hidden if order > 1 else hidden[-1:]
        self.outputs = (torch.bmm(self.per_center(hidden[-1][0]), r),)

    def per_center(self, h: Tensor) -> Tensor:
        """Split the rows of (width, c k) by center: (c, width, k), a view."""
        return h.view(len(h), len(self.r), -1).transpose(0, 1)

    def vjp(self, t_bar: Tensor) -> tuple[Tensor]:
        self.t_bar = t_bar
        value, slope = (self.per_center(h) for h in self.hidden[-1])
        out = torch.bmm(value.transpose(1, 2), t_bar)
        along = torch.bmm(t_bar, self.r.transpose(1, 2)).mul_(slope)
        out[..., 0] += along.sum(1)
        return (out,)

    def jvp(self, r_dot: Tensor) -> tuple[Tensor]:
        self.r_dot = r_dot
        value, slope = (self.per_center(h) for h in self.hidden[-1])
        return (torch.bmm(value, r_dot).baddbmm_(slope, self.r * r_dot[..., :1]),)

    def vjp_of_vjp(self, t_bar: Tensor) -> tuple[Tensor | None, ...]:
        """Adjoints of the parameters, of which the row's first component is independent."""
        left = torch.cat([t_bar, self.t_bar], dim=-1)
        right = torch.cat([self.r, self.r_dot], dim=-1)
        value_bar, slope_bar = self.r.new_empty((2, left.shape[1], right.shape[:2].numel()))
        torch.bmm(left, right.transpose(1, 2), out=self.per_center(value_bar))
        lever = (self.r * self.r_dot[..., :1]).transpose(1, 2)
        torch.bmm(self.t_bar, lever, out=self.per_center(slope_bar))
        grads = [self.r.new_zeros(shape) for shape in self.shapes]
        self.backward(value_bar, slope_bar, grads)
        return None, *([] if self.kinds is None else [None]), *grads

    # -- the network ----------------------------------------------------------------------------

    def forward(self, s: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Value and derivative (width, b) of every layer, from s (b,)."""
        h, d = s[None, :], torch.ones_like(s)[None, :]
        out, kinds = [(h, d)], self.kinds
        for layer in self.layers:
            # tanh(x) = 2 sigmoid(2 x) - 1: exact to the last digit of 1, and four times faster.
            bias = layer.twice_b if kinds is None else layer.twice_b.index_select(1, kinds)
            kinds = None  # the first layer's
            value = torch.addmm(bias, layer.wt, h, alpha=2.0).sigmoid_()
            value.mul_(2.0).sub_(1.0)
            slope = torch.mm(layer.wt, d)
            slope.addcmul_(value * value, slope, value=-1.0)
            _add_input(value, h, layer.times)
            _add_input(slope, d, layer.times)
            h, d = value, slope
            out.append((h, d))
        return out

    def backward(self, value_bar: Tensor, slope_bar: Tensor, grads: list[Tensor]) -> None:
        """Add the adjoints of the parameters, from those (width, b) of the last layer."""
        for k in range(len(self.layers) - 1, -1, -1):
            layer, (h, d) = self.layers[k], self.hidden[k]
            value = _without_input(self.hidden[k + 1][0], h, layer.times)
            slope = _without_input(self.hidden[k + 1][1], d, layer.times)
            cross = value * slope
            factor = torch.addcmul(value.new_ones(()), value, value, value=-1.0)
            inner_value = torch.mul(value_bar, factor)
            inner_value.addcmul_(cross, slope_bar, value=-2.0)
            inner_slope = torch.mul(slope_bar, factor, out=factor)
            grads[2 * k].addmm_(h, inner_value.t()).addmm_(d, inner_slope.t())
            if k == 0 and self.kinds is not None:
                grads[1].index_add_(0, self.kinds, inner_value.t())
                return
            grads[2 * k + 1].add_(inner_value.sum(1))
            if k == 0:
                return
            value_bar = _to_input(layer, inner_value, value_bar)
            slope_bar = _to_input(layer, inner_slope, slope_bar)


def _add_input(y: Tensor, h: Tensor, times: int) -> None:
    """Add the input (w, b) of a layer to its output, in place."""
    if times:
        y.view(times, *h.shape).add_(h)


def _without_input(y: Tensor, h: Tensor, times: int) -> Tensor:
    """Output of a layer without its input (w, b)."""
    return (y.view(times, *h.shape) - h).view(y.shape) if times else y


def _to_input(layer: _Layer, inner: Tensor, outer: Tensor) -> Tensor:
    """Adjoint of a layer's input, from those of its linear part and its output."""
    below = torch.mm(layer.w, inner)
    for part in outer.view(layer.times, *below.shape) if layer.times else ():
        below.add_(part)
    return below
