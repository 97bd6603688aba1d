# SPDX-License-Identifier: LGPL-3.0-or-later
"""Sum over neighbors of a tabulated embedding times its row, in blocks, for evaluation."""

from typing import Any

import torch

import deepmd.dpmodel.nn.tabulation  # noqa: F401  (declares the operation)
from deepmd.dpmodel.ops import register
from deepmd.pt.fused.blocks import traced
from deepmd.pt.torchscript.table import table_contract

Tensor = torch.Tensor


def _evaluates(r: Tensor, *_: Any, order: int = 3, **__: Any) -> bool:
    return order == 1 and (traced() or r.numel() > 0)


@register("table_contract", "torch", when=_evaluates)
def _(r: Tensor, data: Tensor, info: Tensor, *, symmetric: bool = False, order: int) -> Tensor:
    return table_contract(r, data, info, symmetric)
