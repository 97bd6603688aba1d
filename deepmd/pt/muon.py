# SPDX-License-Identifier: LGPL-3.0-or-later
"""AdaMuon and HybridMuon on PyTorch; see :mod:`deepmd.dpmodel.muon`.

Both keep their state under the names of ``torch.optim.Adam``: ``exp_avg`` is the momentum of a matrix,
``exp_avg_sq`` the second moment of its steps (AdaMuon), or the mean of its alignment (HybridMuon).
"""

from collections.abc import Iterable
from typing import Any

import torch

from deepmd.dpmodel.muon import AdaMuon, HybridMuon, Muon

Tensor = torch.Tensor
#: Coefficients of the quintic iteration ``X <- a X + (b S + c S²) X``, ``S = X Xᵀ`` (Jordan et al.).
_QUINTIC = (3.4445, -4.7750, 2.0315)
_POLISH = (2.0, -1.5, 0.5)
#: Amsel et al., "The polar express", arXiv:2505.16932, for arguments that are divided by 1.05.
_POLAR_EXPRESS = (
    (8.28721201814563, -23.595886519098837, 17.300387312530933),
    (4.107059111542203, -2.9478499167379106, 0.5448431082926601),
    (3.9486908534822946, -2.908902115962949, 0.5518191394370137),
    (3.3184196573706015, -2.488488024314874, 0.51004894012372),
    (2.300652019954817, -1.6689039845747493, 0.4188073119525673),
)
_SAFETY = 1.05
_SMALL = 1e-7
_EPSILON = 1e-8


class MuonOptimizer(torch.optim.Optimizer):
    """Base of both: momentum of matrices, Adam of everything else.

    Parameters
    ----------
    params : iterable of Tensor
    chosen : Muon
    """

    def __init__(self, params: Iterable[Tensor], chosen: Any) -> None:
        self.chosen = chosen
        super().__init__(params, {"lr": 1e-3})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        """Take one step with the gradients that are set."""
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                state = self.state[p]
                state["step"] = state.get("step", torch.zeros((), device=p.device)) + 1
                if self.is_matrix(p):
                    self._matrix_step(p, state, group["lr"])
                else:
                    self._adam_step(p, state, group["lr"])

    def is_matrix(self, p: Tensor) -> bool:
        """Whether the momentum of a parameter is orthogonalized."""
        return p.ndim == 2

    def direction(self, update: Tensor, p: Tensor, state: dict[str, Any]) -> Tensor:
        """Return the direction of the step of a matrix from its Nesterov momentum."""
        raise TypeError(f"{type(self).__name__} does not state its direction")

    def _matrix_step(self, p: Tensor, state: dict[str, Any], lr: float) -> None:
        s: Muon = self.chosen
        if s.weight_decay:
            p.mul_(1.0 - lr * s.weight_decay)
        momentum = state.setdefault("exp_avg", torch.zeros_like(p))
        momentum.lerp_(p.grad, 1.0 - s.momentum)
        step = self.direction(torch.lerp(p.grad, momentum, s.momentum), p, state)
        p.add_(step.to(p.dtype), alpha=-lr)

    def factor(self, p: Tensor) -> float:
        """Size of the steps of a matrix, by its shape."""
        rows, columns = p.shape
        if self.chosen.lr_adjust <= 0:
            return self.chosen.lr_adjust_coeff * max(rows, columns) ** 0.5
        return max(1.0, rows / columns) ** 0.5

    def _adam_step(self, p: Tensor, state: dict[str, Any], lr: float) -> None:
        """Take a step of Adam, whose moments have single precision."""
        s: Muon = self.chosen
        lr = lr / s.lr_adjust if s.lr_adjust > 0 else lr
        g = p.grad.float()
        for name, value, beta in (
            ("exp_avg", g, s.adam_beta1),
            ("exp_avg_sq", g * g, s.adam_beta2),
        ):
            # Held in the precision of the parameter, which does not change the numbers.
            old = state.get(name, torch.zeros_like(p)).float()
            state[name] = old.lerp(value, 1.0 - beta).to(p.dtype)
        first, second, n = state["exp_avg"].float(), state["exp_avg_sq"].float(), state["step"]
        first_scale, second_scale = (1.0 - b ** int(n) for b in (s.adam_beta1, s.adam_beta2))
        denominator = (second / second_scale).sqrt().add_(_EPSILON)
        p.add_((first / denominator).to(p.dtype), alpha=-lr / first_scale)


class AdaMuonOptimizer(MuonOptimizer):
    """Orthogonalized sign of the momentum over the root of its second moment."""

    chosen: AdaMuon

    def direction(self, update: Tensor, p: Tensor, state: dict[str, Any]) -> Tensor:
        """Return the direction, whose root mean square is 0.2 before the factor of the shape."""
        made = orthogonal(torch.sign(update), [_QUINTIC] * 5).float()
        second = state.get("exp_avg_sq", torch.zeros_like(p)).float()
        second = second.lerp(made * made, 1.0 - self.chosen.adam_beta2)
        state["exp_avg_sq"] = second.to(p.dtype)
        made = made / (second.sqrt() + _EPSILON)
        size = 0.2 * made.numel() ** 0.5 / (torch.linalg.vector_norm(made) + _EPSILON)
        return made * (size * self.factor(p))


class HybridMuonOptimizer(MuonOptimizer):
    """Orthogonalized momentum, smaller where gradient and momentum are not aligned."""

    chosen: HybridMuon

    def is_matrix(self, p: Tensor) -> bool:
        """Whether the momentum of a parameter is orthogonalized."""
        return p.ndim == 2 and min(p.shape) > 1

    def direction(self, update: Tensor, p: Tensor, state: dict[str, Any]) -> Tensor:
        """Return the direction, orthogonal up to the rounding of half precision."""
        rows, columns = p.shape
        if self.chosen.enable_gram and rows != columns:
            made = orthogonal_by_gram(update)
        else:
            made = orthogonal(update, [_QUINTIC] * 8 + [_POLISH] * 2)
        made = made * self.factor(p)
        if not self.chosen.magma_muon:
            return made
        mean = state.get("exp_avg_sq", torch.full((1,), 0.5, dtype=p.dtype, device=p.device))
        mean = 0.9 * mean.float() + 0.1 * _alignment(p.grad, state["exp_avg"])
        state["exp_avg_sq"] = mean.to(p.dtype)
        return made * (0.1 + 0.9 * mean).to(made.dtype)


def _alignment(g: Tensor, momentum: Tensor) -> Tensor:
    """Logistic function of half the cosine between gradient and momentum, scaled to [0, 1]."""
    g, momentum = g.float(), momentum.float()
    cosine = (g * momentum).sum() / (g.norm() * momentum.norm()).clamp(min=1e-12)
    low, high = (torch.sigmoid(torch.tensor(x)) for x in (-0.5, 0.5))
    return (torch.sigmoid(0.5 * cosine) - low) / (high - low)


def orthogonal(matrix: Tensor, coefficients: list[tuple[float, float, float]]) -> Tensor:
    """Return the nearest orthogonal matrix by iteration, in bfloat16."""
    x = matrix.to(torch.bfloat16)
    high = x.shape[0] > x.shape[1]
    x = x.mT if high else x
    x = x / (x.norm() + _SMALL)
    for a, b, c in coefficients:
        gram = x @ x.mT
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if high else x


def orthogonal_by_gram(matrix: Tensor) -> Tensor:
    """Return the same by products of the smaller square matrix, in float16."""
    x = matrix.float()
    high = x.shape[0] > x.shape[1]
    x = x.mT if high else x
    x = (x / (x.norm() + _SMALL)).half()
    gram, made = x @ x.mT, None
    last = len(_POLAR_EXPRESS) - 1
    for k, (a, b, c) in enumerate(_POLAR_EXPRESS):
        a, b, c = a / _SAFETY, b / _SAFETY**3, c / _SAFETY**5
        if k == 3:  # the products have lost digits: begin anew with what they made
            x, made = made @ x, None  # type: ignore[operator]
            gram = x @ x.mT
        z = torch.addmm(gram, gram, gram, beta=b, alpha=c)
        if made is None:
            made = z + a * torch.eye(len(z), dtype=z.dtype, device=z.device)
        else:
            made = torch.addmm(made, z, made, beta=a)
        if k not in (2, last):
            half = torch.addmm(gram, gram, z, beta=a)
            gram = torch.addmm(half, z, half, beta=a)
    x = made @ x  # type: ignore[operator]
    return x.mT if high else x


def muon_optimizer(chosen: Muon, params: list[Tensor]) -> MuonOptimizer:
    """Return the optimizer of some parameters."""
    kind = AdaMuonOptimizer if isinstance(chosen, AdaMuon) else HybridMuonOptimizer
    return kind(params, chosen)
