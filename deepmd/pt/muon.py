# SPDX-License-Identifier: LGPL-3.0-or-later
"""AdaMuon and HybridMuon on PyTorch; see :mod:`deepmd.dpmodel.muon_step`."""

from collections.abc import Iterable
from typing import Any

import torch

from deepmd.dpmodel.muon import Muon
from deepmd.dpmodel.muon_step import Arithmetic, muon_rule

Tensor = torch.Tensor


class TorchArithmetic(Arithmetic):
    """Operations on tensors, those of half precision on tensors of half precision."""

    xp = torch

    def rounded(self, x: Tensor, kind: str) -> Tensor:
        return x.to(getattr(torch, kind))

    def like(self, x: Tensor, other: Tensor) -> Tensor:
        return x.to(other.dtype)

    def between(self, a: Tensor, b: Tensor, weight: float) -> Tensor:
        return torch.lerp(a, b, weight)

    def added(self, x: Tensor, y: Tensor, factor: float) -> Tensor:
        return torch.add(x, y, alpha=factor)

    def logistic(self, x: Tensor) -> Tensor:
        return torch.sigmoid(x)

    def product(
        self,
        kind: str,
        x: Tensor,
        y: Tensor,
        z: Tensor | None = None,
        *,
        add: float = 1.0,
        times: float = 1.0,
    ) -> Tensor:
        return x @ y if z is None else torch.addmm(z, x, y, beta=add, alpha=times)


class MuonOptimizer(torch.optim.Optimizer):
    """Both optimizers, with their state under the names of ``torch.optim.Adam``.

    Parameters
    ----------
    params : iterable of Tensor
    chosen : Muon
    """

    def __init__(self, params: Iterable[Tensor], chosen: Muon) -> None:
        self.rule = muon_rule(chosen, TorchArithmetic())
        super().__init__(params, {"lr": 1e-3})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Take one step with the gradients that are set."""
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                state = self.state[p]
                state["step"] = state.get("step", torch.zeros((), device=p.device)) + 1
                moments = (state.get("exp_avg"), state.get("exp_avg_sq"))
                # The count is on the device: only where it matters is it waited for.
                count = 0 if self.rule.is_matrix(p) else int(state["step"])
                new, first, second = self.rule.step(p, p.grad, count, *moments, group["lr"])
                p.copy_(new)
                state["exp_avg"] = first
                if second is not None:
                    state["exp_avg_sq"] = second
