# SPDX-License-Identifier: LGPL-3.0-or-later
"""Loss of dipoles and polarizabilities, of frames and of atoms."""

from typing import Any

from deepmd.base.errors import InputError
from deepmd.dpmodel.label import Label
from deepmd.dpmodel.loss.base import Labels, Loss, LossTerm, mean_square, only_output
from deepmd.dpmodel.module import Serial
from deepmd.schema.common import NOT_NEGATIVE
from deepmd.schema.settings import setting


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
        """Return the names of the metrics to show."""
        return [metric for _, _, metric in self._terms()]

    def _terms(self) -> list[tuple[bool, float, str]]:
        """Terms that take part: of atoms, weight, name of the metric."""
        known = ((False, self.pref, "global"), (True, self.pref_atomic, "local"))
        return [(a, w, f"rmse_{where}_{self.tensor_name}") for a, w, where in known if w]

    def terms_of(self, lr: Any, pred: dict[str, Any], labels: Labels) -> list[LossTerm]:
        """Compare predictions with labels; see :class:`Loss`.

        Atoms of excluded types do not count, neither in means nor in the metric per atom.
        """
        terms = []
        for of_atoms, weight, metric in self._terms():
            prefix = "atom_" * of_atoms
            find = labels.find[prefix + self.label_name]
            d = pred[prefix + self.tensor_name] - labels.values[prefix + self.label_name]
            if of_atoms and self.enable_atomic_weight:
                d = labels.values["atom_weight"] * d
            means = mean_square(d, labels, pred.get("mask"), of_atoms=of_atoms)
            terms.append(LossTerm(metric, find, weight, *means))
        return terms
