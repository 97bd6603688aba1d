# SPDX-License-Identifier: LGPL-3.0-or-later
"""Loss of properties, measured in units of their spread."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from dargs import Argument

from deepmd.dpmodel import ops
from deepmd.dpmodel.label import Label
from deepmd.dpmodel.loss.base import Labels, Loss, frame_mean, only_output
from deepmd.dpmodel.module import Serial
from deepmd.schema.common import NOT_NEGATIVE, Rule, one_of, option
from deepmd.schema.registry import loss_args
from deepmd.utils.errors import InputError

MEASURES = ("smooth_mae", "mae", "mse", "rmse", "mape")

#: Keeps relative errors of labels around zero finite; part of the definition of mape.
MAPE_SHIFT = 1e-3


@Loss.register("property")
class PropertyLoss(Loss):
    """A measure of ``x = (p - out_bias) / out_std`` against the label treated alike.

    p is the property, divided by the number of atoms unless it is intensive. Absolute, squared and
    smooth absolute errors are summed over the batch, ``rmse`` and ``mape`` are means; ``mape`` and
    all figures are of p itself.

    Parameters
    ----------
    task_dim : int
        Numbers per frame.
    var_name : str
        Name of the output and of the label.
    loss_func : {"smooth_mae", "mae", "mse", "rmse", "mape"}
    metric : list of str
        Which of these to show.
    beta : float
        Below this ``smooth_mae`` is a parabola.
    out_bias, out_std : list of float
        Of the model, task_dim numbers each.
    intensive : bool
    """

    serial = Serial(
        layout="@class @version task_dim var_name loss_func metric beta out_bias out_std intensive",
        name="PropertyLoss",
    )

    def __init__(
        self,
        task_dim: int,
        var_name: str,
        *,
        loss_func: str = "smooth_mae",
        metric: Sequence[str] = ("mae",),
        beta: float = 1.0,
        out_bias: Sequence[float] | None = None,
        out_std: Sequence[float] | None = None,
        intensive: bool = False,
    ) -> None:
        self.task_dim, self.var_name, self.intensive = task_dim, var_name, intensive
        self.loss_func, self.metric, self.beta = loss_func, list(metric), float(beta)
        # Lists: they are options of the loss, never trained.
        self.out_bias = [0.0] * task_dim if out_bias is None else np.ravel(out_bias).tolist()
        self.out_std = [1.0] * task_dim if out_std is None else np.ravel(out_std).tolist()
        for name in (loss_func, *self.metric):
            if name not in MEASURES:
                raise InputError(
                    f'unknown measure "{name}"', where="loss", fix=f"known: {', '.join(MEASURES)}"
                )
        if len(self.out_bias) != task_dim or len(self.out_std) != task_dim:
            raise InputError(
                f"{len(self.out_bias)} biases and {len(self.out_std)} deviations for {task_dim} "
                f"numbers of {var_name}",
                where="loss",
            )

    @classmethod
    def for_model(cls, section: dict[str, Any], start_lr: float, model: Any) -> "PropertyLoss":
        """Build the loss of a checked section for the output of a model."""
        output = only_output(model, "property")
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
        """Return the names of the figures to show."""
        return sorted(set(self.metric), key=lambda name: (name != "rmse", name))

    def call(self, lr: Any, pred: dict[str, Any], labels: Labels) -> tuple[Any, dict[str, Any]]:
        """Compare predictions with labels; see :class:`Loss`."""
        p, reference = pred[self.var_name], labels.values[self.var_name]
        if not self.intensive:
            n = labels.natoms[:, None]
            p, reference = p / n, reference / n
        std = ops.like(np.asarray(self.out_std), p)
        find = labels.find[self.var_name]
        if self.loss_func == "mape":
            total = self._measure("mape", p - reference, reference, labels)
        else:
            total = self._measure(self.loss_func, (p - reference) / std, reference, labels)
        if self.loss_func in ("smooth_mae", "mae", "mse"):
            space = ops.xp(labels.weight)
            frames = space.sum(space.where(labels.weight > 0, 1.0 + 0 * labels.weight, 0.0))
            total = total * (frames * self.task_dim)
        p = ops.stop_gradient(p)
        figures = {m: self._measure(m, p - reference, reference, labels) for m in self.metric}
        return find * total, figures

    def _measure(self, name: str, d: Any, reference: Any, labels: Labels) -> Any:
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
        return space.sqrt(mean) if name == "rmse" else mean


@loss_args.register("property", doc="Errors of properties.")
def property_loss_arguments() -> list[Argument]:
    """Keys of the property loss."""
    return [
        option(
            "loss_func",
            str,
            "smooth_mae",
            f"Measure that is minimised: {', '.join(MEASURES)}.",
            rule=one_of(*MEASURES),
        ),
        option(
            "metric",
            list[str],
            ["mae"],
            "Measures that are shown.",
            rule=Rule(
                lambda v: len(v) > 0 and all(m in MEASURES for m in v),
                f"must be some of {', '.join(MEASURES)}",
            ),
        ),
        option(
            "beta",
            [float, int],
            1.0,
            "Below this, in units of the deviation, smooth_mae is a parabola.",
            rule=NOT_NEGATIVE,
        ),
    ]
