# SPDX-License-Identifier: LGPL-3.0-or-later
"""What every loss offers, and the labels it is given."""

from collections.abc import Callable, Iterable
from typing import Any, ClassVar, NamedTuple

import numpy as np

from deepmd.dpmodel import ops
from deepmd.dpmodel.batch import Batch
from deepmd.dpmodel.label import Label
from deepmd.dpmodel.module import Registered, Serial
from deepmd.schema.common import NOT_NEGATIVE
from deepmd.schema.cross import demand
from deepmd.schema.registry import loss_args
from deepmd.schema.settings import setting
from deepmd.utils.plugin import Registry


class Labels(NamedTuple):
    """Reference values of a batch, in the arrays of any framework.

    Attributes
    ----------
    values : dict of str to array
        (n_frames, size) or (n_atoms, size).
    find : dict of str to float
        1.0 where the label is there, 0.0 where not.
    natoms : (n_frames,) float64
    frame : (n_atoms,) int64
    weight : (n_frames,) float64
        Share of each frame in the means; they add up to 1. A frame of padding has 0.
    """

    values: dict[str, Any]
    find: dict[str, Any]
    natoms: Any
    frame: Any
    weight: Any

    def map(self, f: Callable[[Any], Any]) -> "Labels":
        """Apply ``f`` to every array; the flags stay as they are."""
        values = {k: f(v) for k, v in self.values.items()}
        return Labels(values, self.find, f(self.natoms), f(self.frame), f(self.weight))


def labels_of(batch: Batch) -> Labels:
    """Return the labels of a batch, every frame with the same weight."""
    n = batch.n_frames
    return Labels(
        dict(batch.labels),
        {k: float(v) for k, v in batch.find.items()},
        batch.natoms.astype(np.float64),
        batch.frame,
        np.full(n, 1.0 / n),
    )


class Loss(Registered):
    """Base of all losses."""

    registry: ClassVar[Registry] = Registry("loss")
    keys = loss_args
    #: Kinds of models it compares, see :meth:`Model.kinds`; any if none is named.
    fits: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def for_model(cls, section: dict[str, Any], start_lr: float, model: Any) -> Any:
        """Build the loss of a checked section without its type.

        Parameters
        ----------
        section : dict
        start_lr : float
            Learning rate at which the prefactors have their start values.
        model : Model or None
            Says what is predicted; losses that must know it refuse None.
        """
        return cls(starter_learning_rate=start_lr, **section)

    def take_statistics(self, model: Any) -> None:
        """Take over what follows from a model's output statistics, once these are set."""

    def label_requirements(self) -> list[Label]:
        """Return the labels that are compared."""
        raise TypeError(f"{type(self).__name__} does not state its labels")

    def derivatives(self) -> tuple[str, ...]:
        """Return which of ``force`` and ``virial`` must be predicted."""
        return ()

    def predict(
        self, model: Any, inputs: Any, n_frames: int, labels: Labels, *, order: int
    ) -> dict[str, Any]:
        """Evaluate a model for the comparison; see :meth:`deepmd.dpmodel.model.Model.predict`."""
        return model.predict(inputs, n_frames, derivatives=self.derivatives(), order=order)

    def metric_names(self) -> list[str]:
        """Return the names of the figures to show, the total first, then by alphabet."""
        raise TypeError(f"{type(self).__name__} does not state its figures")

    def call(self, lr: Any, pred: dict[str, Any], labels: Labels) -> tuple[Any, dict[str, Any]]:
        """Compare predictions with labels.

        Parameters
        ----------
        lr : float
            Learning rate of this step; the prefactors follow it.
        pred : dict
            Of :meth:`deepmd.dpmodel.model.Model.predict`.
        labels : Labels

        Returns
        -------
        loss : scalar
        figures : dict of str to scalar
            ``rmse``, the root of the loss, and the error of every quantity.
        """
        raise TypeError(f"{type(self).__name__} cannot be evaluated")


class Term(NamedTuple):
    """Part of a loss: what it compares, and its default weights."""

    what: str
    start: float = 0.0
    limit: float = 0.0


class ScheduledLoss(Loss):
    """``Σ_t p_t(lr) L_t`` with ``p_t = limit_t + (start_t - limit_t) lr / starter_learning_rate``.

    A subclass names its terms; the prefactors ``start_pref_t`` and ``limit_pref_t`` become settings.
    """

    terms: ClassVar[dict[str, Term]] = {}

    starter_learning_rate: float = setting(
        ..., "Learning rate at which the prefactors have their start values.", key=False
    )

    def __init_subclass__(cls, **kwargs: Any) -> None:
        for t, term in vars(cls).get("terms", {}).items():
            for when, default, where in (
                ("start", term.start, "at the start of the training"),
                ("limit", term.limit, "in the limit of a vanishing learning rate"),
            ):
                doc = f"Weight of the {term.what} {where}."
                prefactor = setting(default, doc, kind=[float, int], rule=NOT_NEGATIVE)
                setattr(cls, f"{when}_pref_{t}", prefactor)
                cls.__annotations__[f"{when}_pref_{t}"] = float
        super().__init_subclass__(**kwargs)

    @classmethod
    def check(cls, section: dict[str, Any]) -> None:
        """Raise InputError if a checked section compares nothing."""
        demand(
            any(value for key, value in section.items() if "_pref_" in key),
            "nothing is compared",
            "loss",
            "give a prefactor a positive value",
        )

    def has(self, term: str) -> bool:
        """Whether a term takes part."""
        return bool(getattr(self, f"start_pref_{term}") or getattr(self, f"limit_pref_{term}"))

    def prefactor(self, term: str, lr: Any) -> Any:
        """Prefactor of a term at a learning rate."""
        start, limit = getattr(self, f"start_pref_{term}"), getattr(self, f"limit_pref_{term}")
        return limit + (start - limit) * (lr / self.starter_learning_rate)


def scheduled_serial(
    name: str, terms: Iterable[str], before: str = "", after: str = "", **more: Any
) -> Serial:
    """Return what a loss with terms holds: keys before the prefactors, these, and keys after."""
    prefactors = " ".join(f"start_pref_{t} limit_pref_{t}" for t in terms)
    layout = f"@class @version starter_learning_rate {before} {prefactors} {after}"
    return Serial(layout=layout, name=name, **more)


def only_output(model: Any) -> Any:
    """Return the definition of the one output of a model."""
    [output] = model.output_def().get_data().values()
    return output


def shown(value: Any, find: Any) -> Any:
    """Return a figure, or NaN where its label is absent."""
    if isinstance(find, (int, float)):
        return value if find > 0 else float("nan")
    return ops.xp(value).where(find > 0, value, float("nan") + 0 * value)


def root(x: Any) -> Any:
    """Square root for display, outside of derivatives."""
    return ops.xp(x).sqrt(ops.stop_gradient(x))


def frame_mean(x: Any, labels: Labels) -> Any:
    """Mean over frames of the mean over components of x (n_frames, size)."""
    return ops.xp(x).sum(labels.weight * _component_mean(x))


def atom_mean(x: Any, labels: Labels, mask: Any = None) -> Any:
    """Mean over all atoms of all frames, and over components, of x (n_atoms, size).

    With a mask (n_atoms, 1) of ones and zeros, only the atoms with one count.
    """
    space = ops.xp(x)
    share = labels.weight / space.sum(labels.weight * counted_atoms(labels, mask))
    mean = _component_mean(x) if mask is None else _component_mean(x) * mask[:, 0]
    return space.sum(ops.take(share, labels.frame) * mean)


def mean_square(d: Any, labels: Labels, mask: Any, *, of_atoms: bool) -> tuple[Any, Any]:
    """Return the mean square of errors of atoms (n_atoms, size) or of sums over them, and a figure.

    The figure is the root of the mean square, per atom. Of atoms, those in the mask count.
    """
    if of_atoms:
        value = atom_mean(d * d, labels, mask)
        return value, root(value)
    per_atom = d / ops.xp(d).clip(counted_atoms(labels, mask), 1.0, None)[:, None]
    return frame_mean(d * d, labels), root(frame_mean(per_atom * per_atom, labels))


def counted_atoms(labels: Labels, mask: Any = None) -> Any:
    """Return the number of atoms, or of those in the mask (n_atoms, 1): (n_frames,)."""
    if mask is None:
        return labels.natoms
    return ops.segment_sum(mask[:, 0], labels.frame, labels.natoms.shape[0])


def _component_mean(x: Any) -> Any:
    return ops.xp(x).sum(x, axis=-1) / x.shape[-1]
