# SPDX-License-Identifier: LGPL-3.0-or-later
"""Loss of properties, measured in units of their spread."""

from typing import Any

import numpy as np

from deepmd.base.errors import InputError
from deepmd.dpmodel import ops
from deepmd.dpmodel.label import Label
from deepmd.dpmodel.loss.base import (
    Labels,
    Loss,
    LossTerm,
    Mean,
    at_least_one,
    counted_atoms,
    frame_mean,
    only_output,
)
from deepmd.dpmodel.module import Serial
from deepmd.schema.common import NOT_NEGATIVE, Rule, one_of
from deepmd.schema.settings import setting

MEASURES = ("smooth_mae", "mae", "mse", "rmse", "mape")

#: Keeps relative errors of labels around zero finite; part of the definition of mape.
MAPE_SHIFT = 1e-3


@Loss.register("property")
class PropertyLoss(Loss):
    """Errors of properties.

    A measure of ``x = (p - out_bias) / out_std`` against the label treated alike. p is the
    property, divided by the number of atoms unless it is intensive. Absolute, squared and smooth
    absolute errors are summed over the batch, ``rmse`` and ``mape`` are means; ``mape`` and all
    metrics are of p itself.
    """

    fits = ("property",)
    serial = Serial(
        layout="@class @version task_dim var_name loss_func metric beta out_bias out_std intensive",
        name="PropertyLoss",
    )

    task_dim: int = setting(..., "Numbers per frame.", key=False)
    var_name: str = setting(..., "Name of the output and of the label.", key=False)
    loss_func: str = setting(
        "smooth_mae",
        f"Measure that is minimized: {', '.join(MEASURES)}.",
        rule=one_of(*MEASURES),
    )
    metric: list[str] = setting(
        ("mae",),
        "Measures that are shown.",
        rule=Rule(
            lambda v: len(v) > 0 and all(m in MEASURES for m in v),
            f"must be some of {', '.join(MEASURES)}",
        ),
    )
    beta: float = setting(
        1.0,
        "Below this, in units of the deviation, smooth_mae is a parabola.",
        kind=[float, int],
        rule=NOT_NEGATIVE,
    )
    # Lists: they are options of the loss, never trained.
    out_bias: Any = setting(None, "Of the model, task_dim numbers; 0 if not given.", key=False)
    out_std: Any = setting(None, "Of the model, task_dim numbers; 1 if not given.", key=False)
    intensive: bool = setting(
        False, "Whether the property of a frame is a mean over its atoms.", key=False
    )

    def build(self) -> None:
        """Fill in bias and deviation, and check their lengths."""
        for name, fill in (("out_bias", 0.0), ("out_std", 1.0)):
            given = getattr(self, name)
            given = [fill] * self.task_dim if given is None else np.ravel(given).tolist()
            setattr(self, name, given)
        if not len(self.out_bias) == len(self.out_std) == self.task_dim:
            raise InputError(
                f"{len(self.out_bias)} biases and {len(self.out_std)} deviations for "
                f"{self.task_dim} numbers of {self.var_name}",
                where="loss",
            )

    @classmethod
    def for_model(cls, section: dict[str, Any], start_lr: float, model: Any) -> "PropertyLoss":
        """Build the loss of a checked section for the output of a model."""
        output = only_output(model)
        loss = cls(output.size, output.name, intensive=output.intensive, **section)
        loss.take_statistics(model)
        return loss

    def take_statistics(self, model: Any) -> None:
        """Take bias and deviation of the model's output.

        Labels of frames give one deviation for all types, and the bias cancels in differences: the
        row of any type will do.
        """
        bias, std = model.atomic_model.out_bias, model.atomic_model.out_std
        self.out_bias, self.out_std = np.ravel(bias[0][0]).tolist(), np.ravel(std[0][0]).tolist()
        if not all(s > 0 for s in self.out_std):
            raise InputError(
                f"the labels {self.var_name} do not vary, their error has no scale",
                where=f"data {self.var_name}.npy",
                fix="leave out numbers that are the same in all frames",
            )

    def label_requirements(self) -> list[Label]:
        """Return the label."""
        return [Label(self.var_name, self.task_dim, False, required=True, high_precision=True)]

    def metric_names(self) -> list[str]:
        """Return the names of the metrics to show."""
        return sorted(set(self.metric))

    def terms_of(self, lr: Any, pred: dict[str, Any], labels: Labels) -> list[LossTerm]:
        """Compare predictions with labels; see :class:`Loss`."""
        p, reference = pred[self.var_name], labels.values[self.var_name]
        if not self.intensive:
            n = at_least_one(counted_atoms(labels, pred.get("mask")))[:, None]
            p, reference = p / n, reference / n
        d = p - reference
        if self.loss_func != "mape":
            d = d / ops.like(np.asarray(self.out_std), p)
        minimized = self._measure(self.loss_func, d, reference, labels)
        if self.loss_func in ("smooth_mae", "mae", "mse"):
            minimized = minimized.scaled(float(self.task_dim))._replace(form="sum")
        find = labels.find[self.var_name]
        terms = [LossTerm("", find, 1.0, minimized, None)]
        for name in self.metric:
            measure = self._measure(name, p - reference, reference, labels)
            terms.append(LossTerm(name, find, 0.0, None, measure))
        return terms

    def _measure(self, name: str, d: Any, reference: Any, labels: Labels) -> Mean:
        """Mean over frames and components of errors d (n_frames, task_dim)."""
        space = ops.xp(d)
        if name == "mae":
            return frame_mean(space.abs(d), labels)
        if name == "mape":
            return frame_mean(space.abs(d / (reference + MAPE_SHIFT)), labels)
        if name == "smooth_mae":
            size, beta = space.abs(d), self.beta
            if beta:
                size = space.where(size < beta, (0.5 / beta) * d * d, size - 0.5 * beta)
            return frame_mean(size, labels)
        mean = frame_mean(d * d, labels)
        return mean.root() if name == "rmse" else mean
