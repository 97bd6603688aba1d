# SPDX-License-Identifier: LGPL-3.0-or-later
"""Loss of dipoles and polarizabilities, of frames and of atoms."""

from typing import Any

from deepmd.dpmodel import ops
from deepmd.dpmodel.label import Label
from deepmd.dpmodel.loss.base import (
    Labels,
    Loss,
    atom_mean,
    counted_atoms,
    frame_mean,
    only_output,
    root,
    shown,
)
from deepmd.dpmodel.module import Serial
from deepmd.schema.common import NOT_NEGATIVE
from deepmd.schema.settings import setting
from deepmd.utils.errors import InputError


@Loss.register("tensor")
class TensorLoss(Loss):
    """Errors of dipoles or polarizabilities.

    ``pref <(T - T̂)²> + pref_atomic <(w_i (t_i - t̂_i))²>``, means over all components; the weights
    are the same throughout the training.
    """

    fits = ("dipole", "polar")
    serial = Serial(
        layout="@class @version tensor_name tensor_size label_name pref pref_atomic"
        " enable_atomic_weight",
        name="TensorLoss",
    )

    tensor_name: str = setting(..., "Name of the model's output.", key=False)
    tensor_size: int = setting(..., "Its components.", key=False)
    label_name: str = setting(
        ..., "Name of the data file; atom_ before it for the values of atoms.", key=False
    )
    pref: float = setting(
        ..., "Weight of the tensor of a frame.", kind=[float, int], rule=NOT_NEGATIVE
    )
    pref_atomic: float = setting(
        ..., "Weight of the tensors of atoms.", kind=[float, int], rule=NOT_NEGATIVE
    )
    enable_atomic_weight: bool = setting(
        False, "Multiply the errors of atoms by atomic_weight.npy."
    )
    sel_type: list[int] | None = setting(
        None,
        "Types that are predicted: a file may hold the values of their atoms only.",
        key=False,
    )

    def build(self) -> None:
        """Refuse a loss of nothing."""
        if not self.pref and not self.pref_atomic:
            raise InputError(
                "nothing is compared", where="loss", fix="give pref or pref_atomic a positive value"
            )

    @classmethod
    def for_model(cls, section: dict[str, Any], start_lr: float, model: Any) -> "TensorLoss":
        """Build the loss of a checked section for the output of a model."""
        output = only_output(model)
        types = model.get_sel_type()
        return cls(output.name, output.size, output.label_name, sel_type=types or None, **section)

    def label_requirements(self) -> list[Label]:
        """Return the labels of the terms that take part."""
        name, size = self.label_name, self.tensor_size
        wanted = []
        if self.pref:
            wanted.append(Label(name, size, False))
        if self.pref_atomic:
            chosen = None if self.sel_type is None else tuple(self.sel_type)
            wanted.append(Label(f"atom_{name}", size, True, sel_type=chosen))
            if self.enable_atomic_weight:
                wanted.append(Label("atom_weight", 1, True, default=1.0))
        return wanted

    def metric_names(self) -> list[str]:
        """Return the names of the figures to show."""
        terms = (("global", self.pref), ("local", self.pref_atomic))
        return [f"rmse_{where}_{self.tensor_name}" for where, weight in terms if weight]

    def call(self, lr: Any, pred: dict[str, Any], labels: Labels) -> tuple[Any, dict[str, Any]]:
        """Compare predictions with labels; see :class:`Loss`.

        Atoms of excluded types do not count, neither in means nor in the figure per atom.
        """
        mask = pred.get("mask")
        total: Any = 0.0
        figures: dict[str, Any] = {}
        if self.pref:
            find = labels.find[self.label_name]
            d = pred[self.tensor_name] - labels.values[self.label_name]
            total = total + find * self.pref * frame_mean(d * d, labels)
            d = d / ops.xp(d).clip(counted_atoms(labels, mask), 1.0, None)[:, None]
            figure = root(frame_mean(d * d, labels))
            figures[f"rmse_global_{self.tensor_name}"] = shown(figure, find)
        if self.pref_atomic:
            name = f"atom_{self.label_name}"
            d = pred[f"atom_{self.tensor_name}"] - labels.values[name]
            if self.enable_atomic_weight:
                d = labels.values["atom_weight"] * d
            value = atom_mean(d * d, labels, mask)
            total = total + labels.find[name] * self.pref_atomic * value
            figures[f"rmse_local_{self.tensor_name}"] = shown(root(value), labels.find[name])
        return total, figures
