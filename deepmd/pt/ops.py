# SPDX-License-Identifier: LGPL-3.0-or-later
"""Array-API names over PyTorch, and PyTorch's forms of the operations.

Every form is made of differentiable operations, so that it can be differentiated as often as
wanted and traced with symbolic sizes.
"""

import types
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from deepmd.dpmodel import ops
from deepmd.dpmodel.ops import register, register_package
from deepmd.pt.fused import (  # noqa: F401
    activated_sum,
    attention,
    embedding,
    kernel_attention,
    kernel_convolution,
    kernel_embedding,
    kernel_interpolation,
    kernel_scalar,
    kernel_sums,
    tables,
)

Tensor = torch.Tensor

_RENAMED = {
    "clip": torch.clamp,
    "concat": torch.cat,
    "expand_dims": torch.unsqueeze,
    "permute_dims": torch.permute,
    "max": torch.amax,
}


class _Namespace(types.ModuleType):
    """Namespace of the names of :data:`deepmd.dpmodel.ops.NAMES` over tensors."""

    def __init__(self) -> None:
        super().__init__("torch_namespace")
        for name in ops.NAMES:
            if hasattr(torch, name):
                setattr(self, name, getattr(torch, name))
        for name, function in _RENAMED.items():
            setattr(self, name, function)

    @staticmethod
    def astype(x: Tensor, dtype: torch.dtype) -> Tensor:
        return x.to(dtype)

    @staticmethod
    def asarray(value: Any) -> Tensor:
        # Lists of numbers mean float64, whatever torch's default type is.
        return torch.from_numpy(np.array(value))


register_package("torch", "torch", _Namespace(), device=lambda x: x.device.type)


@register("_like", "torch")
def _(x: Tensor, value: Any) -> Tensor:
    if isinstance(value, Tensor):
        return value.to(x.device)
    return torch.from_numpy(np.array(value)).to(x.device)


@register("cast", "torch")
def _(x: Tensor, precision: str) -> Tensor:
    return x.to(getattr(torch, precision))


# -- indexing -------------------------------------------------------------------------------------


@register("take", "torch")
def _(x: Tensor, index: Tensor) -> Tensor:
    # index_select is faster than indexing, and so is its derivative; it has no -1.
    flat = index.reshape(-1)
    flat = torch.where(flat < 0, flat + x.shape[0], flat)
    rows = x.index_select(0, flat)
    return rows if index.ndim == 1 else rows.reshape(*index.shape, *x.shape[1:])


@register("segment_sum", "torch")
def _(x: Tensor, segment: Tensor, n: int) -> Tensor:
    return x.new_zeros((n, *x.shape[1:])).index_add(0, segment, x)


@register("scatter_rows", "torch")
def _(x: Tensor, index: Tensor, n: int) -> Tensor:
    return x.new_zeros((n, *x.shape[1:])).index_copy(0, index, x)


@register("sorted_rows", "torch")
def _(key: Tensor, table: Tensor) -> Tensor:
    # take_along_dim would fix the sizes when it is traced.
    return table.gather(1, torch.argsort(key, dim=1, stable=True))


@register("row_numbers", "torch")
def _(x: Tensor) -> Tensor:
    return torch.arange(x.shape[0], dtype=torch.float64, device=x.device)  # no constant in a file


@register("stop_gradient", "torch")
def _(x: Tensor) -> Tensor:
    return x.detach()


# -- algebra --------------------------------------------------------------------------------------


@register("linear", "torch")
def _(x: Tensor, w: Tensor, b: Tensor | None = None) -> Tensor:
    flat = x if x.ndim == 2 else x.reshape(-1, w.shape[0])
    y = flat @ w if b is None else torch.addmm(b, flat, w)
    return y if x.ndim == 2 else y.reshape(*x.shape[:-1], w.shape[1])


@register("matrix_transpose", "torch")
def _(x: Tensor) -> Tensor:
    return x.transpose(-1, -2)


@register("contract", "torch")
def _(g: Tensor, r: Tensor) -> Tensor:
    # The wide matrix on the right: both derivatives are then contiguous.
    return torch.matmul(r.transpose(-1, -2), g).transpose(-1, -2)


@register("softmax", "torch")
def _(x: Tensor) -> Tensor:
    return torch.softmax(x, dim=-1)


@register("amax", "torch")
def _(x: Tensor) -> Tensor:
    return torch.amax(x, dim=-1, keepdim=True)


@register("layer_norm", "torch")
def _(x: Tensor, w: Tensor, b: Tensor, eps: float) -> Tensor:
    return torch.nn.functional.layer_norm(x, (x.shape[-1],), w, b, eps)


@register("edge_gradient", "torch")
def _(
    vec: Tensor, energy: Callable[[Tensor], tuple[dict, list]], *, order: int = 1
) -> tuple[dict[str, Tensor], list[Tensor]]:
    if vec.requires_grad and order < 3:
        raise ValueError("edge vectors that are differentiated themselves need order=3")
    keep_graph = order > 1
    with torch.enable_grad():
        # Within another derivative (a Hessian) the chain must not be cut.
        leaf = vec if vec.requires_grad else vec.detach().requires_grad_(True)
        values, totals = energy(leaf)
        if order == 2 and len(totals) > 1:
            raise ValueError("several gradients that are differentiated again need order=3")
        gradients = _gradients(totals, leaf, keep_graph)
    if not keep_graph:
        values = {name: value.detach() for name, value in values.items()}
    return values, gradients


def _gradients(totals: Sequence[Tensor], x: Tensor, keep_graph: bool) -> list[Tensor]:
    """Gradient of every scalar, zero for one that does not depend on ``x``."""
    out = []
    for k, total in enumerate(totals):
        if not total.requires_grad:
            out.append(torch.zeros_like(x))
            continue
        (g,) = torch.autograd.grad(
            total,
            x,
            create_graph=keep_graph,
            retain_graph=keep_graph or k + 1 < len(totals),
            allow_unused=True,
        )
        out.append(torch.zeros_like(x) if g is None else g)
    return out
