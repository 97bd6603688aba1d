# SPDX-License-Identifier: LGPL-3.0-or-later
"""Sum over neighbours of an embedded scalar times its row, in blocks that stay in the cache.

With ``G`` the network of the first component ``s`` of a row ``r`` (c numbers), the sum over the
neighbours k of one centre is ``T = Σ_k r_k ⊗ G(s_k)``. The network's derivative ``G'`` is carried
along with its value, so that the gradient with respect to the rows needs no sweep back through the
network, and one sweep back gives the parameters' gradients of a loss of both energy and force.

Within a block channels come first, (width, rows): matrix products of this shape run fastest, and
both parts of a residual are contiguous. Autograd's graph has three nodes, so that it runs only what
is asked for:

* ``_Value``: rows -> T; its derivative is ``_RowGradient``, a function of ``A = ∂E/∂T``.
* ``_RowGradient``: A -> ∂E/∂r; its derivative with respect to A is computed at once. What it means
  for the parameters travels on as the "gradient" of two carriers, zeros that
* ``_Parameters`` (parameters -> zeros added to T, carriers) puts out, and which thus receives all
  three adjoints together.

Third derivatives, and second ones with respect to the rows, do not exist in this form:
:func:`allowed` says where nobody can ask for them.
"""

from typing import Any

import torch
from torch.autograd.function import once_differentiable

from deepmd.dpmodel import ops
from deepmd.dpmodel.ops import register
from deepmd.pt import blocks, script_embedding
from deepmd.pt.blocks import in_blocks, in_file

Tensor = torch.Tensor

#: Rows of a block: 100 channels of them are half a megabyte.
BLOCK_ROWS = 640


def _fits(r: Tensor, network: Any) -> bool:
    """Whether the fused form applies here."""
    return (in_file() or in_blocks(r)) and all(
        layer.activation_function == "tanh" and layer.idt is None and layer.b is not None
        for layer in network.layers
    )


@register("embed_contract", "torch")
def _(r: Tensor, network: Any, table: Tensor | None = None, index: Tensor | None = None) -> Tensor:
    if not _fits(r, network) or (in_file() and table is not None):
        reference: Any = ops.embed_contract
        return reference.reference(r, network, table, index)
    if in_file():
        return script_embedding.embed_contract(r, list(network.layers))
    weights = [p for layer in network.layers for p in (layer.w, layer.b)]
    if table is not None:
        weights[:2] = weights[0][:1], table
    times = [script_embedding.residual(layer) for layer in network.layers]
    if table is not None and index is not None:
        times[0] = 0
        index = index.expand(r.shape[:2]).reshape(-1) % table.shape[0]
    state = _State(r.detach(), [w.detach() for w in weights], times, index)
    carriers: tuple[Any, ...] = (None, None)
    zero = None
    if blocks._PARAMETERS.get() and any(w.requires_grad for w in weights):
        zero, *carriers = _Parameters.apply(state, *weights)
    value = _Value.apply(r, state, tuple(carriers))
    return value if zero is None else value + zero


class _Layer:
    """Weights (width, n_in), biases (width, t), and how often the input is added: 0, 1 or 2."""

    def __init__(self, w: Tensor, b: Tensor, times: int) -> None:
        self.w, self.wt, self.times = w, w.t().contiguous(), times
        self.twice_b = b.reshape(-1, w.shape[1]).t() * 2.0


class _State:
    """Rows (n, k, c), the network, and per block the values and derivatives of its layers.

    With ``index`` (n k,) the first layer has several biases, a row of ``weights[1]`` each.
    """

    def __init__(
        self, r: Tensor, weights: list[Tensor], times: list[int], index: Tensor | None
    ) -> None:
        self.r, self.index = r, index
        self.layers = [
            _Layer(*parts) for parts in zip(weights[::2], weights[1::2], times, strict=True)
        ]
        self.shapes = [w.shape for w in weights]
        self.hidden: list[list[tuple[Tensor, Tensor]]] = []
        n, k, self.c = r.shape
        self.width = self.layers[-1].w.shape[1]
        step = max(1, BLOCK_ROWS // k)
        self.blocks = [slice(a, min(a + step, n)) for a in range(0, n, step)]

    def per_centre(self, h: Tensor, n: int) -> Tensor:
        """Split the rows of (width, n k) by centre: (n, width, k), a view."""
        return h.view(self.width, n, -1).transpose(0, 1)

    # -- the network on one block -------------------------------------------------------------

    def kinds(self, block: slice) -> Tensor | None:
        """Which bias every row of a block takes."""
        k = self.r.shape[1]
        return None if self.index is None else self.index[block.start * k : block.stop * k]

    def forward(self, s: Tensor, kinds: Tensor | None) -> list[tuple[Tensor, Tensor]]:
        """Value and derivative (width, b) of every layer, from s (b,)."""
        h, d = s[None, :], torch.ones_like(s)[None, :]
        out = [(h, d)]
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

    def backward(
        self,
        hidden: list[tuple[Tensor, Tensor]],
        of_value: Tensor,
        of_slope: Tensor,
        grads: list[Tensor],
        kinds: Tensor | None,
    ) -> None:
        """Add what the adjoints (width, b) of the last layer mean for the parameters."""
        for k in range(len(self.layers) - 1, -1, -1):
            layer, (h, d) = self.layers[k], hidden[k]
            value = _without_input(hidden[k + 1][0], h, layer.times)
            slope = _without_input(hidden[k + 1][1], d, layer.times)
            cross = value * slope
            factor = torch.addcmul(value.new_ones(()), value, value, value=-1.0)
            inner_value = torch.mul(of_value, factor)
            inner_value.addcmul_(cross, of_slope, value=-2.0)
            inner_slope = torch.mul(of_slope, factor, out=factor)
            grads[2 * k].addmm_(h, inner_value.t()).addmm_(d, inner_slope.t())
            if k == 0 and kinds is not None:
                grads[1].index_add_(0, kinds, inner_value.t())
                return
            grads[2 * k + 1].add_(inner_value.sum(1))
            if k == 0:
                return
            of_value = _to_input(layer, inner_value, of_value)
            of_slope = _to_input(layer, inner_slope, of_slope)


def _add_input(y: Tensor, h: Tensor, times: int) -> None:
    """Add the input (w, b) of a layer to its output, in place."""
    if times:
        y.view(times, *h.shape).add_(h)


def _without_input(y: Tensor, h: Tensor, times: int) -> Tensor:
    """Take the input (w, b) of a layer off its output again."""
    return (y.view(times, *h.shape) - h).view(y.shape) if times else y


def _to_input(layer: _Layer, inner: Tensor, outer: Tensor) -> Tensor:
    """Adjoint of a layer's input, from those of its linear part and its output."""
    below = torch.mm(layer.w, inner)
    for part in outer.view(layer.times, *below.shape) if layer.times else ():
        below.add_(part)
    return below


class _Value(torch.autograd.Function):
    """Rows (n, k, c) -> sums (n, width, c)."""

    @staticmethod
    def forward(ctx: Any, r: Tensor, state: _State, carriers: tuple) -> Tensor:
        ctx.state, ctx.carriers = state, carriers
        out = r.new_empty((r.shape[0], state.width, state.c))
        for block in state.blocks:
            part = r[block]
            hidden = state.forward(part[..., 0].reshape(-1), state.kinds(block))
            value = state.per_centre(hidden[-1][0], part.shape[0])
            torch.bmm(value, part, out=out[block])
            state.hidden.append(hidden if carriers[0] is not None else hidden[-1:])
        return out

    @staticmethod
    def backward(ctx: Any, a: Tensor) -> tuple:
        return _RowGradient.apply(a, *ctx.carriers, ctx.state), None, None


class _RowGradient(torch.autograd.Function):
    """Adjoint A (n, width, c) of the sums -> adjoint of the rows (n, k, c)."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, u: Tensor | None, _a: Any, state: _State) -> Tensor:
        ctx.state, ctx.carries = state, u is not None
        ctx.save_for_backward(a)
        out = torch.empty_like(state.r)
        for block, hidden in zip(state.blocks, state.hidden, strict=True):
            r, part = state.r[block], a[block]
            value, slope = (state.per_centre(h, r.shape[0]) for h in hidden[-1])
            torch.bmm(value.transpose(1, 2), part, out=out[block])
            along = torch.bmm(part, r.transpose(1, 2)).mul_(slope)
            out[block][..., 0] += along.sum(1)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, u: Tensor) -> tuple:
        state, (a,) = ctx.state, ctx.saved_tensors
        out = torch.empty_like(a)
        for block, hidden in zip(state.blocks, state.hidden, strict=True):
            r, part = state.r[block], u[block]
            value, slope = (state.per_centre(h, r.shape[0]) for h in hidden[-1])
            target = torch.bmm(value, part, out=out[block])
            target.baddbmm_(slope, r * part[..., :1])
        return (out, u, a, None) if ctx.carries else (out, None, None, None)


class _Parameters(torch.autograd.Function):
    """Parameters -> zeros to be added to the sums, and the carriers of u (n, k, c) and A."""

    @staticmethod
    def forward(ctx: Any, state: _State, *weights: Tensor) -> tuple:
        ctx.state = state
        ctx.set_materialize_grads(False)
        small = state.r.new_zeros((state.r.shape[0], state.width, state.c))
        return small, torch.zeros_like(state.r), torch.zeros_like(small)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, t: Tensor | None, u: Tensor | None, a: Tensor | None) -> tuple:
        state = ctx.state
        grads = [state.r.new_zeros(shape) for shape in state.shapes]
        pairs: list[Any] = [(t, state.r)] if t is not None else []
        pairs += [(a, u)] if u is not None else []
        left, right = (torch.cat(x, dim=-1) for x in zip(*pairs, strict=True))
        for block, hidden in zip(state.blocks, state.hidden, strict=True):
            r = state.r[block]
            n, k = r.shape[:2]
            of_value, of_slope = r.new_empty((2, state.width, n * k))
            turned = right[block].transpose(1, 2)
            torch.bmm(left[block], turned, out=state.per_centre(of_value, n))
            if u is None or a is None:
                of_slope.zero_()
            else:
                lever = (r * u[block][..., :1]).transpose(1, 2)
                torch.bmm(a[block], lever, out=state.per_centre(of_slope, n))
            state.backward(hidden, of_value, of_slope, grads, state.kinds(block))
        return None, *grads
