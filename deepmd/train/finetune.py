# SPDX-License-Identifier: LGPL-3.0-or-later
"""Fine-tuning: parts of a pre-trained model as the start of a training on other data.

Every task has a :class:`Rule`: the branch it starts from, and what becomes of fitting and bias. The
rules are those of DeePMD-kit; ``docs/fine_tuning.md`` states them for users.
"""

import copy
import dataclasses
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from deepmd.backend.detect import (
    backend_of,
    existing_model,
    has_known_suffix,
    is_folder_kind,
)
from deepmd.base.errors import InputError, did_you_mean
from deepmd.dpmodel.atomic_model import AtomicModel, StandardAtomicModel, ZBLAtomicModel
from deepmd.dpmodel.model import Model
from deepmd.dpmodel.module import split
from deepmd.dpmodel.type_map import TypeChange, change_type_map
from deepmd.io.files import SINGLE, branch_params, models_of
from deepmd.runtime.checkpoint import Checkpoint
from deepmd.runtime.evaluator import Evaluator
from deepmd.schema.check import normalize_model
from deepmd.train.checkpoints import read_newest
from deepmd.train.start import differing_keys, take_arrays
from deepmd.train.statistics import Sample, change_bias, keep_given_bias, set_bias

log = logging.getLogger(__name__)

#: Name of no branch: the fitting starts from initial values.
RANDOM = "RANDOM"
#: Keys of a model dictionary that are no choice of the user, or may differ from the pre-trained.
_FREE = ("@variables", "type_map", "ntypes", "trainable", "networks", "layers")


def read_pretrained(backend: Any, suffix: str, given: str) -> tuple[Checkpoint, Path]:
    """Read a model that is fine-tuned: a model file or checkpoint of any backend.

    Parameters
    ----------
    backend : Backend
        That trains; a name without a suffix, or of a folder, is that of its checkpoints.
    suffix : str
        Of its checkpoints.
    given : str
    """
    path, name = Path(given), given.lower().rstrip("/")
    if not has_known_suffix(name) or (path.is_dir() and not is_folder_kind(path)):
        return read_newest(given, suffix, backend.read_checkpoint)
    owner = backend_of(existing_model(path))
    apart = owner.checkpoint_suffix
    if apart is not None and apart not in owner.suffixes and name.endswith(apart):
        return owner.read_checkpoint(path), path
    tree = owner.serialize_hook(path)
    models = {task: Model.deserialize(data) for task, data in models_of(tree).items()}
    return Checkpoint(models, tree.get("model_def_script") or {}), path


# -- options --------------------------------------------------------------------------------------


def check_options(
    init_model: str | None,
    init_frz_model: str | None,
    finetune: str | None,
    use_pretrain_script: bool,
    model_branch: str,
) -> None:
    """Refuse options of ``dp train`` that say nothing without a file to start from.

    Raises
    ------
    InputError
        Naming the option.
    """
    if model_branch and finetune is None:
        raise InputError(
            "names a branch, but nothing is fine-tuned",
            where="--model-branch",
            fix="add --finetune",
        )
    if use_pretrain_script and not (init_model or init_frz_model or finetune):
        raise InputError(
            "there is no pre-trained file",
            where="--use-pretrain-script",
            fix="add --finetune, --init-model or --init-frz-model",
        )


def from_pretrained(
    given: dict[str, Any], start: Any, finetune: str | None, script: bool, model_branch: str
) -> tuple[dict[str, Any], Any]:
    """Return the input with sections of the pre-trained model, and the start with its rules.

    Parameters
    ----------
    given : dict
        The input, not yet checked.
    start : Start
        File that is fine-tuned, or started from.
    finetune : str, optional
        ``--finetune``; without it, the whole model section is taken.
    script : bool
        ``--use-pretrain-script``.
    model_branch : str
        ``--model-branch``.
    """
    if finetune is None:
        return {**given, "model": section_of(start.checkpoint, SINGLE)}, start
    log.info("Read %s.", start.path)
    if not isinstance(given.get("model"), Mapping):
        raise InputError('required section "model" is missing', fix='give {"type_map": …} at least')
    rules = make_rules(given["model"], start.checkpoint, model_branch)
    if script:
        given = with_pretrained_sections(given, start.checkpoint, rules)
    return given, dataclasses.replace(start, rules=rules)


# -- rules ----------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Rule:
    """Start of one task from a pre-trained model.

    Attributes
    ----------
    branch : str
        Branch of the pre-trained model.
    renewed : bool
        Whether everything but the descriptor starts from initial values; the bias is then set to the
        labels, otherwise it takes up what is left between labels and predictions.
    resumed : bool
        Whether the branch goes on as it is, its bias untouched.
    """

    branch: str
    renewed: bool = False
    resumed: bool = False


def make_rules(
    model: Mapping[str, Any], pretrained: Checkpoint, model_branch: str = ""
) -> dict[str, Rule]:
    """Return the rules of all tasks.

    Parameters
    ----------
    model : mapping
        The ``model`` section of the input.
    pretrained : Checkpoint
    model_branch : str
        ``--model-branch``.

    Raises
    ------
    InputError
        If a branch is named that the pre-trained model does not have.
    """
    if "model_dict" not in model:
        where, head = "--model-branch", model.get("finetune_head") or ""
        if model_branch and head and head != model_branch:
            raise InputError(
                f'"{model_branch}", but model/finetune_head is "{head}"',
                where=where,
                fix="keep one",
            )
        if head and not model_branch:
            where = "model/finetune_head"
        return {SINGLE: _rule_of_single(model_branch or head, pretrained, where)}
    if model_branch:
        raise InputError(
            f'"{model_branch}", but the input has several branches',
            where="--model-branch",
            fix="name the branch that each starts from in model/model_dict/BRANCH/finetune_head",
        )
    return {
        name: _rule_of_branch(name, section.get("finetune_head") or "", pretrained)
        for name, section in model["model_dict"].items()
    }


def _rule_of_single(head: str, pretrained: Checkpoint, where: str) -> Rule:
    first = next(iter(pretrained.models))
    if head == RANDOM or (not head and list(pretrained.models) != [SINGLE]):
        return Rule(first, renewed=True)
    return Rule(_known_branch(head or first, pretrained, where))


def _rule_of_branch(name: str, head: str, pretrained: Checkpoint) -> Rule:
    if not head and name in pretrained.models:
        return Rule(name, resumed=True)
    if head in ("", RANDOM):
        return Rule(next(iter(pretrained.models)), renewed=True)
    return Rule(_known_branch(head, pretrained, f"model/model_dict/{name}/finetune_head"))


def _known_branch(name: str, pretrained: Checkpoint, where: str) -> str:
    """Return the branch of a name or alias."""
    for branch in pretrained.models:
        section = branch_params(pretrained.model_params, branch)
        if name == branch or name in (section.get("model_branch_alias") or ()):
            return branch
    known = list(pretrained.models)
    raise InputError(
        f'the pre-trained model has no branch "{name}", but {", ".join(known)}',
        where=where,
        fix=did_you_mean(name, [*known, RANDOM]) or f"name one of them, or {RANDOM}",
    )


# -- the section of the pre-trained model ---------------------------------------------------------


def with_pretrained_sections(
    given: Mapping[str, Any], pretrained: Checkpoint, rules: Mapping[str, Rule]
) -> dict[str, Any]:
    """Return an input with the descriptors and fittings of the pre-trained model.

    What is said about ``trainable`` stays. Fittings that are renewed are those of the input.

    Parameters
    ----------
    given : mapping
        The input, not yet checked.
    pretrained : Checkpoint
    rules : dict of str to Rule
    """
    out = copy.deepcopy(dict(given))
    model = out["model"]
    for name, rule in rules.items():
        section = model["model_dict"][name] if "model_dict" in model else model
        known = section_of(pretrained, rule.branch)
        types = section.get("type_map", known["type_map"])
        if isinstance(types, str):
            types = model.get("shared_dict", {}).get(types.partition(":")[0], types)
        section.setdefault("type_map", types)
        change = TypeChange(list(known["type_map"]), list(types), None)
        for key in ("descriptor", "fitting_net"):
            if key == "fitting_net" and rule.renewed:
                continue
            holder, at = section, key
            if isinstance(section.get(key), str):
                holder, at = model["shared_dict"], section[key].partition(":")[0]
            mine = holder.get(at)
            holder[at] = _with_trainable(known[key], mine if isinstance(mine, dict) else {}, change)
    return out


def section_of(pretrained: Checkpoint, branch: str) -> dict[str, Any]:
    """Return the checked model section of a branch.

    Raises
    ------
    InputError
        If the file does not state it, or it is one of a model that has no descriptor.
    """
    section = branch_params(pretrained.model_params, branch)
    if not isinstance(section.get("descriptor"), dict):
        raise InputError(
            "the pre-trained file does not state the sections of its model",
            where="--use-pretrain-script",
            fix="write descriptor and fitting_net into the input, and leave the option out",
        )
    # Notes of other programs, which are no input.
    return normalize_model({k: v for k, v in section.items() if k not in _NOTES})


_NOTES = ("info", "hessian_mode", "model_branch_alias", "finetune_head", "data_stat_protect")


def _with_trainable(
    known: Mapping[str, Any], mine: Mapping[str, Any], change: TypeChange
) -> dict[str, Any]:
    """Return a section for another type map, with ``trainable`` as the input says."""
    out = {k: copy.deepcopy(v) for k, v in known.items() if k != "trainable"}
    if "list" in out:
        parts = mine.get("list") or []
        parts = [*parts, *({} for _ in out["list"])]
        out["list"] = [
            _with_trainable(part, own, change)
            for part, own in zip(out["list"], parts, strict=False)
        ]
    elif "trainable" in mine:
        out["trainable"] = mine["trainable"]
    if change.old != change.new:
        if out.get("exclude_types"):
            out["exclude_types"] = change.pairs(out["exclude_types"])
        if out.get("atom_ener"):
            out["atom_ener"] = change.values(out["atom_ener"])
        sel = out.get("sel")
        if isinstance(sel, list) and len(sel) == len(change.old):
            out["sel"] = [n or 0 for n in change.values(sel)]
    return out


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
