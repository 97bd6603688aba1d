# SPDX-License-Identifier: LGPL-3.0-or-later
"""Fine-tuning: parts of a pre-trained model as the start of a training on other data.

What is taken is a matter of the :class:`Rule` of every task.
"""

import copy
import dataclasses
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from deepmd.base.errors import InputError
from deepmd.dpmodel.atomic_model import AtomicModel, StandardAtomicModel, ZBLAtomicModel
from deepmd.dpmodel.model import Model
from deepmd.dpmodel.module import split
from deepmd.dpmodel.type_map import change_type_map
from deepmd.runtime.checkpoint import Checkpoint
from deepmd.runtime.evaluator import Evaluator
from deepmd.train.pretrained import Rule
from deepmd.train.start import differing_keys, take_arrays
from deepmd.train.statistics import Sample, change_bias, keep_given_bias, set_bias

log = logging.getLogger(__name__)

#: Keys of a model dictionary that are no choice of the user, or may differ from the pre-trained.
_FREE = ("@variables", "type_map", "ntypes", "trainable", "networks", "layers")


# -- parameters -----------------------------------------------------------------------------------


@dataclasses.dataclass
class Taken:
    """What became of a model's parts: lines of (part, state, numbers)."""

    lines: list[tuple[str, str, int]] = dataclasses.field(default_factory=list)

    def add(self, part: str, state: str, numbers: int = 0) -> None:
        """Add a line."""
        self.lines.append((part, state, numbers))

    def table(self) -> list[str]:
        """Return the lines of a table."""
        width = max(len(part) for part, _, _ in self.lines)
        middle = max(len(state) for _, state, _ in self.lines)
        return [
            f"  {part:<{width}}  {state:<{middle}}  {numbers or '':>9}".rstrip()
            for part, state, numbers in self.lines
        ]


def take_pretrained(
    model: Model, source: Model, rule: Rule, *, seed: int = 0, force: bool = False
) -> Taken:
    """Put what the rule says of a pre-trained model into a new one, in place.

    The bias is not touched beyond that, and statistics of new types are not set.

    Parameters
    ----------
    model : Model
        With initial values.
    source : Model
        It is not changed.
    rule : Rule
    seed : int
        Of fresh parameters of new types.
    force : bool
        Keep initial values where an array is missing or has another shape.

    Raises
    ------
    InputError
        If no type is in both, or the models do not fit each other.
    """
    taken, source = Taken(), _prepared(model, source, seed)
    mine, theirs = model.atomic_model, source.atomic_model
    if isinstance(mine, ZBLAtomicModel) and isinstance(theirs, StandardAtomicModel):
        mine = mine.members()[0]  # the table stays its own
        taken.add("pair table", "of the input")
    _warn_of_settings(mine, theirs, rule)
    left_out = take_arrays(
        mine, theirs, force=force, only=_of_descriptors if rule.renewed else None
    )
    sizes = _sizes(mine)
    taken.add("descriptor", "taken", sizes["descriptor"])
    taken.add("fitting", "renewed: initial values" if rule.renewed else "taken", sizes["fitting"])
    for line in left_out:
        taken.add("left out", line)
    return taken


def _of_descriptors(path: str) -> bool:
    """Whether an array is part of a descriptor."""
    return "descriptor" in path.split(".")


def _sizes(atomic: AtomicModel) -> dict[str, int]:
    """Count the numbers of descriptors, and those of everything else but the biases."""
    sizes = {"descriptor": 0, "fitting": 0}
    for part in split(atomic):
        for path, array in part.items():
            if path.rpartition(".")[2] not in ("out_bias", "out_std"):
                sizes["descriptor" if _of_descriptors(path) else "fitting"] += int(np.size(array))
    return sizes


def _prepared(model: Model, source: Model, seed: int) -> Model:
    """Return the pre-trained model without tables, and with the types of the new one."""
    names, known = model.get_type_map(), source.get_type_map()
    source = copy.deepcopy(source)
    source.uncompress()
    if names == known:
        return source
    if not set(names) & set(known):
        raise InputError(
            f"none of the types {', '.join(names)} is in the pre-trained model, which has "
            f"{', '.join(known)}",
            where="model/type_map",
            fix="fine-tune a model that knows at least one of the types",
        )
    if not source.mixed_types() and set(names) != set(known):
        raise InputError(
            f"is {names}, but the descriptor of the pre-trained model has networks for pairs of its "
            f"types, {known}: none can be added or left out",
            where="model/type_map",
            fix="name all of them, in any order; those that are not in the data do no harm",
        )
    return change_type_map(source, names, seed=seed)


def _warn_of_settings(mine: AtomicModel, theirs: AtomicModel, rule: Rule) -> None:
    """Warn of settings, beside shapes of arrays, in which two models differ."""
    parts = ["descriptor"] if rule.renewed else ["descriptor", "fitting"]
    here, there = (_settings(atomic.serialize()) for atomic in (mine, theirs))
    for part in parts:
        keys = differing_keys(there.get(part), here.get(part), part)
        if keys:
            log.warning(
                "settings differ from those of the pre-trained model, and those of the input are "
                "used: %s (--use-pretrain-script takes the others)",
                ", ".join(keys),
            )


def _settings(node: Any) -> Any:
    """Return a model dictionary without arrays, and without what may differ."""
    if isinstance(node, Mapping):
        return {k: _settings(v) for k, v in node.items() if k not in _FREE}
    if isinstance(node, (list, tuple)):
        return [_settings(v) for v in node]
    return node


# -- statistics and bias --------------------------------------------------------------------------


def set_new_types(model: Model, known: Sequence[str], sample: Sample) -> list[str]:
    """Set the statistics of types that the pre-trained model did not know, in place.

    They are those of the data, as in a new training; the other types keep theirs.

    Parameters
    ----------
    model : Model
    known : sequence of str
        Types of the pre-trained model.
    sample : Sample

    Returns
    -------
    list of str
        The new types.
    """
    added = [name for name in model.get_type_map() if name not in known]
    if not added:
        return []
    fresh = copy.deepcopy(model)
    for atomic in _standard_parts(fresh.atomic_model):
        atomic.descriptor.compute_statistics(sample.of_types(atomic.type_map))
    old = {*known, *(f"{name}_spin" for name in known)}
    pairs = zip(
        _standard_parts(model.atomic_model), _standard_parts(fresh.atomic_model), strict=True
    )
    for mine, other in pairs:
        rows = [t for t, name in enumerate(mine.type_map) if name not in old]
        parts = (mine.descriptor.statistics_parts(), other.descriptor.statistics_parts())
        for part, found in zip(*parts, strict=True):
            for name in ("davg", "dstd"):
                if getattr(part, name, None) is not None:
                    getattr(part, name)[rows] = getattr(found, name)[rows]
    return added


def _standard_parts(atomic: AtomicModel) -> Iterator[StandardAtomicModel]:
    """Iterate over the parts of a model that have a descriptor, each once."""
    if isinstance(atomic, StandardAtomicModel):
        yield atomic
    for member in {id(m): m for m in atomic.members()}.values():
        yield from _standard_parts(member)


def adjust_bias(
    model: Model,
    rule: Rule,
    sample: Sample,
    evaluator: Callable[[Model], Evaluator] = Evaluator,
) -> None:
    """Fit the bias of a model, whose parameters are in place, to the labels, in place.

    With a renewed fitting this is the fit of a new training, with the statistics of the inputs of
    the fitting; otherwise what is left between labels and predictions is added. A dipole has none.

    Parameters
    ----------
    model : Model
    rule : Rule
    sample : Sample
        Of the model, with all labels.
    evaluator : function
        Evaluator of a model, of the backend that trains.
    """
    if rule.resumed:
        return
    outputs = model.output_def().get_data()
    if rule.renewed:
        for atomic in _standard_parts(model.atomic_model):
            atomic.fitting.compute_statistics(sample.of_types(atomic.type_map))
        for k, variable in enumerate(outputs.values()):
            set_bias(model, k, variable, sample)
    elif "dipole" not in outputs:
        change_bias(model, sample.batches(), evaluator(model), deviations=True)
    keep_given_bias(model)


def log_summary(
    title: str, taken: Taken, model: Model, known: Sequence[str], before: Sequence[np.ndarray]
) -> None:
    """Log what was taken, renewed and adjusted, as a table.

    Parameters
    ----------
    title : str
    taken : Taken
    model : Model
        With its final bias.
    known : sequence of str
        Types of the pre-trained model.
    before : list of (ntypes, size)
        Biases before they were fitted, one per output.
    """
    names = model.get_type_map()
    for name in names:
        if name not in known:
            taken.add(f"type {name}", "new: statistics of the data, fresh parameters")
    dropped = [name for name in known if name not in names]
    if dropped:
        taken.add("types", f"dropped: {', '.join(dropped)}")
    for k, variable in enumerate(model.output_def().get_data().values()):
        bias = model.atomic_model.out_bias[k, : len(names), : variable.size]
        for t, name in enumerate(names):
            old, new = (np.array2string(x[t], precision=6) for x in (before[k], bias))
            state = f"kept, {new}" if old == new else f"{old} -> {new}"
            taken.add(f"bias of {variable.name}, {name}", state)
    log.info("%s", title)
    for line in taken.table():
        log.info("%s", line)


def fine_tune(
    model: Model,
    pretrained: Checkpoint,
    rule: Rule,
    sample: Sample,
    *,
    title: str = "",
    seed: int = 0,
    force: bool = False,
    evaluator: Callable[[Model], Evaluator] = Evaluator,
) -> None:
    """Make a new model the start of a fine-tuning, in place.

    Parameters
    ----------
    model : Model
        With initial values.
    pretrained : Checkpoint
    rule : Rule
    sample : Sample
        Frames of the training data, for statistics and bias.
    title : str
        First line of the summary.
    seed, force
        See :func:`take_pretrained`.
    evaluator : function
        See :func:`adjust_bias`.
    """
    source = pretrained.models[rule.branch]
    known = source.get_type_map()
    taken = take_pretrained(model, source, rule, seed=seed, force=force)
    set_new_types(model, known, sample)
    outputs, ntypes = model.output_def().get_data().values(), model.get_ntypes()
    before = [
        model.atomic_model.out_bias[k, :ntypes, : v.size].copy() for k, v in enumerate(outputs)
    ]
    adjust_bias(model, rule, sample, evaluator)
    log_summary(title, taken, model, known, before)
