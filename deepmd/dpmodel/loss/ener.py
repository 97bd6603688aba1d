# SPDX-License-Identifier: LGPL-3.0-or-later
"""Loss of energies, forces and virials, with prefactors that follow the learning rate.

Zhang et al., Phys. Rev. Lett. 120, 143001 (2018), eq. 10.
"""

from collections.abc import Mapping
from typing import Any

from deepmd.dpmodel import ops
from deepmd.dpmodel.label import Label
from deepmd.dpmodel.loss.base import (
    Labels,
    Loss,
    Mean,
    Term,
    at_least_one,
    atom_mean,
    frame_mean,
    scheduled_serial,
)
from deepmd.dpmodel.loss.energy_terms import Compare, EnergyTerms
from deepmd.dpmodel.model.hessian import predict_with_hessian
from deepmd.schema.common import NOT_NEGATIVE, Rule
from deepmd.schema.cross import demand
from deepmd.schema.settings import setting


def _filled(data: dict) -> dict:
    """Fill in what versions 1 to 4 did not have."""
    new = {"loss_func": "mse", "f_use_norm": False, "use_default_pf": False}
    hessian = {"start_pref_h": 0.0, "limit_pref_h": 0.0}
    return {**new, "intensive_ener_virial": False, **hessian, **data}


@Loss.register("ener", "ener_hess")
class EnergyLoss(EnergyTerms):
    """Errors of energies, forces, virials and more of an energy model."""

    terms = {
        "e": Term("energy error", 0.02, 1.0),
        "f": Term("force error", 1000, 1.0),
        "v": Term("virial error"),
        "ae": Term("error of atomic energies"),
        "pf": Term("force error weighted by atom_pref.npy"),
        "gf": Term("error of generalized forces"),
        "h": Term("Hessian error"),
    }
    serial = scheduled_serial(
        "EnergyLoss",
        ("e", "f", "v", "ae", "pf", "gf"),
        after="relative_f enable_atom_ener_coeff numb_generalized_coord use_huber huber_delta"
        " loss_func f_use_norm use_default_pf intensive_ener_virial start_pref_h limit_pref_h",
        version=5,
        accepts=(1, 2, 3, 4, 5),
        upgrades={1: _filled, 2: _filled, 3: _filled, 4: _filled},
    )

    use_default_pf: bool = setting(False, "Systems without atom_pref.npy count with weight 1.")
    numb_generalized_coord: int = setting(
        0, "Number of generalized coordinates.", rule=NOT_NEGATIVE
    )
    use_huber: bool = setting(False, "Huber's loss in place of squares.")
    f_use_norm: bool = setting(False, "Take the length of each force error (mae or Huber).")
    huber_delta: float | list[float] = setting(
        0.01,
        "Where Huber's loss becomes linear: one number, or [energy, force, virial].",
        rule=Rule(
            lambda v: all(d > 0 for d in v) and len(v) == 3 if isinstance(v, list) else v > 0,
            "must be one number or three, greater than 0",
        ),
    )

    @classmethod
    def wants_hessian(cls, section: Mapping[str, Any]) -> bool:
        return bool(section.get("start_pref_h") or section.get("limit_pref_h"))

    def build(self) -> None:
        """Refuse what does not go together."""
        huber = self.use_huber
        demand(
            not self.f_use_norm or huber or self.loss_func == "mae",
            "needs absolute values or Huber's loss",
            "loss/f_use_norm",
            'set loss_func to "mae" or use_huber to true',
        )
        for t in ("pf", "gf", "h"):
            demand(
                not (huber and self.has(t)),
                f"excludes the {self.terms[t].what}",
                "loss/use_huber",
                f"set start_pref_{t} and limit_pref_{t} to 0",
            )
        relative = huber and self.relative_f is not None
        demand(not relative, "excludes relative_f", "loss/use_huber")
        demand(
            not self.has("gf") or self.numb_generalized_coord >= 1,
            "must be 1 or greater for generalized forces",
            "loss/numb_generalized_coord",
        )

    def serialize(self) -> dict:
        """Return the dictionary; without a Hessian it has the version before there was one."""
        data = super().serialize()
        if self.has("h"):
            return data
        return {k: v for k, v in data.items() if not k.endswith("_pref_h")} | {"@version": 4}

    def parts(self) -> dict[str, tuple[Compare, list[Label]]]:
        """Return how every term is compared, and the labels it takes."""
        force = Label("force", 3, True)
        weight = Label("atom_pref", 1, True, default=float(self.use_default_pf))
        return super().parts() | {
            "f": (self._force, [force]),
            "pf": (self._weighted_force, [force, weight]),
            "gf": (
                self._generalized_force,
                [force, Label("drdq", 3 * self.numb_generalized_coord, True)],
            ),
            "h": (self._hessian, [Label("hessian", 1, True, pairwise=True)]),
        }

    def predict(
        self, model: Any, inputs: Any, n_frames: int, labels: Labels, *, order: int
    ) -> dict[str, Any]:
        """Evaluate a model, with the Hessian if it is compared."""
        find = labels.find["hessian"] if self.has("h") else 0.0
        if isinstance(find, (int, float)) and find == 0:
            return super().predict(model, inputs, n_frames, labels, order=order)
        return predict_with_hessian(
            model,
            inputs,
            n_frames,
            columns=labels.values["hessian"].shape[1] // 3,
            derivatives=self.derivatives(),
            order=order,
        )

    # -- terms: (minimized, metric) -----------------------------------------------------------

    def _force_difference(self, pred: dict[str, Any], labels: Labels) -> Any:
        reference = labels.values["force"]
        difference = pred["force"] - reference
        if self.relative_f is None:
            return difference
        return difference / (_length(reference) + self.relative_f)

    def _force(self, pred: dict[str, Any], labels: Labels) -> tuple[Mean, Mean]:
        difference = self._force_difference(pred, labels)
        mask = pred.get("mask")
        value, metric = self.of_atoms(difference, labels, 1, mask)
        if self.f_use_norm:
            size = _length(difference)
            sizes = size if self.loss_func == "mae" else self.huber(size, 1)
            value = atom_mean(sizes, labels, mask)
        return value, metric

    def _weighted_force(self, pred: dict[str, Any], labels: Labels) -> tuple[Mean, Mean]:
        difference = self._force_difference(pred, labels)
        weight, mask = labels.values["atom_pref"], pred.get("mask")
        if self.loss_func == "mae":
            value = atom_mean(weight * ops.xp(difference).abs(difference), labels, mask)
            return value, value
        value = atom_mean(weight * difference * difference, labels, mask)
        return value, value.root()

    def _generalized_force(self, pred: dict[str, Any], labels: Labels) -> tuple[Mean, Mean]:
        difference = self._force_difference(pred, labels)
        if "mask" in pred:
            difference = difference * pred["mask"]
        n, q = ops.shape(difference)[0], self.numb_generalized_coord
        space = ops.xp(difference)
        along = space.reshape(labels.values["drdq"], (n, 3, q)) * difference[:, :, None]
        projected = ops.segment_sum(
            space.sum(along, axis=1), labels.frame, ops.shape(labels.natoms)[0]
        )
        value = frame_mean(projected * projected, labels)
        return value, value.root()

    def _hessian(self, pred: dict[str, Any], labels: Labels) -> tuple[Mean, Mean]:
        if "hessian" not in pred:  # no label, hence not predicted
            nothing = Mean(0.0 * labels.weight[0], 0.0 * labels.weight[0])
            return nothing, nothing
        difference = pred["hessian"] - labels.values["hessian"]
        space, absolute = ops.xp(difference), self.loss_func == "mae"
        error = space.abs(difference) if absolute else difference * difference
        of_atom = space.sum(error, axis=-1)
        of_frame = ops.segment_sum(of_atom, labels.frame, ops.shape(labels.natoms)[0])
        atoms = at_least_one(labels.natoms)
        per_element = labels.weight * of_frame / (9.0 * atoms * atoms)
        value = Mean(space.sum(per_element), space.sum(labels.weight))
        return value, value if absolute else value.root()


def _length(x: Any) -> Any:
    """Length of rows, (n, 3) -> (n, 1), with slope 0 at 0."""
    space = ops.xp(x)
    squared = space.sum(x * x, axis=-1, keepdims=True)
    zero = squared == 0
    return space.where(zero, 0.0 * squared, space.sqrt(space.where(zero, squared + 1.0, squared)))
