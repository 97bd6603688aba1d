# SPDX-License-Identifier: LGPL-3.0-or-later
"""Adam and AdamW on NumPy arrays: the reference the other backends are held to.

Kingma and Ba, ICLR 2015 (Adam); Loshchilov and Hutter, ICLR 2019 (decoupled weight decay).
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from deepmd.base.errors import NotAvailableError
from deepmd.schema.common import BELOW_ONE, NOT_NEGATIVE
from deepmd.schema.registry import optimizer_args
from deepmd.schema.settings import Settings, setting

EPSILON = 1e-8


class Moments:
    """Steps and moments of parameters, by their names."""

    def build(self) -> None:
        """Begin without moments."""
        self.counts: dict[str, int] = {}  # steps of every parameter: tasks may share some
        self.first: dict[str, np.ndarray] = {}
        self.second: dict[str, np.ndarray] = {}

    def state(self) -> dict[str, np.ndarray]:
        """Return count and moments by name; a count for each where they differ."""
        counts = sorted({*self.counts.values()}) or [0]
        out = {"count": np.array(counts[0])}
        if len(counts) > 1:
            out = {f"count.{name}": np.array(n) for name, n in self.counts.items()}
        out |= {f"first.{name}": m.copy() for name, m in self.first.items()}
        return out | {f"second.{name}": m.copy() for name, m in self.second.items()}

    def load_state(self, state: Mapping[str, np.ndarray]) -> None:
        """Restore what :meth:`state` returned."""
        self.first = {k: np.array(v) for k, v in part_of(state, "first.").items()}
        counts = part_of(state, "count.") or dict.fromkeys(self.first, state.get("count", 0))
        self.counts = {k: int(n) for k, n in counts.items()}
        self.second = {k: np.array(v) for k, v in part_of(state, "second.").items()}


class Adam(Moments, Settings):
    """Adaptive moments."""

    adam_beta1: float = setting(0.9, "Decay of the first moment.", rule=BELOW_ONE)
    adam_beta2: float = setting(0.999, "Decay of the second moment.", rule=BELOW_ONE)
    weight_decay: float = setting(
        0.0, "Added to the gradients times the parameters.", rule=NOT_NEGATIVE
    )
    decoupled: bool = setting(
        False, "Whether parameters shrink by lr × weight_decay instead.", key=False
    )

    def update(
        self, params: Mapping[str, np.ndarray], grads: Mapping[str, np.ndarray], lr: float
    ) -> dict[str, np.ndarray]:
        """Return the parameters after one step; the moments are updated in place."""
        out = {}
        for name, p in params.items():
            count = self.counts[name] = self.counts.get(name, 0) + 1
            correction1 = 1.0 - self.adam_beta1**count
            correction2 = 1.0 - self.adam_beta2**count
            g = grads[name]
            if self.weight_decay and not self.decoupled:
                g = g + self.weight_decay * p
            m = self.first.get(name, np.zeros_like(p))
            v = self.second.get(name, np.zeros_like(p))
            m = self.first[name] = self.adam_beta1 * m + (1.0 - self.adam_beta1) * g
            v = self.second[name] = self.adam_beta2 * v + (1.0 - self.adam_beta2) * g * g
            if self.weight_decay and self.decoupled:
                p = p * (1.0 - lr * self.weight_decay)
            denominator = np.sqrt(v) / np.sqrt(correction2) + EPSILON
            out[name] = (p - (lr / correction1) * m / denominator).astype(p.dtype)
        return out


def part_of(state: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """Return what belongs to one part of a state, by the names within it."""
    return {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}


class AdamW(Adam):
    """Adaptive moments with decoupled weight decay."""

    weight_decay: float = setting(
        0.001, "Shrinks the parameters, apart from the moments.", rule=NOT_NEGATIVE
    )
    decoupled: bool = setting(True)


OPTIMIZERS: dict[str, type[Adam]] = {"Adam": Adam, "AdamW": AdamW}
for _name, _kind in OPTIMIZERS.items():
    optimizer_args.add(_kind, _name)


def adam_settings(section: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of :class:`Adam` for a checked ``optimizer`` section.

    Raises
    ------
    NotAvailableError
        For another optimizer.
    """
    kind = section.get("type", "Adam")
    if kind not in OPTIMIZERS:
        raise NotAvailableError(
            f'this backend does not have the optimizer "{kind}"',
            where="optimizer/type",
            fix="use Adam or AdamW, or train with PyTorch (--pt)",
        )
    return {name: section.get(name, s.default) for name, s in OPTIMIZERS[kind].settings.items()}


def clip_factor(norm: Any, max_norm: float) -> Any:
    """Factor that brings gradients of this global norm down to ``max_norm``; at most 1."""
    return min(1.0, max_norm / (float(norm) + 1e-6))


def global_norm(grads: Mapping[str, np.ndarray]) -> float:
    """Root of the sum of all squares."""
    return float(np.sqrt(sum(float((g.astype(np.float64) ** 2).sum()) for g in grads.values())))
