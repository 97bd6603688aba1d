# SPDX-License-Identifier: LGPL-3.0-or-later
"""Loss base class, its terms, and the labels of a batch."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar, NamedTuple

import numpy as np

from deepmd.base.plugin import Registry
from deepmd.dpmodel import ops
from deepmd.dpmodel.batch import Batch
from deepmd.dpmodel.label import Label
from deepmd.dpmodel.module import Registered, Serial
from deepmd.schema.common import NOT_NEGATIVE
from deepmd.schema.cross import demand
from deepmd.schema.registry import loss_args
from deepmd.schema.settings import setting


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
        Weight of each frame in the means: 1, and 0 for a frame of padding.
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
    """Return the labels of a batch; every frame has the same weight, unless the batch has some."""
    return Labels(
        dict(batch.labels),
        {k: float(v) for k, v in batch.find.items()},
        batch.natoms.astype(np.float64),
        batch.frame,
        np.ones(batch.n_frames) if batch.weight is None else batch.weight,
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

    @classmethod
    def wants_hessian(cls, section: Mapping[str, Any]) -> bool:
        """Whether the loss of a checked section compares second derivatives of the energy."""
        return False

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
        """Return the names of the metrics to show, by alphabet."""
        raise TypeError(f"{type(self).__name__} does not state its metrics")

    def terms_of(self, lr: Any, pred: dict[str, Any], labels: Labels) -> "list[LossTerm]":
        """Compare predictions with labels, term by term, on the atoms and frames of this process.

        Parameters
        ----------
        lr : float
            Learning rate of this step; the prefactors follow it.
        pred : dict
            Of :meth:`deepmd.dpmodel.model.Model.predict`.
        labels : Labels
        """
        raise TypeError(f"{type(self).__name__} cannot be evaluated")

    def call(
        self,
        lr: Any,
        pred: dict[str, Any],
        labels: Labels,
        reduce: Callable[[Any], Any] | None = None,
    ) -> tuple[Any, dict[str, Any]]:
        """Compare predictions with labels.

        Parameters
        ----------
        lr, pred, labels
            As of :meth:`terms_of`.
        reduce : function, optional
            Sum of an array (n,) over the ranks of a distributed training. The loss and the metrics
            are then those of the batches of all ranks; the gradient is the part of this rank, and
            the sum of the parts over the ranks is the gradient.

        Returns
        -------
        loss : scalar
        metrics : dict of str to scalar
            The error of every quantity.
        """
        terms = self.terms_of(lr, pred, labels)
        if reduce is not None:
            terms = _over_ranks(terms, reduce)
        total: Any = 0.0
        metrics: dict[str, Any] = {}
        for term in terms:
            if term.minimized is not None:
                total = total + term.find * term.prefactor * term.minimized.value()
            if term.metric is not None:
                metrics[term.name] = shown(term.metric.shown_value(), term.find)
        return total, metrics


class Mean(NamedTuple):
    """A mean as sum and weight, so that it can be taken over the batches of several ranks.

    Attributes
    ----------
    sum : scalar
        Sum of weight times error.
    weight : scalar
        Sum of the weights. The mean of nothing is 0.
    form : {"mean", "root", "sum"}
        The mean, its square root, or the sum without division.
    """

    sum: Any
    weight: Any
    form: str = "mean"

    def value(self) -> Any:
        """Return the mean, its root, or the sum."""
        if self.form == "sum":
            return self.sum
        space = ops.xp(self.sum)
        mean = self.sum / space.where(self.weight > 0, self.weight, 1.0 + 0.0 * self.weight)
        return space.sqrt(mean) if self.form == "root" else mean

    def shown_value(self) -> Any:
        """Return the value, independent of the parameters."""
        total, weight = ops.stop_gradient(self.sum), ops.stop_gradient(self.weight)
        return Mean(total, weight, self.form).value()

    def scaled(self, factor: Any) -> "Mean":
        """Return the mean of ``factor`` times the errors."""
        return self._replace(sum=factor * self.sum)

    def root(self) -> "Mean":
        """Return the root of the mean."""
        return self._replace(form="root")


class LossTerm(NamedTuple):
    """One term of a loss on a batch: what is minimized, and what is shown.

    Attributes
    ----------
    name : str
        Name of the metric.
    find : float
        1.0 where the label is there, 0.0 where not: the term is skipped.
    prefactor : float
    minimized : Mean or None
        The contribution to the loss, without the prefactor.
    metric : Mean or None
        The error that is shown.
    """

    name: str
    find: Any
    prefactor: Any
    minimized: Mean | None
    metric: Mean | None


def _over_ranks(terms: list[LossTerm], reduce: Callable[[Any], Any]) -> list[LossTerm]:
    """Return the terms of the batches of all ranks; one reduction for all of them.

    The sums have the values of all ranks and the derivatives of this one. A label that is missing
    on some ranks is found where one has it; ranks without it add nothing.
    """
    means = [(m, t.find) for t in terms for m in (t.minimized, t.metric) if m is not None]
    if not means:
        return terms
    space = ops.xp(means[0][0].sum)
    own = [part * find for m, find in means for part in (m.sum, m.weight, 1.0 + 0.0 * m.weight)]
    total = reduce(ops.stop_gradient(space.stack(own)))

    def of_all(k: int, mean: Mean) -> Mean:
        value = own[3 * k] + (total[3 * k] - ops.stop_gradient(own[3 * k]))
        return mean._replace(sum=value, weight=total[3 * k + 1])

    out, k = [], 0
    for term in terms:
        kept: list[Mean | None] = []
        find = term.find
        for mean in (term.minimized, term.metric):
            kept.append(None if mean is None else of_all(k, mean))
            if mean is not None:
                ones = total[3 * k + 2]
                find = space.where(ones > 0, 1.0 + 0.0 * ones, 0.0 * ones)
                k += 1
        out.append(term._replace(find=find, minimized=kept[0], metric=kept[1]))
    return out


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
    """Return a metric, or NaN where its label is absent."""
    if isinstance(find, (int, float)):
        return value if find > 0 else float("nan")
    return ops.xp(value).where(find > 0, value, float("nan") + 0 * value)


def frame_mean(x: Any, labels: Labels) -> Mean:
    """Mean over frames of the mean over components of x (n_frames, size)."""
    space = ops.xp(x)
    return Mean(space.sum(labels.weight * _component_mean(x)), space.sum(labels.weight))


def atom_mean(x: Any, labels: Labels, mask: Any = None) -> Mean:
    """Mean over all atoms of all frames, and over components, of x (n_atoms, size).

    With a mask (n_atoms, 1) of ones and zeros, only the atoms with one count.
    """
    space = ops.xp(x)
    mean = _component_mean(x) if mask is None else _component_mean(x) * mask[:, 0]
    total = space.sum(ops.take(labels.weight, labels.frame) * mean)
    return Mean(total, space.sum(labels.weight * counted_atoms(labels, mask)))


def mean_square(d: Any, labels: Labels, mask: Any, *, of_atoms: bool) -> tuple[Mean, Mean]:
    """Return the mean square of errors of atoms (n_atoms, size) or of sums over them, and a metric.

    The metric is the root of the mean square, per atom. Of atoms, those in the mask count.
    """
    if of_atoms:
        value = atom_mean(d * d, labels, mask)
        return value, value.root()
    per_atom = d / at_least_one(counted_atoms(labels, mask))[:, None]
    return frame_mean(d * d, labels), frame_mean(per_atom * per_atom, labels).root()


def counted_atoms(labels: Labels, mask: Any = None) -> Any:
    """Return the number of atoms, or of those in the mask (n_atoms, 1): (n_frames,)."""
    if mask is None:
        return labels.natoms
    return ops.segment_sum(1.0 * mask[:, 0], labels.frame, ops.shape(labels.natoms)[0])


def at_least_one(counts: Any) -> Any:
    """Return numbers of atoms as divisors: 1 in place of 0."""
    return ops.xp(counts).clip(counts, 1.0, None)


def _component_mean(x: Any) -> Any:
    return ops.xp(x).sum(x, axis=-1) / x.shape[-1]
