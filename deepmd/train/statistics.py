# SPDX-License-Identifier: LGPL-3.0-or-later
"""Statistics of the data for a new model: means, deviations, biases."""

import copy
import dataclasses
import logging
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Self

import numpy as np

from deepmd.base.errors import InputError
from deepmd.base.log import with_progress
from deepmd.data.dataset import Dataset
from deepmd.data.statistics import (
    NoStatFile,
    StatFile,
    descriptor_key,
    fit_atomic_bias,
    fit_bias,
    fit_common_bias,
)
from deepmd.dpmodel.batch import Batch, Edges
from deepmd.dpmodel.model import Model, prepare
from deepmd.dpmodel.neighbors.packing import allowed_pairs
from deepmd.dpmodel.output_def import OutputVariableDef
from deepmd.runtime.evaluator import Evaluator

log = logging.getLogger(__name__)


class Sample:
    """The frames statistics are taken from, the same ones on every backend.

    Batches are read when something asks for them and are not kept: with their edges, those of many
    systems would not fit into the memory.

    Parameters
    ----------
    data : Dataset
    nbatch : int
        Batches per system.
    types : (ntypes,) int, optional
        New number of each type.
    model : Model, optional
        Batches with edges come as this model sees them, with the surroundings of all atoms.
    cache : StatFile, optional
        Keeps what is found in the frames.
    protect : float
        Smallest deviation of parameters of frames and atoms.
    apart : sequence of (str, str)
        Names of types that are no neighbors.
    """

    def __init__(
        self,
        data: Dataset,
        nbatch: int,
        types: np.ndarray | None = None,
        *,
        model: Model | None = None,
        cache: StatFile | None = None,
        protect: float = 0.01,
        apart: Sequence[tuple[str, str]] = (),
    ) -> None:
        self.data, self.nbatch, self.types, self.model = data, nbatch, types, model
        self.protect, self.apart = protect, tuple(apart)
        self.cache = cache or NoStatFile()

    def _frames(self) -> Iterator[tuple[int, np.ndarray]]:
        """Iterate over the system and frames of every batch."""
        sampler = self.data.sampler
        sizes = with_progress(sampler.batch_sizes, "statistics of %d of %d systems")
        for index, size in enumerate(sizes):
            if size > 0:
                frames, step = sampler.selection(index, self.nbatch * size), size // sampler.world
                yield from ((index, frames[k : k + step]) for k in range(0, len(frames), step))

    def _numbered(self, batch: Batch) -> Batch:
        if self.types is None:
            return batch
        return dataclasses.replace(batch, atype=self.types[batch.atype])

    def batches(self) -> Iterator[Batch]:
        """Iterate over the batches, with edges."""
        for index, frames in self._frames():
            batch = self.data.load(index, frames)
            if self.model is not None:
                batch = self.model.for_statistics(batch)
            yield self._numbered(self._cut(batch))

    def without_edges(self) -> Iterator[Batch]:
        """Iterate over the same batches without looking for neighbors."""
        for index, frames in self._frames():
            yield self._numbered(self.data.without_edges(index, frames))

    def _names(self) -> list[str]:
        """Names of the types of the batches; with spins those of the virtual atoms, too."""
        assert self.model is not None, "the numbers of the types are those of the model"
        return self.model.atomic_model.type_map

    def _cut(self, batch: Batch) -> Batch:
        """Return a batch without the edges between types that are no neighbors."""
        if not self.apart:
            return batch
        names = self._names()
        return cut_between(
            batch, [(names.index(a), names.index(b)) for a, b in self.apart], len(names)
        )

    def _changed(self, **changes: Any) -> Self:
        out = copy.copy(self)
        vars(out).update(changes)
        return out

    def of_types(self, type_map: Sequence[str]) -> "Sample":
        """Return the same frames with types numbered by another type map than that of the model."""
        names = self._names()
        same = list(type_map) == names
        types = None if same else np.array([list(type_map).index(name) for name in names])
        return self._changed(types=types)

    def without_pairs(self, pairs: Sequence[Sequence[int]], type_map: Sequence[str]) -> "Sample":
        """Return the same frames without edges between these pairs of types of a type map."""
        if not len(pairs):
            return self
        known = set(self._names())
        named = [(type_map[a], type_map[b]) for a, b in pairs]
        apart = [pair for pair in named if known.issuperset(pair)]
        return self._changed(apart=(*self.apart, *apart))

    def fetch(
        self,
        shapes: Mapping[str, tuple[int, ...]],
        compute: Callable[[], Mapping[str, np.ndarray]],
        about: Mapping[str, Any] | None = None,
    ) -> dict[str, np.ndarray]:
        """Return arrays from the cache, or compute them; see the protocol.

        The cache is one of the model's type map: what depends on another one is not kept.
        """
        if about is not None and self.apart:  # DeePMD-kit has one key, whatever is left out
            about = {**about, "apart": sorted(map(sorted, self.apart))}
        group = "" if about is None else f"{descriptor_key(about)}/"
        known = self.cache if about is None or self.types is None else NoStatFile()
        return known.fetch(shapes, compute, group=group)


def cut_between(batch: Batch, pairs: Sequence[Sequence[int]], ntypes: int) -> Batch:
    """Return a batch without the edges between pairs of types."""
    edges = batch.edges
    kept = allowed_pairs(pairs, ntypes)[batch.atype[edges.i], batch.atype[edges.j]]
    cut = Edges(edges.i[kept], edges.j[kept], edges.shift[kept])
    return dataclasses.replace(batch, edges=cut)


def correction_of(
    model: Model, evaluator: Callable[[Model], Evaluator] = Evaluator
) -> Callable[[Batch], Mapping[str, np.ndarray]] | None:
    """Return the function of the terms that labels are less, for a model with a modifier.

    ``evaluator`` makes that of the backend.
    """
    if model.modifier is None:
        return None
    made = evaluator(model)
    return lambda batch: model.modifier.terms(batch, made.respond)  # type: ignore[union-attr]


def set_biases(model: Model, sample: Sample) -> None:
    """Set the bias of every output of a new model, in place, unless it fits its own."""
    if getattr(model.atomic_model, "has_own_bias", False):
        return
    for k, variable in enumerate(model.output_def().get_data().values()):
        set_bias(model, k, variable, sample)


# -- shapes ---------------------------------------------------------------------------------------


def table_widths(model: Model, batches: Iterable[Batch]) -> list[int]:
    """Return widths of the neighbor tables, in the order of the slots, that serve these batches.

    They are the largest ones found and a twentieth more, rounded up to multiples of 4, but not
    above ``sel``.
    """
    most = [0] * len(_table_limits(model))
    for batch in batches:
        slots = prepare(model.expand(batch), model.packings()).slots
        found = [slot.shape[1] for slot in slots if slot.ndim == 2]
        most = [max(pair) for pair in zip(most, found, strict=True)]
    return [
        min(4 * math.ceil(1.05 * n / 4), limit)
        for n, limit in zip(most, _table_limits(model), strict=True)
    ]


def _table_limits(model: Model) -> list[int]:
    limits: list[int] = []
    for p in model.packings():
        if p.layout in ("typed", "mixed"):
            one = list(p.sel) if p.layout == "typed" else [sum(p.sel)]
            limits += one * (p.ntypes if p.by_centre else 1)
    return limits


# -- bias -----------------------------------------------------------------------------------------


def given_bias(model: Model, variable: OutputVariableDef) -> np.ndarray | None:
    """Biases that the input fixes, (ntypes, size), NaN where one is to be fitted; or None.

    These are ``preset_out_bias``, and the ``atom_ener`` of the fitting where that has a number: with
    the vacuum energy of the network taken off, the bias is the energy of the isolated atom.
    """
    atomic = model.atomic_model
    outputs = atomic.output_def().keys()
    for name in atomic.preset_out_bias or {}:
        if name not in outputs:
            raise InputError(
                f'the model predicts no "{name}"',
                where="model/preset_out_bias",
                fix=f"give the biases of {', '.join(outputs)}",
            )
    fixed = atomic.fixed_biases(variable.name)
    if not fixed:
        return None
    out = np.full((atomic.ntypes, variable.size), np.nan)
    for source in fixed:
        for t, value in enumerate(source):
            if value is None:
                continue
            row = np.atleast_1d(np.asarray(value, dtype=np.float64))
            if row.size != variable.size or t >= len(out):
                raise InputError(
                    f"type {t} has {row.size} numbers, expected {variable.size}",
                    where=f"model/preset_out_bias/{variable.name}",
                    fix=f"give {len(out)} entries of {variable.size} numbers or null",
                )
            out[t] = row
    if atomic.common_bias and not (out == out[:1]).all():
        raise InputError(
            "one bias serves for all types, but they are given different ones",
            where=f"model/preset_out_bias/{variable.name}",
            fix="give every type the same bias, or leave distinguish_types at its default",
        )
    return out


def keep_given_bias(model: Model) -> None:
    """Set the biases that the input fixes in a model whose parameters come from a file."""
    for k, variable in enumerate(model.output_def().get_data().values()):
        given = given_bias(model, variable)
        if given is not None:
            bias = model.atomic_model.out_bias[k, :, : variable.size]
            bias[:] = np.where(np.isnan(given), bias, given - model.atomic_model.own_bias())


class BiasFit:
    """A fit of one bias per type to labels, or to what is left of them.

    Labels of atoms give the mean of every type, and what is left follows from labels of frames.
    Where types are not distinguished, one number serves for all of them.

    Parameters
    ----------
    model : Model
    variable : OutputVariableDef
    """

    def __init__(self, model: Model, variable: OutputVariableDef) -> None:
        self.atomic, self.variable = model.atomic_model, variable
        self.common = self.atomic.common_bias
        self._labels: list[np.ndarray] = []
        self._counts: list[np.ndarray] = []
        self._natoms: list[np.ndarray] = []
        self._types: list[np.ndarray] = []
        self._of_atoms: list[np.ndarray] = []

    @property
    def names(self) -> tuple[str, str]:
        """Names of the labels of frames and of atoms."""
        return self.variable.label_name, f"atom_{self.variable.label_name}"

    def has_label(self, batch: Batch) -> bool:
        """Whether a batch has one of the labels."""
        return any(batch.find.get(name, 0.0) > 0 for name in self.names)

    def add(self, batch: Batch, predicted: Mapping[str, np.ndarray] | None = None) -> None:
        """Take the labels of a batch, less what is predicted for them."""
        keys = self.variable.name, self.variable.atom_name
        frames, atoms = (
            batch.labels[name] - (0.0 if predicted is None else predicted[key])
            if batch.find.get(name, 0.0) > 0
            else None
            for name, key in zip(self.names, keys, strict=True)
        )
        if atoms is not None:
            self._types.append(batch.atype)
            self._of_atoms.append(atoms)
        if frames is not None:
            counts = np.zeros((batch.n_frames, self.atomic.ntypes))
            np.add.at(counts, (batch.frame, batch.atype), 1.0)
            counts[:, list(self.atomic.atom_exclude_types)] = 0.0
            self._labels.append(frames)
            self._counts.append(counts)
            self._natoms.append(batch.natoms.astype(np.float64))

    def solve(self, known: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray] | None:
        """Return numbers and standard deviations, (ntypes, size) each; None without any label.

        Parameters
        ----------
        known : (ntypes, size), optional
            Numbers to keep; NaN where one is to be fitted.
        """
        if not self._labels and not self._of_atoms:
            return None
        shape = self.atomic.ntypes, self.variable.size
        bias, std = np.full(shape, np.nan), np.ones(shape)
        if self._of_atoms:
            values = np.concatenate(self._of_atoms)
            bias, spread = fit_atomic_bias(np.concatenate(self._types), values, len(bias))
            std = np.where(np.isnan(spread), 1.0, spread)
        if known is not None:
            bias = np.where(np.isnan(known), bias, known)
        if self._labels and self.common:
            return self._by_frames(known)
        if self._labels and np.isnan(bias).any():
            bias, left = self._by_frames(bias)
            std = std if self._of_atoms else left
        return bias, std

    def _by_frames(self, known: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        """Return what the labels of frames give, see :meth:`solve`."""
        labels, natoms = np.concatenate(self._labels), np.concatenate(self._natoms)[:, None]
        intensive, ntypes = self.variable.intensive, self.atomic.ntypes
        if self.common:
            bias, std = fit_common_bias(natoms[:, 0], labels, ntypes, intensive=intensive)
            return (bias if known is None else np.where(np.isnan(known), bias, known)), std
        counts = np.concatenate(self._counts)
        if intensive:  # a mean over the atoms that are not excluded
            counts = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1.0)
        bias, std = fit_bias(counts, labels, rcond=self.atomic.rcond, preset=known)
        rest = labels - counts @ bias
        log.info(
            "RMSE of %s%s after the fit of a bias per type: %.6e",
            self.variable.name,
            "" if intensive else " per atom",
            np.sqrt(np.mean((rest if intensive else rest / natoms) ** 2)),
        )
        return bias, np.tile(std, (ntypes, 1))


def set_bias(model: Model, k: int, variable: OutputVariableDef, sample: Sample) -> None:
    """Set the bias of one output, from the cache or from the data.

    Where the input fixes a bias, the others depend on it: the cache, which does not say what was
    fixed, is left alone.
    """
    atomic, keys = model.atomic_model, [f"{kind}_atom_{variable.name}" for kind in ("bias", "std")]
    cache = sample.cache if given_bias(model, variable) is None else NoStatFile()

    def fit() -> dict[str, np.ndarray]:
        fitted = output_bias(model, variable, sample.without_edges())
        return dict(zip(keys, fitted, strict=True))

    known = cache.fetch(dict.fromkeys(keys, (atomic.ntypes, variable.size)), fit)
    for stored, key in zip((atomic.out_bias, atomic.out_std), keys, strict=True):
        stored[k, :, : variable.size] = known[key]


def output_bias(
    model: Model, variable: OutputVariableDef, batches: Iterable[Batch]
) -> tuple[np.ndarray, np.ndarray]:
    """Fit bias and standard deviation per type, (ntypes, size) each, to the labels of batches."""
    fit, preset = BiasFit(model, variable), given_bias(model, variable)
    for batch in filter(fit.has_label, batches):
        fit.add(batch)
    found = fit.solve(preset)
    if found is None:
        bias = np.full((model.atomic_model.ntypes, variable.size), np.nan)
        bias = bias if preset is None else preset
        found = bias, np.ones_like(bias)
    bias, std = found
    if np.isnan(bias).any():
        log.warning("no label %s in the data: its bias stays 0", variable.label_name)
    return np.nan_to_num(bias), std


def change_bias(
    model: Model,
    batches: Iterable[Batch],
    evaluator: Evaluator | None = None,
    *,
    scales: bool = False,
) -> None:
    """Add to the bias what is left between labels and predictions, in place.

    Biases that the input fixed, see :func:`given_bias`, are kept (restored, where they had been
    set to other numbers); the others take up what is left. The standard deviations of the outputs
    become those of what is left.

    Parameters
    ----------
    model : Model
    batches : iterable of Batch
        With edges and labels.
    evaluator : Evaluator, optional
        Of this model; by default NumPy.
    scales : bool
        Replace the deviations of a property, too, which scale it, as DeePMD-kit does where it
        fine-tunes.
    """
    evaluator = Evaluator(model) if evaluator is None else evaluator
    fits = [BiasFit(model, v) for v in model.output_def().get_data().values()]
    for batch in batches:
        labeled = [fit for fit in fits if fit.has_label(batch)]
        predicted = {}
        if labeled:  # labels are less the terms of a modifier
            predicted = evaluator.evaluate(batch, derivatives=(), modified=False)
        for fit in labeled:
            fit.add(batch, predicted)
    for k, fit in enumerate(fits):
        v = fit.variable
        bias = model.atomic_model.out_bias[k, :, : v.size]
        given = given_bias(model, v)
        found = fit.solve(None if given is None else given - bias - model.atomic_model.own_bias())
        if found is None:
            log.warning("no label %s in the data: its bias stays as it is", v.label_name)
            continue
        shift, std = found
        if scales or "property" not in model.kinds():
            model.atomic_model.out_std[k, :, : v.size] = std
        old = bias.tolist()
        bias += np.nan_to_num(shift)
        keep_given_bias(model)  # to the last digit
        log.info("bias of %s changed from %s to %s", v.name, old, bias.tolist())
