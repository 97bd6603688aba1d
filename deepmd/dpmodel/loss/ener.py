# SPDX-License-Identifier: LGPL-3.0-or-later
"""Loss of energies, forces and virials, with prefactors that follow the learning rate.

Zhang et al., Phys. Rev. Lett. 120, 143001 (2018), eq. 10.
"""

from collections.abc import Sequence
from typing import Any

from deepmd.dpmodel import ops
from deepmd.dpmodel.label import Label
from deepmd.dpmodel.loss.base import (
    Labels,
    Loss,
    ScheduledLoss,
    atom_mean,
    frame_mean,
    root,
    shown,
)
from deepmd.dpmodel.model.hessian import predict_with_hessian
from deepmd.dpmodel.module import Serial
from deepmd.schema.loss import ener_loss_arguments
from deepmd.schema.registry import loss_args
from deepmd.utils.errors import InputError

TERMS = ("e", "f", "v", "ae", "pf", "gf", "h")


def _filled(data: dict) -> dict:
    """Fill in what versions 1 to 4 did not have."""
    new = {"loss_func": "mse", "f_use_norm": False, "use_default_pf": False}
    hessian = {"start_pref_h": 0.0, "limit_pref_h": 0.0}
    return {**new, "intensive_ener_virial": False, **hessian, **data}


@Loss.register("ener")
class EnergyLoss(ScheduledLoss):
    """``Σ_t p_t(lr) L_t`` with ``p_t = limit_t + (start_t - limit_t) lr / starter_learning_rate``.

    The terms are the energy e, force f, virial v, atomic energy ae, weighted force pf, generalised
    force gf and Hessian h. Energy and virial terms are divided by the number of atoms.

    Parameters
    ----------
    starter_learning_rate : float
        Learning rate at which the prefactors have their start values.
    start_pref_e, limit_pref_e, ... : float
        Prefactors of the terms.
    relative_f : float, optional
        Divide force errors by the size of the force plus this [eV/Å].
    enable_atom_ener_coeff : bool
        Compare ``Σ c_i e_i`` instead of the energy.
    numb_generalized_coord : int
        Number of generalised coordinates.
    use_huber : bool
        Huber's function with ``huber_delta`` (one number, or one each for e, f, v).
    loss_func : {"mse", "mae"}
    f_use_norm : bool
        With mae or Huber, measure force errors by their length.
    use_default_pf : bool
        A missing ``atom_pref`` counts as 1.
    intensive_ener_virial : bool
        Divide energy and virial terms by the squared number of atoms.
    """

    serial = Serial(
        layout="@class @version starter_learning_rate "
        + " ".join(f"start_pref_{t} limit_pref_{t}" for t in TERMS[:-1])
        + " relative_f enable_atom_ener_coeff numb_generalized_coord use_huber huber_delta"
        " loss_func f_use_norm use_default_pf intensive_ener_virial start_pref_h limit_pref_h",
        name="EnergyLoss",
        version=5,
        accepts=(1, 2, 3, 4, 5),
        upgrades={1: _filled, 2: _filled, 3: _filled, 4: _filled},
    )

    def __init__(
        self,
        starter_learning_rate: float,
        *,
        relative_f: float | None = None,
        enable_atom_ener_coeff: bool = False,
        numb_generalized_coord: int = 0,
        use_huber: bool = False,
        huber_delta: float | Sequence[float] = 0.01,
        loss_func: str = "mse",
        f_use_norm: bool = False,
        use_default_pf: bool = False,
        intensive_ener_virial: bool = False,
        **prefactors: float,
    ) -> None:
        self.starter_learning_rate = starter_learning_rate
        self.relative_f, self.enable_atom_ener_coeff = relative_f, enable_atom_ener_coeff
        self.numb_generalized_coord = numb_generalized_coord
        self.use_huber, self.huber_delta = use_huber, huber_delta
        self.loss_func, self.f_use_norm = loss_func, f_use_norm
        self.use_default_pf = use_default_pf
        self.intensive_ener_virial = intensive_ener_virial
        for t in TERMS:
            for kind in ("start", "limit"):
                name = f"{kind}_pref_{t}"
                setattr(self, name, float(prefactors.pop(name, 0.0)))
        if prefactors:
            raise InputError(f"unknown key {', '.join(sorted(prefactors))}", where="loss")
        self._check()

    def _check(self) -> None:
        norm_ok = self.loss_func == "mae" or self.use_huber
        if self.f_use_norm and not norm_ok:
            raise InputError(
                "f_use_norm needs mae or Huber", where="loss/f_use_norm", fix='set loss_func "mae"'
            )
        if self.use_huber and (
            any(self.has(t) for t in ("pf", "gf", "h")) or self.relative_f is not None
        ):
            raise InputError(
                "Huber's function is not defined for pf, gf, h and relative_f",
                where="loss/use_huber",
                fix="leave one of them out",
            )
        if self.has("gf") and self.numb_generalized_coord < 1:
            raise InputError(
                "the generalised force needs coordinates",
                where="loss/numb_generalized_coord",
                fix="give their number, at least 1",
            )

    def serialize(self) -> dict:
        """Return the dictionary; without a Hessian it has the version before there was one."""
        data = super().serialize()
        if self.has("h"):
            return data
        return {k: v for k, v in data.items() if not k.endswith("_pref_h")} | {"@version": 4}

    def label_requirements(self) -> list[Label]:
        """Return the labels of the terms that take part."""
        q = self.numb_generalized_coord
        forces = any(self.has(t) for t in ("f", "pf", "gf"))
        default_pf = 1.0 if self.use_default_pf else 0.0
        wanted = [
            (self.has("e"), Label("energy", 1, False, high_precision=True)),
            (forces, Label("force", 3, True)),
            (self.has("v"), Label("virial", 9, False)),
            (self.has("ae"), Label("atom_ener", 1, True)),
            (self.has("pf"), Label("atom_pref", 1, True, default=default_pf)),
            (self.has("gf"), Label("drdq", 3 * q, True)),
            (self.has("h"), Label("hessian", 1, True, pairwise=True)),
            (self.enable_atom_ener_coeff, Label("atom_ener_coeff", 1, True, default=1.0)),
        ]
        return [label for take, label in wanted if take]

    def derivatives(self) -> tuple[str, ...]:
        """Return which derivatives must be predicted."""
        force = any(self.has(t) for t in ("f", "pf", "gf"))
        return ("force",) * force + ("virial",) * self.has("v")

    def predict(
        self, model: Any, inputs: Any, n_frames: int, labels: Labels, *, keep_graph: bool
    ) -> dict[str, Any]:
        """Evaluate a model, with the Hessian if it is compared."""
        find = labels.find["hessian"] if self.has("h") else 0.0
        if isinstance(find, (int, float)) and find == 0:
            return super().predict(model, inputs, n_frames, labels, keep_graph=keep_graph)
        return predict_with_hessian(
            model,
            inputs,
            n_frames,
            columns=labels.values["hessian"].shape[1] // 3,
            derivatives=self.derivatives(),
            keep_graph=keep_graph,
        )

    def metric_names(self) -> list[str]:
        """Return the names of the figures to show."""
        kind = self.loss_func if self.loss_func == "mae" else "rmse"
        return ["rmse", *sorted(f"{kind}_{t}" for t in TERMS if self.has(t))]

    def call(self, lr: Any, pred: dict[str, Any], labels: Labels) -> tuple[Any, dict[str, Any]]:
        """Compare predictions with labels; see :class:`Loss`."""
        total: Any = 0.0
        figures: dict[str, Any] = {}
        parts = {
            "e": self._energy,
            "f": self._force,
            "v": self._virial,
            "ae": self._atomic_energy,
            "pf": self._weighted_force,
            "gf": self._generalised_force,
            "h": self._hessian,
        }
        for t in TERMS:
            if self.has(t):
                find, value, figure = parts[t](pred, labels)
                total = total + find * self.prefactor(t, lr) * value
                kind = "mae" if self.loss_func == "mae" else "rmse"
                figures[f"{kind}_{t}"] = shown(figure, find)
        return total, {"rmse": root(total + 0 * labels.weight[0]), **figures}

    # -- terms: (flag, contribution, figure) --------------------------------------------------

    def _energy(self, pred: dict[str, Any], labels: Labels) -> tuple[Any, Any, Any]:
        energy = pred["energy"]
        if self.enable_atom_ener_coeff:
            weighted = labels.values["atom_ener_coeff"] * pred["atom_energy"]
            energy = ops.segment_sum(weighted, labels.frame, labels.natoms.shape[0])
        return labels.find["energy"], *self._of_frame(energy - labels.values["energy"], labels, 0)

    def _virial(self, pred: dict[str, Any], labels: Labels) -> tuple[Any, Any, Any]:
        difference = pred["virial"] - labels.values["virial"]
        return labels.find["virial"], *self._of_frame(difference, labels, 2)

    def _of_frame(self, difference: Any, labels: Labels, delta: int) -> tuple[Any, Any]:
        """Contribution and figure of an extensive quantity of frames."""
        n = labels.natoms[:, None]
        per_atom = difference / n
        if self.loss_func == "mae":
            value = frame_mean(ops.xp(difference).abs(per_atom), labels)
            return value, value
        figure = root(frame_mean(per_atom * per_atom, labels))
        if self.use_huber:
            return frame_mean(self._huber(per_atom, delta), labels), figure
        scaled = per_atom * per_atom if self.intensive_ener_virial else per_atom * difference
        return frame_mean(scaled, labels), figure

    def _force_difference(self, pred: dict[str, Any], labels: Labels) -> Any:
        reference = labels.values["force"]
        difference = pred["force"] - reference
        if self.relative_f is None:
            return difference
        return difference / (_length(reference) + self.relative_f)

    def _force(self, pred: dict[str, Any], labels: Labels) -> tuple[Any, Any, Any]:
        difference = self._force_difference(pred, labels)
        size = ops.xp(difference).abs(difference)
        if self.loss_func == "mae":
            figure = atom_mean(size, labels)
            value = atom_mean(_length(difference), labels) if self.f_use_norm else figure
        else:
            figure = value = atom_mean(difference * difference, labels)
            figure = root(figure)
            if self.use_huber:
                x = _length(difference) if self.f_use_norm else difference
                value = atom_mean(self._huber(x, 1), labels)
        return labels.find["force"], value, figure

    def _atomic_energy(self, pred: dict[str, Any], labels: Labels) -> tuple[Any, Any, Any]:
        difference = pred["atom_energy"] - labels.values["atom_ener"]
        find = labels.find["atom_ener"]
        if self.loss_func == "mae":
            value = atom_mean(ops.xp(difference).abs(difference), labels)
            return find, value, value
        value = atom_mean(difference * difference, labels)
        figure = root(value)
        if self.use_huber:
            value = atom_mean(self._huber(difference, 0), labels)
        return find, value, figure

    def _weighted_force(self, pred: dict[str, Any], labels: Labels) -> tuple[Any, Any, Any]:
        difference = self._force_difference(pred, labels)
        weight = labels.values["atom_pref"]
        if self.loss_func == "mae":
            value = atom_mean(weight * ops.xp(difference).abs(difference), labels)
            figure = value
        else:
            value = atom_mean(weight * difference * difference, labels)
            figure = root(value)
        find = 1.0 if self.use_default_pf else labels.find["atom_pref"]
        return find * labels.find["force"], value, figure

    def _generalised_force(self, pred: dict[str, Any], labels: Labels) -> tuple[Any, Any, Any]:
        difference = self._force_difference(pred, labels)
        n, q = difference.shape[0], self.numb_generalized_coord
        space = ops.xp(difference)
        along = space.reshape(labels.values["drdq"], (n, 3, q)) * difference[:, :, None]
        projected = ops.segment_sum(space.sum(along, axis=1), labels.frame, labels.natoms.shape[0])
        value = frame_mean(projected * projected, labels)
        return labels.find["drdq"] * labels.find["force"], value, root(value)

    def _hessian(self, pred: dict[str, Any], labels: Labels) -> tuple[Any, Any, Any]:
        if "hessian" not in pred:  # no label, hence not predicted
            return 0.0, 0.0, float("nan")
        difference = pred["hessian"] - labels.values["hessian"]
        space, absolute = ops.xp(difference), self.loss_func == "mae"
        error = space.abs(difference) if absolute else difference * difference
        of_atom = space.sum(error, axis=-1)
        of_frame = ops.segment_sum(of_atom, labels.frame, labels.natoms.shape[0])
        value = space.sum(labels.weight * of_frame / (9.0 * labels.natoms * labels.natoms))
        return labels.find["hessian"], value, value if absolute else root(value)

    def _huber(self, x: Any, which: int) -> Any:
        """``x²/2`` up to delta, then linear."""
        given: Any = self.huber_delta
        delta = given[which] if isinstance(given, (list, tuple)) else given
        space = ops.xp(x)
        size = space.abs(x)
        return space.where(size <= delta, 0.5 * x * x, delta * (size - 0.5 * delta))


def _length(x: Any) -> Any:
    """Length of rows, (n, 3) -> (n, 1), with slope 0 at 0."""
    space = ops.xp(x)
    squared = space.sum(x * x, axis=-1, keepdims=True)
    zero = squared == 0
    return space.where(zero, 0.0 * squared, space.sqrt(space.where(zero, squared + 1.0, squared)))


loss_args.register("ener", alias=["ener_hess"])(ener_loss_arguments)
