# SPDX-License-Identifier: LGPL-3.0-or-later
"""Loss of energies, forces and magnetic forces of models with spins."""

from typing import Any

from deepmd.base.errors import InputError, NotAvailableError
from deepmd.dpmodel.label import Label
from deepmd.dpmodel.loss.base import Labels, Loss, Mean, Term, scheduled_serial
from deepmd.dpmodel.loss.energy_terms import Compare, EnergyTerms


def _filled(data: dict) -> dict:
    """Fill in what version 1 did not have."""
    return {"loss_func": "mse", "intensive_ener_virial": False, **data}


@Loss.register("ener_spin")
class EnergySpinLoss(EnergyTerms):
    """Errors of energies, forces, magnetic forces and virials of a model with spins."""

    terms = {
        "e": Term("energy error", 0.02, 1.0),
        "fr": Term("force error", 1000, 1.0),
        "fm": Term("magnetic force error", 10000, 10.0),
        "v": Term("virial error"),
        "ae": Term("error of atomic energies"),
        "pf": Term("force error weighted by atom_pref.npy"),
    }
    serial = scheduled_serial(
        "EnergySpinLoss",
        ("e", "fr", "fm", "v", "ae"),
        after="enable_atom_ener_coeff loss_func intensive_ener_virial",
        version=2,
        accepts=(1, 2),
        upgrades={1: _filled},
    )

    def build(self) -> None:
        """Refuse what is not built."""
        for name in ("start_pref_pf", "limit_pref_pf", "relative_f"):
            if getattr(self, name) not in (None, type(self).settings[name].default):
                raise NotAvailableError("not built for models with spins", where=f"loss/{name}")

    @classmethod
    def for_model(cls, section: dict[str, Any], start_lr: float, model: Any) -> "EnergySpinLoss":
        """Build the loss of a checked section; the model must have spins."""
        if model is not None and not model.has_spin():
            raise InputError(
                'the loss "ener_spin" needs a model with spins',
                where="loss/type",
                fix='use "ener", or give the model a section spin',
            )
        return super().for_model(section, start_lr, model)

    def parts(self) -> dict[str, tuple[Compare, list[Label]]]:
        """Return how every term is compared, and the labels it takes."""
        return super().parts() | {
            "fr": (self._force, [Label("force", 3, True)]),
            "fm": (self._magnetic_force, [Label("force_mag", 3, True)]),
        }

    def _force(self, pred: dict[str, Any], labels: Labels) -> tuple[Mean, Mean]:
        difference = pred["force"] - labels.values["force"]
        return self.of_atoms(difference, labels, 1, pred.get("mask"))

    def _magnetic_force(self, pred: dict[str, Any], labels: Labels) -> tuple[Mean, Mean]:
        difference = pred["force_mag"] - labels.values["force_mag"]
        return self.of_atoms(difference, labels, 1, pred["mask_mag"])
