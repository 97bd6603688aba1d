# SPDX-License-Identifier: LGPL-3.0-or-later
"""What losses of energies and their derivatives share."""

import math
from collections.abc import Callable
from typing import Any

from deepmd.dpmodel import ops
from deepmd.dpmodel.label import Label
from deepmd.dpmodel.loss.base import Labels, ScheduledLoss, atom_mean, frame_mean, root, shown
from deepmd.schema.common import one_of
from deepmd.schema.settings import setting

#: Compares predictions with labels: contribution and figure.
Compare = Callable[[dict[str, Any], Labels], tuple[Any, Any]]


class EnergyTerms(ScheduledLoss):
    """Base of losses of energies. Energy and virial terms are divided by the number of atoms."""

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
        """Return the names of the figures to show."""
        return ["rmse", *sorted(map(self._figure, filter(self.has, self.terms)))]

    def _figure(self, term: str) -> str:
        return f"mae_{term}" if self.loss_func == "mae" else f"rmse_{term}"

    def call(self, lr: Any, pred: dict[str, Any], labels: Labels) -> tuple[Any, dict[str, Any]]:
        """Compare predictions with labels; see :class:`Loss`."""
        total: Any = 0.0
        figures: dict[str, Any] = {}
        parts = self.parts()
        for t in filter(self.has, self.terms):
            compare, needed = parts[t]
            # A label with a value for systems without its file is never missing.
            find = math.prod(1.0 if x.default else labels.find[x.name] for x in needed)
            value, figure = compare(pred, labels)
            total = total + find * self.prefactor(t, lr) * value
            figures[self._figure(t)] = shown(figure, find)
        return total, {"rmse": root(total + 0 * labels.weight[0]), **figures}

    # -- terms: (contribution, figure) --------------------------------------------------------

    def _energy(self, pred: dict[str, Any], labels: Labels) -> tuple[Any, Any]:
        energy = pred["energy"]
        if self.enable_atom_ener_coeff:
            weighted = labels.values["atom_ener_coeff"] * pred["atom_energy"]
            energy = ops.segment_sum(weighted, labels.frame, labels.natoms.shape[0])
        return self.of_frame(energy - labels.values["energy"], labels, 0)

    def _virial(self, pred: dict[str, Any], labels: Labels) -> tuple[Any, Any]:
        return self.of_frame(pred["virial"] - labels.values["virial"], labels, 2)

    def _atomic_energy(self, pred: dict[str, Any], labels: Labels) -> tuple[Any, Any]:
        return self.of_atoms(pred["atom_energy"] - labels.values["atom_ener"], labels, 0)

    def of_frame(self, difference: Any, labels: Labels, which: int) -> tuple[Any, Any]:
        """Compare an extensive quantity of frames (n_frames, size); ``which``: see :meth:`huber`."""
        per_atom = difference / labels.natoms[:, None]
        if self.loss_func == "mae":
            value = frame_mean(ops.xp(difference).abs(per_atom), labels)
            return value, value
        figure = root(frame_mean(per_atom * per_atom, labels))
        if self.use_huber:
            return frame_mean(self.huber(per_atom, which), labels), figure
        scaled = per_atom * per_atom if self.intensive_ener_virial else per_atom * difference
        return frame_mean(scaled, labels), figure

    def of_atoms(
        self, difference: Any, labels: Labels, which: int, mask: Any = None
    ) -> tuple[Any, Any]:
        """Compare a quantity of atoms (n_atoms, size), or of those in the mask (n_atoms, 1)."""
        if self.loss_func == "mae":
            value = atom_mean(ops.xp(difference).abs(difference), labels, mask)
            return value, value
        value = atom_mean(difference * difference, labels, mask)
        figure = root(value)
        if self.use_huber:
            value = atom_mean(self.huber(difference, which), labels, mask)
        return value, figure

    def huber(self, x: Any, which: int) -> Any:
        """``x²/2`` up to delta, that of energies (0), forces (1) or virials (2), then linear."""
        given: Any = self.huber_delta
        delta = given[which] if isinstance(given, (list, tuple)) else given
        space = ops.xp(x)
        size = space.abs(x)
        return space.where(size <= delta, 0.5 * x * x, delta * (size - 0.5 * delta))
