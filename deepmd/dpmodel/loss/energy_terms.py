# SPDX-License-Identifier: LGPL-3.0-or-later
"""Terms of losses of energies and their derivatives."""

import math
from collections.abc import Callable
from typing import Any

from deepmd.dpmodel import ops
from deepmd.dpmodel.label import Label
from deepmd.dpmodel.loss.base import (
    Labels,
    LossTerm,
    Mean,
    ScheduledLoss,
    at_least_one,
    atom_mean,
    counted_atoms,
    frame_mean,
)
from deepmd.schema.common import one_of
from deepmd.schema.settings import setting

#: Comparison of predictions with labels: what is minimized, and the metric.
Compare = Callable[[dict[str, Any], Labels], tuple[Mean | None, Mean | None]]


class EnergyTerms(ScheduledLoss):
    """Base of losses of energies. Energy and virial terms are divided by the number of atoms.

    Atoms of types that the model excludes do not count, neither in means nor in that number.
    """

    fits = ("energy",)

    relative_f: float | None = setting(
        None, "Divide force errors by the force's length plus this, eV/Å.", absent=True
    )
    enable_atom_ener_coeff: bool = setting(
        False, "The energy label is a sum of atomic energies weighted by atom_ener_coeff.npy."
    )
    loss_func: str = setting(
        "mse", "Squares (mse) or absolute values (mae).", rule=one_of("mse", "mae")
    )
    intensive_ener_virial: bool = setting(
        False, "Divide energy and virial terms by the squared number of atoms, not by the number."
    )
    use_huber: bool = False
    huber_delta: float | list[float] = 0.01

    @classmethod
    def check(cls, section: dict[str, Any]) -> None:
        """Raise InputError where values of a checked section do not go together."""
        super().check(section)
        cls(starter_learning_rate=1.0, **section)

    def parts(self) -> dict[str, tuple[Compare, list[Label]]]:
        """Return how every term is compared, and the labels it takes."""
        return {
            "e": (self._energy, [Label("energy", 1, False, high_precision=True)]),
            "v": (self._virial, [Label("virial", 9, False)]),
            "ae": (self._atomic_energy, [Label("atom_ener", 1, True)]),
        }

    def label_requirements(self) -> list[Label]:
        """Return the labels of the terms that take part."""
        parts = self.parts()
        wanted = [label for t in self.terms if self.has(t) for label in parts[t][1]]
        if self.enable_atom_ener_coeff:
            wanted.append(Label("atom_ener_coeff", 1, True, default=1.0))
        return list(dict.fromkeys(wanted))

    def derivatives(self) -> tuple[str, ...]:
        """Return which derivatives must be predicted."""
        names = {label.name for label in self.label_requirements()}
        force = bool(names & {"force", "force_mag"})
        return ("force",) * force + ("virial",) * ("virial" in names)

    def metric_names(self) -> list[str]:
        """Return the names of the metrics to show."""
        return sorted(["rmse", *map(self._metric, filter(self.has, self.terms))])

    def _metric(self, term: str) -> str:
        return f"mae_{term}" if self.loss_func == "mae" else f"rmse_{term}"

    def terms_of(self, lr: Any, pred: dict[str, Any], labels: Labels) -> list[LossTerm]:
        """Compare predictions with labels; see :class:`Loss`."""
        parts = self.parts()
        terms = []
        for t in filter(self.has, self.terms):
            compare, needed = parts[t]
            # A label with a value for systems without its file is never missing.
            find = math.prod(1.0 if x.default else labels.find[x.name] for x in needed)
            terms.append(
                LossTerm(self._metric(t), find, self.prefactor(t, lr), *compare(pred, labels))
            )
        return terms

    def call(self, lr: Any, pred: dict[str, Any], labels: Labels, reduce: Any = None) -> Any:
        """Compare predictions with labels; ``rmse`` is the root of the loss. See :class:`Loss`."""
        total, metrics = super().call(lr, pred, labels, reduce)
        total = total + 0 * labels.weight[0]  # an array, even if every label is absent
        return total, {"rmse": ops.xp(total).sqrt(ops.stop_gradient(total)), **metrics}

    # -- terms: (minimized, metric) -----------------------------------------------------------

    def _energy(self, pred: dict[str, Any], labels: Labels) -> tuple[Mean, Mean]:
        energy = pred["energy"]
        if self.enable_atom_ener_coeff:
            weighted = labels.values["atom_ener_coeff"] * pred["atom_energy"]
            energy = ops.segment_sum(weighted, labels.frame, ops.shape(labels.natoms)[0])
        return self.of_frame(energy - labels.values["energy"], labels, 0, pred.get("mask"))

    def _virial(self, pred: dict[str, Any], labels: Labels) -> tuple[Mean, Mean]:
        return self.of_frame(pred["virial"] - labels.values["virial"], labels, 2, pred.get("mask"))

    def _atomic_energy(self, pred: dict[str, Any], labels: Labels) -> tuple[Mean, Mean]:
        difference = pred["atom_energy"] - labels.values["atom_ener"]
        return self.of_atoms(difference, labels, 0, pred.get("mask"))

    def of_frame(
        self, difference: Any, labels: Labels, which: int, mask: Any = None
    ) -> tuple[Mean, Mean]:
        """Compare an extensive quantity of frames (n_frames, size); ``which``: see :meth:`huber`.

        It is divided by the number of atoms, or of those in the mask (n_atoms, 1).
        """
        per_atom = difference / at_least_one(counted_atoms(labels, mask))[:, None]
        if self.loss_func == "mae":
            value = frame_mean(ops.xp(difference).abs(per_atom), labels)
            return value, value
        metric = frame_mean(per_atom * per_atom, labels).root()
        if self.use_huber:
            return frame_mean(self.huber(per_atom, which), labels), metric
        scaled = per_atom * per_atom if self.intensive_ener_virial else per_atom * difference
        return frame_mean(scaled, labels), metric

    def of_atoms(
        self, difference: Any, labels: Labels, which: int, mask: Any = None
    ) -> tuple[Mean, Mean]:
        """Compare a quantity of atoms (n_atoms, size), or of those in the mask (n_atoms, 1)."""
        if self.loss_func == "mae":
            value = atom_mean(ops.xp(difference).abs(difference), labels, mask)
            return value, value
        value = atom_mean(difference * difference, labels, mask)
        metric = value.root()
        if self.use_huber:
            value = atom_mean(self.huber(difference, which), labels, mask)
        return value, metric

    def huber(self, x: Any, which: int) -> Any:
        """``x²/2`` up to delta, that of energies (0), forces (1) or virials (2), then linear."""
        given: Any = self.huber_delta
        delta = given[which] if isinstance(given, (list, tuple)) else given
        space = ops.xp(x)
        size = space.abs(x)
        return space.where(size <= delta, 0.5 * x * x, delta * (size - 0.5 * delta))
