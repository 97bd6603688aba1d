# SPDX-License-Identifier: LGPL-3.0-or-later
"""Pre-trained files: reading, the rules of fine-tuning, and sections taken from them.

Every task has a :class:`Rule`: the branch it starts from, and what becomes of fitting and bias. The
rules are those of DeePMD-kit; ``docs/fine_tuning.md`` states them for users.
"""

import copy
import dataclasses
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deepmd.backend.detect import (
    backend_of,
    existing_model,
    has_known_suffix,
    is_folder_kind,
)
from deepmd.base.errors import InputError, did_you_mean
from deepmd.dpmodel.model import Model
from deepmd.dpmodel.type_map import TypeChange
from deepmd.io.files import SINGLE, branch_params, models_of
from deepmd.runtime.checkpoint import Checkpoint
from deepmd.schema.check import normalize_model
from deepmd.schema.multi_task import RANDOM
from deepmd.train.checkpoints import read_newest

log = logging.getLogger(__name__)


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
        return {**given, "model": section_of(start.checkpoint, SINGLE, whole=True)}, start
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


def section_of(pretrained: Checkpoint, branch: str, *, whole: bool = False) -> dict[str, Any]:
    """Return the checked model section of a branch; unless ``whole``, one with a descriptor.

    Raises
    ------
    InputError
        If the file does not state it, or it has no descriptor.
    """
    section = branch_params(pretrained.model_params, branch)
    if not isinstance(section.get("type_map" if whole else "descriptor"), list if whole else dict):
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
