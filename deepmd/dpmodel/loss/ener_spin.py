# SPDX-License-Identifier: LGPL-3.0-or-later
"""Loss of energies, forces and magnetic forces of models with spins."""

from typing import Any

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
    root,
    shown,
)
from deepmd.dpmodel.module import Serial
from deepmd.schema.common import one_of, option, unset
from deepmd.schema.loss import prefactor_arguments
from deepmd.schema.registry import loss_args
from deepmd.utils.errors import InputError, NotAvailableError

TERMS = ("e", "fr", "fm", "v", "ae")


def _filled(data: dict) -> dict:
    """Fill in what version 1 did not have."""
    return {"loss_func": "mse", "intensive_ener_virial": False, **data}


@Loss.register("ener_spin")
class EnergySpinLoss(ScheduledLoss):
    """``Σ_t p_t(lr) L_t`` with ``p_t = limit_t + (start_t - limit_t) lr / starter_learning_rate``.

    The terms are the energy e, the force on atoms fr, the magnetic force on the atoms with a spin
    fm, the virial v and the atomic energy ae. Energy and virial terms are divided by the number of
    atoms.

    Parameters
    ----------
    starter_learning_rate : float
        Learning rate at which the prefactors have their start values.
    start_pref_e, limit_pref_e, ... : float
        Prefactors of the terms.
    enable_atom_ener_coeff : bool
        Compare ``Σ c_i e_i`` instead of the energy.
    loss_func : {"mse", "mae"}
    intensive_ener_virial : bool
        Divide energy and virial terms by the squared number of atoms.
    """

    serial = Serial(
        layout="@class @version starter_learning_rate "
        + " ".join(f"start_pref_{t} limit_pref_{t}" for t in TERMS)
        + " enable_atom_ener_coeff loss_func intensive_ener_virial",
        name="EnergySpinLoss",
        version=2,
        accepts=(1, 2),
        upgrades={1: _filled},
    )

    def __init__(
        self,
        starter_learning_rate: float,
        *,
        enable_atom_ener_coeff: bool = False,
        loss_func: str = "mse",
        intensive_ener_virial: bool = False,
        relative_f: float | None = None,
        **prefactors: float,
    ) -> None:
        self.starter_learning_rate = starter_learning_rate
        self.enable_atom_ener_coeff, self.loss_func = enable_atom_ener_coeff, loss_func
        self.intensive_ener_virial = intensive_ener_virial
        if relative_f is not None:
            raise NotAvailableError("not built for models with spins", where="loss/relative_f")
        for name in ("start_pref_pf", "limit_pref_pf"):
            if prefactors.pop(name, 0.0):
                raise NotAvailableError("not built for models with spins", where=f"loss/{name}")
        for t in TERMS:
            for name in (f"start_pref_{t}", f"limit_pref_{t}"):
                setattr(self, name, float(prefactors.pop(name, 0.0)))
        if prefactors:
            raise InputError(f"unknown key {', '.join(sorted(prefactors))}", where="loss")

    @classmethod
    def for_model(cls, section: dict[str, Any], start_lr: float, model: Any) -> "EnergySpinLoss":
        """Build the loss of a checked section; the model must have spins."""
        if model is not None and not model.has_spin():
            raise InputError(
                'the loss "ener_spin" needs a model with spins',
                where="loss/type",
                fix='use "ener", or give the model a section spin',
            )
        return cls(starter_learning_rate=start_lr, **section)

    def label_requirements(self) -> list[Label]:
        """Return the labels of the terms that take part."""
        wanted = [
            (self.has("e"), Label("energy", 1, False, high_precision=True)),
            (self.has("fr"), Label("force", 3, True)),
            (self.has("fm"), Label("force_mag", 3, True)),
            (self.has("v"), Label("virial", 9, False)),
            (self.has("ae"), Label("atom_ener", 1, True)),
            (self.enable_atom_ener_coeff, Label("atom_ener_coeff", 1, True, default=1.0)),
        ]
        return [label for take, label in wanted if take]

    def derivatives(self) -> tuple[str, ...]:
        """Return which derivatives must be predicted."""
        return ("force",) * (self.has("fr") or self.has("fm")) + ("virial",) * self.has("v")

    def metric_names(self) -> list[str]:
        """Return the names of the figures to show."""
        return ["rmse", *sorted(f"{self._kind}_{t}" for t in TERMS if self.has(t))]

    @property
    def _kind(self) -> str:
        return "mae" if self.loss_func == "mae" else "rmse"

    def call(self, lr: Any, pred: dict[str, Any], labels: Labels) -> tuple[Any, dict[str, Any]]:
        """Compare predictions with labels; see :class:`Loss`."""
        total: Any = 0.0
        figures: dict[str, Any] = {}
        parts = {
            "e": self._energy,
            "fr": self._force,
            "fm": self._magnetic_force,
            "v": self._virial,
            "ae": self._atomic_energy,
        }
        for t in TERMS:
            if self.has(t):
                find, value, figure = parts[t](pred, labels)
                total = total + find * self.prefactor(t, lr) * value
                figures[f"{self._kind}_{t}"] = shown(figure, find)
        return total, {"rmse": root(total + 0 * labels.weight[0]), **figures}

    # -- terms: (flag, contribution, figure) --------------------------------------------------

    def _energy(self, pred: dict[str, Any], labels: Labels) -> tuple[Any, Any, Any]:
        energy = pred["energy"]
        if self.enable_atom_ener_coeff:
            weighted = labels.values["atom_ener_coeff"] * pred["atom_energy"]
            energy = ops.segment_sum(weighted, labels.frame, labels.natoms.shape[0])
        return labels.find["energy"], *self._of_frame(energy - labels.values["energy"], labels)

    def _virial(self, pred: dict[str, Any], labels: Labels) -> tuple[Any, Any, Any]:
        difference = pred["virial"] - labels.values["virial"]
        return labels.find["virial"], *self._of_frame(difference, labels)

    def _of_frame(self, difference: Any, labels: Labels) -> tuple[Any, Any]:
        """Contribution and figure of an extensive quantity of frames."""
        per_atom = difference / labels.natoms[:, None]
        if self.loss_func == "mae":
            value = frame_mean(ops.xp(difference).abs(per_atom), labels)
            return value, value
        scaled = per_atom * per_atom if self.intensive_ener_virial else per_atom * difference
        return frame_mean(scaled, labels), root(frame_mean(per_atom * per_atom, labels))

    def _force(self, pred: dict[str, Any], labels: Labels) -> tuple[Any, Any, Any]:
        difference = pred["force"] - labels.values["force"]
        return labels.find["force"], *self._of_atoms(difference, labels)

    def _magnetic_force(self, pred: dict[str, Any], labels: Labels) -> tuple[Any, Any, Any]:
        difference = pred["force_mag"] - labels.values["force_mag"]
        mask = pred["mask_mag"]
        # Without any magnetic atom there is nothing to compare.
        space = ops.xp(difference)
        some = space.sum(labels.weight * counted_atoms(labels, mask)) > 0
        mask = space.where(some, mask, 0.0 * mask + 1.0)
        difference = space.where(some, difference, 0.0 * difference)
        return labels.find["force_mag"], *self._of_atoms(difference, labels, mask)

    def _atomic_energy(self, pred: dict[str, Any], labels: Labels) -> tuple[Any, Any, Any]:
        difference = pred["atom_energy"] - labels.values["atom_ener"]
        return labels.find["atom_ener"], *self._of_atoms(difference, labels)

    def _of_atoms(self, difference: Any, labels: Labels, mask: Any = None) -> tuple[Any, Any]:
        """Contribution and figure of a quantity of atoms, of those in the mask."""
        if self.loss_func == "mae":
            value = atom_mean(ops.xp(difference).abs(difference), labels, mask)
            return value, value
        value = atom_mean(difference * difference, labels, mask)
        return value, root(value)


def ener_spin_loss_arguments() -> list[Argument]:
    """Keys of the loss."""
    return [
        *prefactor_arguments("e", "energy error", 0.02, 1.0),
        *prefactor_arguments("fr", "force error", 1000, 1.0),
        *prefactor_arguments("fm", "magnetic force error", 10000, 10.0),
        *prefactor_arguments("v", "virial error", 0.0, 0.0),
        *prefactor_arguments("ae", "error of atomic energies", 0.0, 0.0),
        *prefactor_arguments("pf", "force error weighted by atom_pref.npy", 0.0, 0.0),
        unset(
            "relative_f",
            [float, None],
            "Divide force errors by the force's length plus this, eV/Å.",
        ),
        option(
            "enable_atom_ener_coeff",
            bool,
            False,
            "The energy label is a sum of atomic energies weighted by atom_ener_coeff.npy.",
        ),
        option(
            "loss_func",
            str,
            "mse",
            "Squares (mse) or absolute values (mae).",
            rule=one_of("mse", "mae"),
        ),
        option(
            "intensive_ener_virial",
            bool,
            False,
            "Divide energy and virial terms by the squared number of atoms, not by the number.",
        ),
    ]


loss_args.register("ener_spin")(ener_spin_loss_arguments)
