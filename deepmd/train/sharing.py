# SPDX-License-Identifier: LGPL-3.0-or-later
"""Parts that branches of a multi-task training have in common, and their statistics.

A shared part is one node in the trees of several models. Of a fitting the networks are shared; its
biases, which are per branch, and its case embedding are not.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from deepmd.base.errors import InputError, ModelFileError
from deepmd.dpmodel.atomic_model import AtomicModel, StandardAtomicModel
from deepmd.dpmodel.batch import Batch
from deepmd.dpmodel.descriptor import Descriptor
from deepmd.dpmodel.fitting import Fitting
from deepmd.dpmodel.model import Model
from deepmd.dpmodel.module import modules, places, split
from deepmd.dpmodel.statistics import Sample
from deepmd.schema.multi_task import Reference, references

#: Statistics of a fitting's inputs.
INPUT_STATISTICS = ("fparam_avg", "fparam_inv_std", "aparam_avg", "aparam_inv_std")


def share(models: Mapping[str, Model], section: Mapping[str, Any]) -> None:
    """Let models have the parts in common that a multi-task ``model`` section shares, in place.

    Of the branches that name a part, the first of those with the lowest level gives it to the
    others.

    Raises
    ------
    InputError
        If branches that share a part differ in their types, or in the shape of the part.
    """
    uses: dict[str, list[Reference]] = {}
    for use in references(section):
        if use.place != ("type_map",):
            uses.setdefault(use.name, []).append(use)
    for several in uses.values():
        base, *others = sorted(several, key=lambda use: use.level)
        for use in others:
            _check_types(models, base, use)
            if use.place == ("fitting_net",):
                _share_fitting(models, base, use)
            else:
                _share_descriptor(models, base, use)


def set_case_embeddings(models: Mapping[str, Model]) -> None:
    """Tell branches apart by one-hot vectors, in the order of their sorted names, in place."""
    for k, name in enumerate(sorted(models)):
        for node in modules(models[name]):
            if isinstance(node, Fitting) and node.dim_case_embd:
                node.case_embd = np.eye(node.dim_case_embd)[k]


def _network(model: Model, use: Reference) -> StandardAtomicModel:
    """Return the part of a model that has a descriptor and a fitting."""
    atomic: AtomicModel = model.atomic_model
    while not isinstance(atomic, StandardAtomicModel):
        if not atomic.members():
            raise InputError("the model has no descriptor and fitting to share", where=use.where)
        atomic = atomic.members()[0]
    return atomic


def _check_types(models: Mapping[str, Model], base: Reference, use: Reference) -> None:
    here, there = (models[one.branch].get_type_map() for one in (use, base))
    if here != there:
        raise InputError(
            f'the types {here} are not those of branch {base.branch}, {there}, which has "{use.name}"'
            " too",
            where=use.where,
            fix="let both branches name one type_map of shared_dict",
        )


def _share_fitting(models: Mapping[str, Model], base: Reference, use: Reference) -> None:
    if use.level:
        raise InputError("a fitting has no levels", where=use.where, fix=f'write "{use.name}"')
    given, taker = (_network(models[one.branch], one).fitting for one in (base, use))
    _check_same(given, taker, base, use)
    if not hasattr(given, "nets"):
        raise InputError("fittings of plugins are not shared", where=use.where, fix="write it out")
    taker.nets = given.nets


def _share_descriptor(models: Mapping[str, Model], base: Reference, use: Reference) -> None:
    given = _descriptor(_network(models[base.branch], base), base)
    network = _network(models[use.branch], use)
    taker = _descriptor(network, use)
    _check_same(given, taker, base, use)
    if use.level == 0:
        if use.place == ("descriptor",):
            network.descriptor = given
        else:
            network.descriptor.list[use.place[-1]] = given
        return
    levels = taker.shared_levels
    if use.level > len(levels):
        known = ", ".join(map(str, range(len(levels) + 1)))
        raise InputError(
            f"{taker.serial.type} has no level {use.level} of sharing",
            where=use.where,
            fix=f"known levels: {known}",
        )
    for name in levels[use.level - 1]:
        setattr(taker, name, getattr(given, name))


def _descriptor(network: StandardAtomicModel, use: Reference) -> Descriptor:
    found = network.descriptor
    return found if use.place == ("descriptor",) else found.list[use.place[-1]]


def _check_same(given: Any, taker: Any, base: Reference, use: Reference) -> None:
    here, there = ({k: np.shape(v) for k, v in split(one)[0].items()} for one in (taker, given))
    if type(given) is not type(taker) or here != there:
        differing = sorted(k for k in {*here, *there} if here.get(k) != there.get(k))
        raise InputError(
            f'"{use.name}" has other shapes here than in branch {base.branch}'
            + (
                f": {differing[0]} is {here.get(differing[0])}, {there.get(differing[0])} there"
                if differing
                else ""
            ),
            where=use.where,
            fix="share it between branches that agree, or give one of them a part of its own",
        )


def check_agreement(models: Mapping[str, Model], sources: Mapping[str, Model]) -> None:
    """Raise ModelFileError if arrays that are one here differ between the branches of a file.

    Parameters
    ----------
    models : dict of str to Model
        They share parts.
    sources : dict of str to Model
        Models of the file, by the same names.
    """
    seen: dict[tuple[int, str, int | None], tuple[str, np.ndarray]] = {}
    for branch, model in models.items():
        there = {k: v for part in split(sources[branch]) for k, v in part.items()}
        for node, name, index, path in places(model):
            if path not in there:
                continue
            first, array = seen.setdefault((id(node), name, index), (branch, there[path]))
            if not np.array_equal(array, there[path]):
                raise ModelFileError(
                    f"branches {first} and {branch} share {path}, but differ in it in the checkpoint",
                    where="model/shared_dict",
                    fix="share what its training shared, or --force-load to take that of the last",
                )


# -- statistics -----------------------------------------------------------------------------------


class Weighted(NamedTuple):
    """Sample of a branch, with the weight of its sums in the statistics of shared fittings."""

    sample: Sample
    weight: float


class MergedSample:
    """Frames of several branches, for the statistics of a part that they share.

    Parameters
    ----------
    parts : sequence of Weighted
        What is fetched is the weighted sum of what is fetched from each.
    """

    def __init__(self, parts: Sequence[Weighted]) -> None:
        self.parts, self._current = parts, parts[0].sample

    def batches(self) -> Iterator[Batch]:
        """Iterate over the batches, with edges, of the branch that is looked at."""
        return self._current.batches()

    def without_edges(self) -> Iterator[Batch]:
        """Iterate over the same batches without looking for neighbors."""
        return self._current.without_edges()

    @property
    def protect(self) -> float:
        """Smallest deviation, the same in all branches."""
        return self.parts[0].sample.protect

    def of_types(self, type_map: Sequence[str]) -> "MergedSample":
        """Return the same frames with types numbered by another type map."""
        return MergedSample([Weighted(p.sample.of_types(type_map), p.weight) for p in self.parts])

    def fetch(
        self,
        shapes: Mapping[str, tuple[int, ...]],
        compute: Callable[[], Mapping[str, np.ndarray]],
        about: Mapping[str, Any] | None = None,
    ) -> dict[str, np.ndarray]:
        """Return the sums over all branches; each has a cache of its own."""
        total: dict[str, np.ndarray] = {}
        for part in self.parts:
            self._current = part.sample
            for name, sums in part.sample.fetch(shapes, compute, about).items():
                total[name] = total.get(name, 0.0) + part.weight * sums
        return total


def set_component_statistics(parts: Mapping[str, tuple[Model, Sample, float]]) -> None:
    """Set the statistics of descriptors and fittings, of shared ones from the data of all branches.

    The sums of the environments of atoms are added up as they are; those of frame and atomic
    parameters are weighted with the probabilities of the branches, as in DeePMD-kit.

    Parameters
    ----------
    parts : dict of str to (Model, Sample, float)
        Model of a branch, its frames and its weight.
    """
    groups: dict[int, list[tuple[Any, Weighted]]] = {}
    for model, sample, weight in parts.values():
        for node, seen in model.atomic_model.statistics_nodes(sample):
            fits = isinstance(node, Fitting)
            entry = node, Weighted(seen, weight if fits else 1.0)
            groups.setdefault(id(getattr(node, "nets", node)), []).append(entry)
    for group in groups.values():
        first, only = group[0]
        if len(group) == 1:
            first.compute_statistics(only.sample)
            continue
        first.compute_statistics(MergedSample([weighted for _, weighted in group]))
        for node, _ in group[1:] if isinstance(first, Fitting) else ():
            for name in INPUT_STATISTICS:
                value = getattr(first, name)
                setattr(node, name, None if value is None else value.copy())
