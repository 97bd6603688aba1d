# SPDX-License-Identifier: LGPL-3.0-or-later
"""Embedding and its sum over neighbors in TorchScript files; see :mod:`deepmd.pt.fused.embedding`.

Everything up to the last section is compiled by ``torch.jit.script``. A graph traced for a file
holds the two operations of the last section as single nodes, which :data:`SCRIPTED` turns into
calls of these functions: tracing itself would fix the number of blocks.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch

from deepmd.dpmodel.nn.layers import DenseArrays, DenseOptions

Tensor = torch.Tensor


def block_centers(r: Tensor) -> int:
    """Centers in a block: all on a GPU, else as many as keep 640 rows, which stay in the cache."""
    if r.is_cuda:
        return max(1, r.shape[0])
    return max(1, 640 // r.shape[1])


def _network(
    s: Tensor, w: list[Tensor], b: list[Tensor], times: list[int], value: Tensor, slope: Tensor
) -> None:
    """Write value and derivative (width, rows) of the last layer, from s (rows,).

    ``w``, (width, n_in), and ``b``, (width, 1), are twice the weights and biases, because
    tanh(x) = 2 sigmoid(2 x) - 1; ``times`` is how often a layer adds its input.
    """
    h = s.unsqueeze(0)
    d = torch.ones_like(h)
    for k in range(len(w)):
        if k == len(w) - 1:
            v, g = value, slope
            torch.addmm(b[k], w[k], h, out=v)
            torch.mm(w[k], d, out=g)
        else:
            v, g = torch.addmm(b[k], w[k], h), torch.mm(w[k], d)
        v.sigmoid_()
        torch.ops.aten.sigmoid_backward(g, v, grad_input=g)
        if times[k] > 0:
            rows = h.shape[1]
            parts = v.view(times[k], h.shape[0], rows)
            torch.add(h.sub(1.0), parts, alpha=2.0, out=parts)
            parts = g.view(times[k], h.shape[0], rows)
            torch.add(d, parts, alpha=2.0, out=parts)
        else:
            v.mul_(2.0).sub_(1.0)
            g.mul_(2.0)
        h, d = v, g


def contract(
    r: Tensor, w: list[Tensor], b: list[Tensor], times: list[int]
) -> tuple[Tensor, Tensor, Tensor]:
    """Sum over neighbors of r ⊗ G(s), s the first number of the row r.

    In all products of one center the wide matrix stands on the right: twice as fast.

    Returns
    -------
    sums : (n, c, width)
    value, slope : (n * k * width,)
        G and its derivative, block by block, for :func:`row_gradient`.
    """
    n, k, width = r.shape[0], r.shape[1], w[-1].shape[0]
    sums = r.new_empty([n, r.shape[2], width])
    value = r.new_empty([n * k * width])
    slope = torch.empty_like(value)
    step = block_centers(r)
    for start in range(0, n, step):
        stop = min(start + step, n)
        part = r[start:stop]
        rows = (stop - start) * k
        here = slice(start * k * width, stop * k * width)
        v, g = value[here].view(width, rows), slope[here].view(width, rows)
        _network(part.select(2, 0).reshape(rows), w, b, times, v, g)
        right = v.view(width, stop - start, k).permute(1, 2, 0)
        torch.bmm(part.transpose(1, 2), right, out=sums[start:stop])
    return sums, value, slope


def row_gradient(a: Tensor, r: Tensor, value: Tensor, slope: Tensor) -> Tensor:
    """Adjoint of the rows (n, k, c), from that of the sums, a (n, c, width)."""
    n, k, width = r.shape[0], r.shape[1], a.shape[2]
    out = torch.empty_like(r)
    step = block_centers(r)
    for start in range(0, n, step):
        stop = min(start + step, n)
        here = slice(start * k * width, stop * k * width)
        v = value[here].view(width, stop - start, k).transpose(0, 1)
        g = slope[here].view(width, stop - start, k).transpose(0, 1)
        rows = torch.bmm(a[start:stop], v)
        along = torch.bmm(a[start:stop], g).mul_(r[start:stop].transpose(1, 2))
        rows.select(1, 0).add_(along.sum(1))
        out[start:stop].copy_(rows.transpose(1, 2))
    return out


# -- tracing --------------------------------------------------------------------------------------


def as_operation(function: Callable) -> Any:
    """Register a function as ``deepmd_trace::<its name>``; return the operation.

    Without the guards of ``torch.library.custom_op``, whose first call imports the compiler of
    torch: 2 s in each process that writes a file.
    """
    name = f"deepmd_trace::{function.__name__}"
    torch.library.define(name, torch.library.infer_schema(function, mutates_args=()))
    torch.library.impl(name, "default", function)
    return getattr(torch.ops.deepmd_trace, function.__name__).default


_contract = as_operation(contract)
_row_gradient = as_operation(row_gradient)
#: Functions that the nodes of a traced graph stand for, by their names.
SCRIPTED: dict[str, Callable] = {
    "deepmd_trace::contract": contract,
    "deepmd_trace::row_gradient": row_gradient,
}


@torch.library.register_fake(_contract)
def _(r: Tensor, w: list[Tensor], b: list[Tensor], times: list[int]) -> Any:
    width = w[-1].shape[0]
    flat = r.new_empty([r.shape[0] * r.shape[1] * width])
    return r.new_empty([r.shape[0], r.shape[2], width]), flat, torch.empty_like(flat)


@torch.library.register_fake(_row_gradient)
def _(a: Tensor, r: Tensor, value: Tensor, slope: Tensor) -> Tensor:
    return torch.empty_like(r)


def _setup(ctx: Any, inputs: tuple, output: tuple) -> None:
    ctx.save_for_backward(inputs[0], *output[1:])
    ctx.constants = [None] * len(inputs[1])


def _backward(ctx: Any, a: Tensor, *_: Any) -> tuple:
    return _row_gradient(a, *ctx.saved_tensors), ctx.constants, ctx.constants, None


torch.library.register_autograd(_contract, _backward, setup_context=_setup)


def embed_contract(
    r: Tensor, layers: Sequence[DenseArrays], options: Sequence[DenseOptions]
) -> Tensor:
    """Trace the sum over neighbors of an embedding of tanh layers, for evaluation."""
    w = [2.0 * layer.w.detach().t().contiguous() for layer in layers]
    b = [2.0 * layer.b.detach()[:, None] for layer in layers]
    return _contract(r, w, b, [o.copies for o in options])[0].transpose(1, 2)
