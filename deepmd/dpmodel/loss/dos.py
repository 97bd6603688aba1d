# SPDX-License-Identifier: LGPL-3.0-or-later
"""Loss of densities of states and of their sums up to each energy."""

from typing import Any

import numpy as np

from deepmd.dpmodel import ops
from deepmd.dpmodel.label import Label
from deepmd.dpmodel.loss.base import (
    Labels,
    Loss,
    LossTerm,
    ScheduledLoss,
    Term,
    mean_square,
    only_output,
    scheduled_serial,
)
from deepmd.schema.settings import setting

#: Term -> (name of its metric, of atoms, cumulative)
TERMS = {
    "dos": ("rmse_global_dos", False, False),
    "cdf": ("rmse_global_cdf", False, True),
    "ados": ("rmse_local_dos", True, False),
    "acdf": ("rmse_local_cdf", True, True),
}


@Loss.register("dos")
class DOSLoss(ScheduledLoss):
    """Errors of the density of states.

    Each term is a mean square over frames or atoms and grid points: dos and ados of the densities
    of frames and of atoms, cdf and acdf of their cumulative sums along the grid.
    """

    terms = {
        "dos": Term("density of states"),
        "cdf": Term("cumulative density of states"),
        "ados": Term("density of states of atoms", 1.0, 1.0),
        "acdf": Term("cumulative density of states of atoms"),
    }
    fits = ("dos",)
    serial = scheduled_serial("DOSLoss", terms, before="numb_dos")

    numb_dos: int = setting(..., "Points of the grid.", key=False)

    @classmethod
    def for_model(cls, section: dict[str, Any], start_lr: float, model: Any) -> "DOSLoss":
        """Build the loss of a checked section for the output of a model."""
        return cls(start_lr, only_output(model).size, **section)

    def label_requirements(self) -> list[Label]:
        """Return the labels of the terms that take part."""
        wanted = []
        if self.has("dos") or self.has("cdf"):
            wanted.append(Label("dos", self.numb_dos, False))
        if self.has("ados") or self.has("acdf"):
            wanted.append(Label("atom_dos", self.numb_dos, True))
        return wanted

    def metric_names(self) -> list[str]:
        """Return the names of the metrics to show."""
        return sorted(TERMS[t][0] for t in TERMS if self.has(t))

    def terms_of(self, lr: Any, pred: dict[str, Any], labels: Labels) -> list[LossTerm]:
        """Compare predictions with labels; see :class:`Loss`.

        Atoms of excluded types do not count, neither in means nor in the metrics per atom.
        """
        terms = []
        for t, (metric, of_atoms, cumulative) in TERMS.items():
            if not self.has(t):
                continue
            name = "atom_dos" if of_atoms else "dos"
            d = pred[name] - labels.values[name]
            if cumulative:
                d = _running_sum(d)
            means = mean_square(d, labels, pred.get("mask"), of_atoms=of_atoms)
            terms.append(LossTerm(metric, labels.find[name], self.prefactor(t, lr), *means))
        return terms


def _running_sum(x: Any) -> Any:
    """Cumulative sum along the last axis of x (n, m)."""
    m = x.shape[-1]
    return ops.xp(x).matmul(x, ops.like(np.triu(np.ones((m, m))), x))
