# SPDX-License-Identifier: LGPL-3.0-or-later
"""Tabulated embedding and its sum over neighbors; see :mod:`deepmd.dpmodel.nn.tabulation`.

As in :mod:`deepmd.pt.torchscript.embedding`, a graph that is traced for a file holds one node, which
:data:`SCRIPTED` turns into calls of these functions.
"""

from collections.abc import Callable
from typing import Any

import torch

from deepmd.pt.torchscript.embedding import as_operation, block_centers

Tensor = torch.Tensor


def contract_table(
    r: Tensor, data: Tensor, info: Tensor, symmetric: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Sum over neighbors of r ⊗ G(s), s the first number of the row r, G from a table.

    Returns
    -------
    sums : (n, c, width)
    value, slope : (n * k * width,)
        G and its derivative, block by block, for :func:`deepmd.pt.torchscript.embedding.row_gradient`.
    """
    n, k, width = r.shape[0], r.shape[1], data.shape[1] // 6
    table = data.view(data.shape[0], width, 6).permute(0, 2, 1).contiguous()
    lower, upper, end = float(info[0]), float(info[1]), float(info[2])
    fine, coarse = float(info[3]), float(info[4])
    n_fine = int((upper - lower) / fine + 1e-6)
    n_below = int((end - upper) / coarse + 1e-6) if symmetric else 0
    start = lower - n_below * coarse
    sums = r.new_empty([n, r.shape[2], width])
    value = r.new_empty([n * k * width])
    slope = torch.empty_like(value)
    step = block_centers(r)
    for first in range(0, n, step):
        last = min(first + step, n)
        part = r[first:last]
        s = part.select(2, 0).reshape((last - first) * k).to(torch.float64)
        inside = s.clamp(start, end)
        row = torch.floor((inside - lower) / fine).clamp(max=n_fine - 1.0)
        begin = lower + row * fine
        above = torch.floor((inside - upper) / coarse).clamp(
            max=float(data.shape[0] - n_below - n_fine - 1)
        )
        is_above = inside >= upper
        begin = torch.where(is_above, upper + above * coarse, begin)
        row = torch.where(is_above, n_fine + above, row) + n_below
        if symmetric:
            below = torch.floor((inside - start) / coarse)
            is_below = inside < lower
            begin = torch.where(is_below, start + below * coarse, begin)
            row = torch.where(is_below, below, row)
        a = table.index_select(0, row.nan_to_num(0.0).to(torch.int64))
        t = (inside - begin).to(data.dtype).unsqueeze(1)
        v, d = a.select(1, 5), a.select(1, 5) * 5.0
        for power in range(4, 0, -1):
            v = torch.addcmul(a.select(1, power), v, t)
            d = torch.addcmul(a.select(1, power) * float(power), d, t)
        v = torch.addcmul(a.select(1, 0), v, t)
        v = torch.addcmul(v, d, (s - inside).to(data.dtype).unsqueeze(1)).to(r.dtype)
        here = slice(first * k * width, last * k * width)
        value[here] = v.t().reshape(-1)
        slope[here] = d.to(r.dtype).t().reshape(-1)
        sums[first:last] = torch.bmm(part.transpose(1, 2), v.view(last - first, k, width))
    return sums, value, slope


# -- tracing --------------------------------------------------------------------------------------

_contract = as_operation(contract_table)
_row_gradient = torch.ops.deepmd_trace.row_gradient
#: Functions that the nodes of a traced graph stand for, by their names.
SCRIPTED: dict[str, Callable] = {"deepmd_trace::contract_table": contract_table}


@torch.library.register_fake(_contract)
def _(r: Tensor, data: Tensor, info: Tensor, symmetric: bool) -> Any:
    width = data.shape[1] // 6
    flat = r.new_empty([r.shape[0] * r.shape[1] * width])
    return r.new_empty([r.shape[0], r.shape[2], width]), flat, torch.empty_like(flat)


def _setup(ctx: Any, inputs: tuple, output: tuple) -> None:
    ctx.save_for_backward(inputs[0], *output[1:])


def _backward(ctx: Any, a: Tensor, *_: Any) -> tuple:
    return _row_gradient(a, *ctx.saved_tensors), None, None, None


torch.library.register_autograd(_contract, _backward, setup_context=_setup)


def table_contract(r: Tensor, data: Tensor, info: Tensor, symmetric: bool) -> Tensor:
    """Sum over neighbors of a tabulated embedding times its row, with its first derivative."""
    return _contract(r, data, info, symmetric)[0].transpose(1, 2)
