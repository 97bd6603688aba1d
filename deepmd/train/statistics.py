# SPDX-License-Identifier: LGPL-3.0-or-later
"""What a model takes from its data before the first step: means, deviations, biases."""

import dataclasses
import logging
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from deepmd.data.dataset import Dataset, count_observed
from deepmd.data.statistics import (
    StatFile,
    descriptor_key,
    fit_atomic_bias,
    fit_bias,
    fit_common_bias,
)
from deepmd.dpmodel.batch import Batch
from deepmd.dpmodel.descriptor import Descriptor
from deepmd.dpmodel.evaluator import Evaluator, NumPyEvaluator
from deepmd.dpmodel.model import Model, prepare
from deepmd.dpmodel.neighbors import empty_edges
from deepmd.dpmodel.output_def import OutputVariableDef
from deepmd.utils.errors import DataError, InputError

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
    """

    def __init__(
        self,
        data: Dataset,
        nbatch: int,
        types: np.ndarray | None = None,
        *,
        model: Model | None = None,
    ) -> None:
        self.data, self.nbatch, self.types, self.model = data, nbatch, types, model

    def _frames(self) -> Iterator[tuple[int, np.ndarray]]:
        """Iterate over the system and frames of every batch."""
        sampler = self.data.sampler
        for index, size in enumerate(sampler.batch_sizes):
            if size > 0:
                frames = sampler.selection(index, self.nbatch * size)
                yield from ((index, frames[k : k + size]) for k in range(0, len(frames), size))

    def _numbered(self, batch: Batch) -> Batch:
        if self.types is None:
            return batch
        return dataclasses.replace(batch, atype=self.types[batch.atype])

    def batches(self) -> Iterator[Batch]:
        """Iterate over the batches, with edges."""
        for index, frames in self._frames():
            batch = self.data.load(index, frames)
            if self.model is not None:
                batch = self.model.expand(batch, all_centres=True)
            yield self._numbered(batch)

    def without_edges(self) -> Iterator[Batch]:
        """Iterate over the same batches without looking for neighbours."""
        for index, frames in self._frames():
            yield self._numbered(self.data.systems[index].load(frames, self.data.labels))

    def renumbered(self, names: Sequence[str], wanted: Sequence[str]) -> "Sample":
        """Return the same sample with types numbered by another type map."""
        number = np.array([list(wanted).index(name) for name in names], dtype=np.int64)
        return Sample(self.data, self.nbatch, number, model=self.model)


def set_statistics(
    model: Model, data: Dataset, *, nbatch: int = 10, stat_file: StatFile | None = None
) -> None:
    """Set the statistics and the bias of a new model from its training data.

    Parameters
    ----------
    model : Model
        Changed in place.
    data : Dataset
    nbatch : int
        Batches per system; the same ones on every backend.
    stat_file : StatFile, optional
        Read where it has an entry, completed where it has none.
    """
    sample = Sample(data, nbatch, model=model)
    type_map = model.atomic_model.type_map  # with spins it names the virtual atoms, too
    for network in networks(model.atomic_model):
        # A member with its own order of types has its own statistics, outside of the cache.
        same = network.type_map == type_map
        cache = stat_file if same else None
        seen = sample if same else sample.renumbered(type_map, network.type_map)
        for part in network.descriptor.statistics_parts():
            _set_descriptor(part, seen, cache)
        for kind in ("fparam", "aparam"):
            if getattr(network.fitting, f"numb_{kind}"):
                sums = _cached(stat_file, kind, lambda kind=kind: parameter_sums(sample, kind))
                sums = _checked(
                    sums, (getattr(network.fitting, f"numb_{kind}"), 3), stat_file, kind
                )
                network.fitting.set_parameter_statistics(kind, sums)
    for k, variable in enumerate(model.output_def().get_data().values()):
        _set_bias(model, k, variable, sample, stat_file)


def networks(atomic: Any) -> Iterator[Any]:
    """Iterate over the parts of an atomic model that have a descriptor and a fitting."""
    if getattr(atomic, "descriptor", None) is not None:
        yield atomic
    for member in getattr(atomic, "models", ()):
        yield from networks(member)


def observed_types(
    data: Dataset, type_map: Sequence[str], stat_file: StatFile | None = None
) -> list[str]:
    """Return the types that occur in the data."""

    def count() -> np.ndarray:
        counts = count_observed(data.systems, len(type_map))
        return np.array([name for name, n in zip(type_map, counts, strict=True) if n], dtype="S")

    names = _cached(stat_file, "observed_type", count)
    return [n.decode() if isinstance(n, bytes) else str(n) for n in names.tolist()]


def _cached(stat_file: StatFile | None, name: str, compute: Any) -> np.ndarray:
    known = None if stat_file is None else stat_file.get(name)
    if known is None:
        known = compute()
        if stat_file is not None:
            stat_file.put(name, known)
    return known


def _checked(
    array: np.ndarray, shape: tuple[int, ...], stat_file: StatFile | None, name: str
) -> np.ndarray:
    """Return an entry of the cache in the shape it must have."""
    if array.size != int(np.prod(shape)):
        raise DataError(
            f"has shape {array.shape}, expected {shape}",
            where=name if stat_file is None else stat_file.root / name,
            fix="the cache belongs to another model; remove it",
        )
    return array.reshape(shape)


# -- descriptor and parameters --------------------------------------------------------------------


def environment_sums(descriptor: Descriptor, batches: Iterable[Batch]) -> dict[str, np.ndarray]:
    """Add up number, sum and sum of squares of the environment rows of all batches."""
    total = descriptor.environment_sums(_no_atoms())
    for batch in batches:
        for name, sums in descriptor.environment_sums(batch).items():
            total[name] = total[name] + sums
    return total


def _no_atoms() -> Batch:
    whole = np.zeros(0, dtype=np.int64)
    return Batch(
        coord=np.zeros((0, 3)),
        cell=np.zeros((0, 3, 3)),
        periodic=np.zeros(0, dtype=bool),
        atype=whole,
        frame=whole,
        natoms=whole,
        edges=empty_edges(),
    )


def _set_descriptor(descriptor: Descriptor, sample: Sample, stat_file: StatFile | None) -> None:
    shapes = {k: v.shape for k, v in descriptor.environment_sums(_no_atoms()).items()}
    if not shapes:
        return
    sums: dict[str, np.ndarray] = {}
    if stat_file is not None:
        key = dict(descriptor.statistics_key())
        group = descriptor_key(key.pop("type"), **key)
        found = {name: stat_file.get(f"{group}/{name}") for name in shapes}
        sums = {
            name: _checked(value, shapes[name], stat_file, f"{group}/{name}")
            for name, value in found.items()
            if value is not None
        }
    if len(sums) < len(shapes):
        sums = environment_sums(descriptor, sample.batches())
        if stat_file is not None:
            for name, value in sums.items():
                stat_file.put(f"{group}/{name}", value)
    descriptor.set_statistics(sums)


def parameter_sums(sample: Sample, kind: str) -> np.ndarray:
    """Return (dim, 3) number, sum and sum of squares of ``fparam`` or ``aparam``."""
    values = np.concatenate([getattr(batch, kind) for batch in sample.without_edges()])
    return np.stack(
        [np.full(values.shape[1], float(len(values))), values.sum(axis=0), (values**2).sum(axis=0)],
        axis=1,
    )


# -- shapes ---------------------------------------------------------------------------------------


def table_widths(model: Model, batches: Iterable[Batch]) -> list[int]:
    """Return widths of the neighbour tables, in the order of the slots, that serve these batches.

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


def type_counts(batch: Batch, ntypes: int, *, exclude: Sequence[int] = ()) -> np.ndarray:
    """Atoms of each type in every frame, (n_frames, ntypes) float64; excluded types count 0."""
    counts = np.zeros((batch.n_frames, ntypes))
    np.add.at(counts, (batch.frame, batch.atype), 1.0)
    counts[:, list(exclude)] = 0.0
    return counts


def given_bias(model: Model, variable: OutputVariableDef) -> np.ndarray | None:
    """Biases that the input fixes, (ntypes, size), NaN where one is to be fitted; or None.

    These are ``preset_out_bias``, and the ``atom_ener`` of the fitting where that has a number: with
    the vacuum energy of the network taken off, the bias is the energy of the isolated atom.
    """
    atomic: Any = model.atomic_model
    preset = (atomic.preset_out_bias or {}).get(variable.name)
    fitting = getattr(atomic, "fitting", None)
    energies = getattr(fitting, "atom_ener", None) if variable.name == "energy" else None
    if preset is None and not any(e is not None for e in energies or ()):
        return None
    out = np.full((atomic.ntypes, variable.size), np.nan)
    for source in (energies, preset):
        for t, value in enumerate(source or ()):
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
    return out


def _set_bias(
    model: Model, k: int, variable: OutputVariableDef, sample: Sample, stat_file: StatFile | None
) -> None:
    """Set the bias of one output, from the cache or from the data."""
    name, atomic = variable.name, model.atomic_model
    keys = f"bias_atom_{name}", f"std_atom_{name}"
    known = [None if stat_file is None else stat_file.get(key) for key in keys]
    if known[0] is None or known[1] is None:
        fitted = output_bias(model, variable, list(sample.without_edges()))
        known = list(fitted)
        if stat_file is not None:
            for key, value in zip(keys, fitted, strict=True):
                stat_file.put(key, value)
    bias, std = (
        _checked(np.asarray(v), (atomic.ntypes, variable.size), stat_file, key)
        for key, v in zip(keys, known, strict=True)
    )
    atomic.out_bias[k, :, : variable.size] = bias
    atomic.out_std[k, :, : variable.size] = std


def output_bias(
    model: Model, variable: OutputVariableDef, batches: Sequence[Batch]
) -> tuple[np.ndarray, np.ndarray]:
    """Fit bias and standard deviation per type, (ntypes, size) each, to the labels of batches.

    Atomic labels give the mean of every type; what is left follows from the labels of frames.
    """
    whole: Any = model.atomic_model
    ntypes, size = whole.ntypes, variable.size
    preset = given_bias(model, variable)
    bias, std = np.full((ntypes, size), np.nan), np.ones((ntypes, size))
    name = f"atom_{variable.label_name}"
    atomic = [b for b in batches if b.find.get(name, 0.0) > 0]
    if atomic:
        types = np.concatenate([b.atype for b in atomic])
        values = np.concatenate([b.labels[name] for b in atomic])
        bias, spread = fit_atomic_bias(types, values, ntypes)
        std = np.where(np.isnan(spread), 1.0, spread)
    if preset is not None:
        bias = np.where(np.isnan(preset), bias, preset)
    frames = [b for b in batches if b.find.get(variable.label_name, 0.0) > 0]
    if frames and not getattr(getattr(whole, "fitting", None), "distinguish_types", True):
        natoms = np.concatenate([b.natoms for b in frames])
        labels = np.concatenate([b.labels[variable.label_name] for b in frames])
        return fit_common_bias(natoms, labels, ntypes, intensive=variable.intensive)
    if frames and np.isnan(bias).any():
        bias, left = _fit_frames(model, variable, frames, bias)
        if not atomic:
            std = np.tile(left, (ntypes, 1))
    elif np.isnan(bias).any():
        log.warning("no label %s in the data: its bias stays 0", variable.label_name)
    return np.nan_to_num(bias), std


def _fit_frames(
    model: Model, variable: OutputVariableDef, frames: Sequence[Batch], known: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    atomic: Any = model.atomic_model
    counts = np.concatenate(
        [type_counts(b, atomic.ntypes, exclude=atomic.atom_exclude_types) for b in frames]
    )
    natoms = np.concatenate([b.natoms for b in frames]).astype(np.float64)[:, None]
    if variable.intensive:
        counts = counts / natoms
    labels = np.concatenate([b.labels[variable.label_name] for b in frames])
    preset = None if np.isnan(known).all() else known
    bias, std = fit_bias(counts, labels, rcond=atomic.rcond, preset=preset)
    rest = labels - counts @ bias
    per_atom = rest if variable.intensive else rest / natoms
    log.info(
        "RMSE of %s%s after the fit of a bias per type: %.6e",
        variable.name,
        "" if variable.intensive else " per atom",
        np.sqrt(np.mean(per_atom**2)),
    )
    return bias, std


def change_bias(model: Model, batches: Iterable[Batch], evaluator: Evaluator | None = None) -> None:
    """Add to the bias what is left between labels and predictions, in place.

    Parameters
    ----------
    model : Model
    batches : iterable of Batch
        With edges and labels of frames.
    evaluator : Evaluator, optional
        Of this model; by default NumPy.
    """
    evaluator = NumPyEvaluator(model) if evaluator is None else evaluator
    atomic: Any = model.atomic_model
    variables = list(model.output_def().get_data().values())
    # Where types are not distinguished, one row of the bias serves for all of them.
    common = not getattr(getattr(atomic, "fitting", None), "distinguish_types", True)
    natoms: list[np.ndarray] = []
    counts: dict[str, list[np.ndarray]] = {v.name: [] for v in variables}
    rest: dict[str, list[np.ndarray]] = {v.name: [] for v in variables}
    for b in batches:
        known = [v for v in variables if b.find.get(v.label_name, 0.0) > 0]
        predicted = evaluator.evaluate(b, derivatives=()) if known else {}
        for v in known:
            n = type_counts(b, atomic.ntypes, exclude=atomic.atom_exclude_types)
            counts[v.name].append(n / b.natoms[:, None] if v.intensive else n)
            natoms.append(b.natoms)
            rest[v.name].append(b.labels[v.label_name] - predicted[v.name])
    for k, v in enumerate(variables):
        if not rest[v.name]:
            log.warning("no label %s in the data: its bias stays as it is", v.label_name)
            continue
        left = np.concatenate(rest[v.name])
        if common:
            n, intensive = np.concatenate(natoms), v.intensive
            shift, _ = fit_common_bias(n, left, atomic.ntypes, intensive=intensive)
        else:
            shift, _ = fit_bias(np.concatenate(counts[v.name]), left, rcond=atomic.rcond)
        bias = atomic.out_bias[k, :, : v.size]
        old = bias.tolist()
        bias += shift
        log.info("bias of %s changed from %s to %s", v.name, old, bias.tolist())
