# SPDX-License-Identifier: LGPL-3.0-or-later
"""Loss of densities of states and of their sums up to each energy."""

from typing import Any

import numpy as np
from dargs import Argument

from deepmd.dpmodel import ops
from deepmd.dpmodel.label import Label
from deepmd.dpmodel.loss.base import (
    Labels,
    Loss,
    ScheduledLoss,
    atom_mean,
    counted_atoms,
    frame_mean,
    only_output,
    root,
    shown,
)
from deepmd.dpmodel.module import Serial
from deepmd.schema.loss import prefactor_arguments
from deepmd.schema.registry import loss_args
from deepmd.utils.errors import InputError

#: Term -> (name of its figure, of atoms, cumulative)
TERMS = {
    "dos": ("rmse_global_dos", False, False),
    "cdf": ("rmse_global_cdf", False, True),
    "ados": ("rmse_local_dos", True, False),
    "acdf": ("rmse_local_cdf", True, True),
}


@Loss.register("dos")
class DOSLoss(ScheduledLoss):
    """``Σ_t p_t(lr) L_t`` with ``p_t = limit_t + (start_t - limit_t) lr / starter_learning_rate``.

    Each L is a mean square over frames or atoms and grid points: dos and ados of the densities
    of frames and of atoms, cdf and acdf of their cumulative sums along the grid.

    Parameters
    ----------
    starter_learning_rate : float
        Learning rate at which the prefactors have their start values.
    numb_dos : int
        Points of the grid.
    start_pref_dos, limit_pref_dos, ... : float
        Prefactors of the terms.
    """

    serial = Serial(
        layout="@class @version starter_learning_rate numb_dos "
        + " ".join(f"start_pref_{t} limit_pref_{t}" for t in TERMS),
        name="DOSLoss",
    )

    def __init__(self, starter_learning_rate: float, numb_dos: int, **prefactors: float) -> None:
        self.starter_learning_rate, self.numb_dos = starter_learning_rate, numb_dos
        for t in TERMS:
            for kind in ("start", "limit"):
                name = f"{kind}_pref_{t}"
                setattr(self, name, float(prefactors.pop(name, 0.0)))
        if prefactors:
            raise InputError(f"unknown key {', '.join(sorted(prefactors))}", where="loss")

    @classmethod
    def for_model(cls, section: dict[str, Any], start_lr: float, model: Any) -> "DOSLoss":
        """Build the loss of a checked section for the output of a model."""
        return cls(start_lr, only_output(model, "dos").size, **section)

    def label_requirements(self) -> list[Label]:
        """Return the labels of the terms that take part."""
        wanted = []
        if self.has("dos") or self.has("cdf"):
            wanted.append(Label("dos", self.numb_dos, False))
        if self.has("ados") or self.has("acdf"):
            wanted.append(Label("atom_dos", self.numb_dos, True))
        return wanted

    def metric_names(self) -> list[str]:
        """Return the names of the figures to show."""
        return sorted(TERMS[t][0] for t in TERMS if self.has(t))

    def call(self, lr: Any, pred: dict[str, Any], labels: Labels) -> tuple[Any, dict[str, Any]]:
        """Compare predictions with labels; see :class:`Loss`.

        Atoms of excluded types do not count, neither in means nor in the figures per atom.
        """
        mask = pred.get("mask")
        total: Any = 0.0
        figures: dict[str, Any] = {}
        for t, (figure, of_atoms, cumulative) in TERMS.items():
            if not self.has(t):
                continue
            name = "atom_dos" if of_atoms else "dos"
            find, d = labels.find[name], pred[name] - labels.values[name]
            if cumulative:
                d = _running_sum(d)
            value = atom_mean(d * d, labels, mask) if of_atoms else frame_mean(d * d, labels)
            total = total + find * self.prefactor(t, lr) * value
            if not of_atoms:
                d = d / ops.xp(d).clip(counted_atoms(labels, mask), 1.0, None)[:, None]
                value = frame_mean(d * d, labels)
            figures[figure] = shown(root(value), find)
        return total, figures


def _running_sum(x: Any) -> Any:
    """Cumulative sum along the last axis of x (n, m)."""
    m = x.shape[-1]
    return ops.xp(x).matmul(x, ops.like(np.triu(np.ones((m, m))), x))


@loss_args.register("dos", doc="Errors of the density of states.")
def dos_loss_arguments() -> list[Argument]:
    """Keys of the loss of densities of states."""
    return [
        *prefactor_arguments("dos", "density of states", 0.0, 0.0),
        *prefactor_arguments("cdf", "cumulative density of states", 0.0, 0.0),
        *prefactor_arguments("ados", "density of states of atoms", 1.0, 1.0),
        *prefactor_arguments("acdf", "cumulative density of states of atoms", 0.0, 0.0),
    ]
