# SPDX-License-Identifier: LGPL-3.0-or-later
"""Fine-tuning: parts of a pre-trained model as the start of a training on other data.

What is taken is a matter of the :class:`Rule` of every task.
"""

import copy
import dataclasses
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from deepmd.base.errors import InputError, ModelFileError
from deepmd.dpmodel.atomic_model import AtomicModel, StandardAtomicModel, ZBLAtomicModel
from deepmd.dpmodel.model import Model
from deepmd.dpmodel.module import Module, split
from deepmd.dpmodel.type_map import change_type_map
from deepmd.io.files import SINGLE
from deepmd.runtime.checkpoint import Checkpoint
from deepmd.runtime.evaluator import Evaluator
from deepmd.train.pretrained import Rule
from deepmd.train.sharing import INPUT_STATISTICS, set_component_statistics
from deepmd.train.start import differing_keys, take_arrays
from deepmd.train.statistics import Sample, change_bias, keep_given_bias, set_bias

log = logging.getLogger(__name__)

#: Keys of a model dictionary that are no choice of the user, or may differ from the pre-trained.
_FREE = ("@variables", "type_map", "ntypes", "trainable", "networks", "layers")


class Part(NamedTuple):
    """Task of a fine-tuning: its model, its frames, its weight, and what it starts from."""

    model: Model
    sample: Sample
    weight: float
    rule: Rule


# -- parameters -----------------------------------------------------------------------------------


@dataclasses.dataclass
class Taken:
    """What became of a model's parts.

    Attributes
    ----------
    node, source : Module, optional
        Trees whose arrays were taken, and where from.
    lines : list of (part, state, numbers)
    """

    node: Module | None = None
    source: Module | None = None
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
    taken.node, taken.source = mine, theirs
    left_out = take_arrays(
        mine, theirs, force=force, only=_of_descriptors if rule.renewed else None
    )
    sizes = _sizes(mine)
    taken.add("descriptor", "taken", sizes["descriptor"])
    taken.add("fitting", "renewed: initial values" if rule.renewed else "taken", sizes["fitting"])
    for line in left_out:
        taken.add("left out", line)
    return taken


def _check_shared(taken: Mapping[str, Taken], parts: Mapping[str, Part]) -> None:
    """Raise ModelFileError if tasks that share arrays took different ones."""
    for name, one in taken.items():
        assert one.node is not None and one.source is not None
        here, there = (
            {k: v for part in split(tree) for k, v in part.items()}
            for tree in (one.node, one.source)
        )
        for path, array in here.items():
            skipped = parts[name].rule.renewed and not _of_descriptors(path)
            if skipped or path not in there:
                continue
            if not np.array_equal(array, np.asarray(there[path]).astype(array.dtype)):
                raise ModelFileError(
                    f"{name} shares {path} with a branch that starts from another one than "
                    f'"{parts[name].rule.branch}", and they differ in it',
                    where="model/model_dict",
                    fix="let branches that share a part start from one, or --force-load to take "
                    "that of the last",
                )


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


def set_new_statistics(parts: Mapping[str, Part], pretrained: Checkpoint) -> None:
    """Set statistics that the pre-trained model does not have, in place, as a new training would.

    They are those of types that it does not know, and of the inputs of renewed fittings. The others
    stay. Parts that tasks share have those of the data of all of them.

    Parameters
    ----------
    parts : dict of str to Part
    pretrained : Checkpoint
    """
    added = {
        name: set(part.model.get_type_map()) - set(_known_types(part, pretrained))
        for name, part in parts.items()
    }
    if not any(added[name] or part.rule.renewed for name, part in parts.items()):
        return
    fresh = copy.deepcopy({name: part.model for name, part in parts.items()})
    set_component_statistics(
        {name: (fresh[name], part.sample, part.weight) for name, part in parts.items()}
    )
    for name, part in parts.items():
        new = {*added[name], *(f"{one}_spin" for one in added[name])}
        pairs = (_standard_parts(m.atomic_model) for m in (part.model, fresh[name]))
        for mine, other in zip(*pairs, strict=True):
            rows = [t for t, one in enumerate(mine.type_map) if one in new]
            blocks = (m.descriptor.statistics_parts() for m in (mine, other))
            for block, found in zip(*blocks, strict=True):
                for key in ("davg", "dstd"):
                    if rows and getattr(block, key, None) is not None:
                        getattr(block, key)[rows] = getattr(found, key)[rows]
            for key in INPUT_STATISTICS if part.rule.renewed else ():
                setattr(mine.fitting, key, getattr(other.fitting, key))


def _known_types(part: Part, pretrained: Checkpoint) -> list[str]:
    """Types of the model that a task starts from."""
    return list(pretrained.models[part.rule.branch].get_type_map())


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

    With a renewed fitting this is the fit of a new training; otherwise what is left between labels
    and predictions is added. A dipole has none.

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
        for k, variable in enumerate(outputs.values()):
            set_bias(model, k, variable, sample)
    elif "dipole" not in outputs:
        change_bias(model, sample.batches(), evaluator(model), scales=True)
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
    parts: Mapping[str, Part],
    pretrained: Checkpoint,
    *,
    path: str | os.PathLike[str] = "",
    seed: int = 0,
    force: bool = False,
    evaluator: Callable[[Model], Evaluator] = Evaluator,
) -> None:
    """Make new models the start of a fine-tuning, in place.

    Parameters
    ----------
    parts : dict of str to Part
        By task; models have initial values.
    pretrained : Checkpoint
    path : path
        Its file, for the summary.
    seed, force
        See :func:`take_pretrained`.
    evaluator : function
        See :func:`adjust_bias`.
    """
    taken = {
        name: take_pretrained(
            part.model, pretrained.models[part.rule.branch], part.rule, seed=seed, force=force
        )
        for name, part in parts.items()
    }
    if not force:
        _check_shared(taken, parts)
    set_new_statistics(parts, pretrained)
    for name, part in parts.items():
        model, rule = part.model, part.rule
        outputs, ntypes = model.output_def().get_data().values(), model.get_ntypes()
        stored = model.atomic_model.out_bias
        before = [stored[k, :ntypes, : v.size].copy() for k, v in enumerate(outputs)]
        adjust_bias(model, rule, part.sample, evaluator)
        title = f"Fine-tuning of {path}"
        title += f", branch {rule.branch}" if rule.branch != SINGLE else ""
        title += f", as {name}:" if name != SINGLE else ":"
        log_summary(title, taken[name], model, _known_types(part, pretrained), before)
