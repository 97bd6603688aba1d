# SPDX-License-Identifier: LGPL-3.0-or-later
"""Loss of electron populations of atoms and of the spins that follow from them."""

from typing import Any

from deepmd.dpmodel import ops
from deepmd.dpmodel.label import Label
from deepmd.dpmodel.loss.base import (
    Labels,
    Loss,
    LossTerm,
    Mean,
    ScheduledLoss,
    Term,
    at_least_one,
    atom_mean,
    frame_mean,
    scheduled_serial,
)
from deepmd.schema.common import NOT_NEGATIVE, Rule, one_of
from deepmd.schema.settings import setting

MEASURES = ("mae", "rmse")


@Loss.register("population")
class PopulationLoss(ScheduledLoss):
    """Errors of populations α and β of atoms, of their difference, the spin, and of their totals.

    Every term is a sum over frames of (smooth) absolute errors; those of atoms are divided by their
    number.
    """

    terms = {
        "spin": Term("error of the spins of atoms", 1.0, 1.0),
        "spin_total": Term("error of the spin of the frame", 1.0, 1.0),
        "pop": Term("error of the populations", 1.0, 1.0),
        "pop_alpha_total": Term("error of the number of α electrons", 1.0, 1.0),
        "pop_beta_total": Term("error of the number of β electrons", 1.0, 1.0),
    }
    fits = ("population",)
    serial = scheduled_serial("PopulationLoss", terms, after="loss_func metric beta")

    loss_func: str = setting(
        "smooth_mae",
        "Absolute errors (mae), or such with a parabola around zero.",
        rule=one_of("smooth_mae", "mae"),
    )
    metric: list[str] = setting(
        ("mae",),
        f"Measures that are shown beside the terms: {', '.join(MEASURES)}.",
        rule=Rule(
            lambda v: all(m in MEASURES for m in v), f"must be some of {', '.join(MEASURES)}"
        ),
    )
    beta: float = setting(
        1.0,
        "Below this smooth_mae is a parabola.",
        kind=[float, int],
        rule=NOT_NEGATIVE,
    )

    def label_requirements(self) -> list[Label]:
        """Return the label, populations α and β of every atom."""
        return [Label("atom_population", 2, True, required=True, high_precision=True)]

    def metric_names(self) -> list[str]:
        """Return the names of the metrics to show."""
        names = {*self.metric, "spin_total", *(f"{t}_loss" for t in self.terms)}
        return sorted(names)

    def terms_of(self, lr: Any, pred: dict[str, Any], labels: Labels) -> list[LossTerm]:
        """Compare predictions with labels; see :class:`Loss`."""
        value, find = pred["atom_population"], labels.find["atom_population"]
        d = value - labels.values["atom_population"]
        n = ops.shape(labels.natoms)[0]
        total = ops.segment_sum(d, labels.frame, n)
        per_atom = at_least_one(labels.natoms)[:, None]
        mean = ops.segment_sum(self._error(d), labels.frame, n) / per_atom
        spin = ops.segment_sum(self._error(d[:, :1] - d[:, 1:]), labels.frame, n) / per_atom
        errors = {
            "spin": spin,
            "spin_total": self._error(total[:, :1] - total[:, 1:]),
            "pop": mean[:, :1] + mean[:, 1:],
            "pop_alpha_total": self._error(total[:, :1]),
            "pop_beta_total": self._error(total[:, 1:]),
        }
        terms = []
        for t, error in errors.items():
            over_frames = frame_mean(error, labels)._replace(form="sum")
            terms.append(
                LossTerm(f"{t}_loss", find, self.prefactor(t, lr), over_frames, over_frames)
            )
        spins = ops.segment_sum(value[:, :1] - value[:, 1:], labels.frame, n)
        shown = {"spin_total": frame_mean(spins, labels)}
        shown |= {name: self._measure(name, d, labels) for name in self.metric}
        return terms + [LossTerm(name, find, 0.0, None, mean) for name, mean in shown.items()]

    def _error(self, d: Any) -> Any:
        """Absolute errors, smooth around zero if so."""
        space, beta = ops.xp(d), self.beta
        size = space.abs(d)
        if self.loss_func == "mae" or not beta:
            return size
        return space.where(size < beta, (0.5 / beta) * d * d, size - 0.5 * beta)

    def _measure(self, name: str, d: Any, labels: Labels) -> Mean:
        """Mean absolute error, or root of the mean square, of all components of all atoms."""
        if name == "rmse":
            return atom_mean(d * d, labels).root()
        return atom_mean(ops.xp(d).abs(d), labels)
