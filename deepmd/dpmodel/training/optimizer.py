# SPDX-License-Identifier: LGPL-3.0-or-later
"""Adam and AdamW on NumPy arrays: the reference the other backends are held to.

Kingma and Ba, ICLR 2015 (Adam); Loshchilov and Hutter, ICLR 2019 (decoupled weight decay).
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from deepmd.utils.errors import NotAvailableError

EPSILON = 1e-8


class Adam:
    """Adam, or AdamW with ``decoupled`` weight decay.

    Parameters
    ----------
    beta1, beta2 : float
        Decay of the first and second moments.
    weight_decay : float
        Adam adds ``weight_decay * parameter`` to the gradient; AdamW shrinks the parameter by
        ``lr * weight_decay`` instead.
    decoupled : bool
        Which of the two.
    """

    def __init__(self, beta1: float, beta2: float, weight_decay: float, *, decoupled: bool) -> None:
        self.beta1, self.beta2 = beta1, beta2
        self.weight_decay, self.decoupled = weight_decay, decoupled
        self.count = 0
        self.first: dict[str, np.ndarray] = {}
        self.second: dict[str, np.ndarray] = {}

    def update(
        self, params: Mapping[str, np.ndarray], grads: Mapping[str, np.ndarray], lr: float
    ) -> dict[str, np.ndarray]:
        """Return the parameters after one step; the moments are updated in place."""
        self.count += 1
        correction1 = 1.0 - self.beta1**self.count
        correction2 = 1.0 - self.beta2**self.count
        out = {}
        for name, p in params.items():
            g = grads[name]
            if self.weight_decay and not self.decoupled:
                g = g + self.weight_decay * p
            m = self.first.get(name, np.zeros_like(p))
            v = self.second.get(name, np.zeros_like(p))
            m = self.first[name] = self.beta1 * m + (1.0 - self.beta1) * g
            v = self.second[name] = self.beta2 * v + (1.0 - self.beta2) * g * g
            if self.weight_decay and self.decoupled:
                p = p * (1.0 - lr * self.weight_decay)
            denominator = np.sqrt(v) / np.sqrt(correction2) + EPSILON
            out[name] = (p - (lr / correction1) * m / denominator).astype(p.dtype)
        return out

    def state(self) -> dict[str, np.ndarray]:
        """Return count and moments by name."""
        out = {"count": np.array(self.count)}
        for kind, moments in (("first", self.first), ("second", self.second)):
            out |= {f"{kind}.{name}": m.copy() for name, m in moments.items()}
        return out

    def load_state(self, state: Mapping[str, np.ndarray]) -> None:
        """Restore what :meth:`state` returned."""
        self.count = int(state["count"])
        for kind, moments in (("first", self.first), ("second", self.second)):
            moments.clear()
            prefix = f"{kind}."
            moments.update(
                {
                    k.removeprefix(prefix): np.array(v)
                    for k, v in state.items()
                    if k.startswith(prefix)
                }
            )


def adam_settings(section: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of :class:`Adam` for a normalised ``optimizer`` section.

    Raises
    ------
    NotAvailableError
        For another optimizer.
    """
    kind = section.get("type", "Adam")
    if kind not in ("Adam", "AdamW"):
        raise NotAvailableError(
            f'optimizer "{kind}" is not built yet', where="optimizer/type", fix="use Adam or AdamW"
        )
    return {
        "beta1": section.get("adam_beta1", 0.9),
        "beta2": section.get("adam_beta2", 0.999),
        "weight_decay": section.get("weight_decay", 0.001 if kind == "AdamW" else 0.0),
        "decoupled": kind == "AdamW",
    }


def clip_factor(norm: Any, max_norm: float) -> Any:
    """Factor that brings gradients of this global norm down to ``max_norm``; at most 1."""
    return min(1.0, max_norm / (float(norm) + 1e-6))


def global_norm(grads: Mapping[str, np.ndarray]) -> float:
    """Root of the sum of all squares."""
    return float(np.sqrt(sum(float((g.astype(np.float64) ** 2).sum()) for g in grads.values())))
