# SPDX-License-Identifier: LGPL-3.0-or-later
"""Rules of fine-tuning under the names that clients import; see :mod:`deepmd.train.pretrained`."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from deepmd.base.errors import InputError
from deepmd.dpmodel.type_map import TypeChange
from deepmd.io.files import SINGLE
from deepmd.runtime.checkpoint import Checkpoint
from deepmd.schema.multi_task import resolved
from deepmd.train.pretrained import make_rules, with_pretrained_sections


@dataclasses.dataclass(frozen=True)
class FinetuneRuleItem:
    """Start of one branch from a branch of a pre-trained model.

    Attributes
    ----------
    p_type_map, type_map : list of str
        Types of the pre-trained model and of the new one.
    model_branch : str
        Branch of the pre-trained model.
    random_fitting : bool
        Whether everything but the descriptor starts from initial values.
    resuming : bool
        Whether the branch goes on as it is, its bias untouched.
    """

    p_type_map: list[str]
    type_map: list[str]
    model_branch: str = SINGLE
    random_fitting: bool = False
    resuming: bool = False

    def get_index_mapping(self) -> list[int]:
        """Return the old number of every new type, negative for types that were not there."""
        return get_index_between_two_maps(self.p_type_map, self.type_map)[0]

    def get_has_new_type(self) -> bool:
        """Whether there are types that were not there."""
        return get_index_between_two_maps(self.p_type_map, self.type_map)[1]

    def get_update_type(self) -> bool:
        """Whether the types differ."""
        return self.p_type_map != self.type_map

    def get_model_branch(self) -> str:
        """Return the branch of the pre-trained model."""
        return self.model_branch

    def get_random_fitting(self) -> bool:
        """Whether everything but the descriptor starts from initial values."""
        return self.random_fitting

    def get_resuming(self) -> bool:
        """Whether the branch goes on as it is."""
        return self.resuming

    def get_pretrained_tmap(self) -> list[str]:
        """Return the types of the pre-trained model."""
        return self.p_type_map

    def get_finetune_tmap(self) -> list[str]:
        """Return the types of the new model."""
        return self.type_map


def get_index_between_two_maps(
    old_map: Sequence[str], new_map: Sequence[str]
) -> tuple[list[int], bool]:
    """Return the old number of every new type, and whether there are new ones.

    A type that was not there has its number in the new map, counted from the end of both.
    """
    change = TypeChange(list(old_map), list(new_map), None)
    index = [k if k >= 0 else i - len(new_map) for i, k in enumerate(change.index.tolist())]
    return index, bool(change.added)


def map_atom_exclude_types(
    atom_exclude_types: Iterable[int], remap_index: Sequence[int]
) -> list[int]:
    """Return the new numbers of excluded types; ``remap_index`` has the old number of each."""
    numbers = list(remap_index)
    return [numbers.index(t) for t in atom_exclude_types if t in numbers]


def map_pair_exclude_types(
    pair_exclude_types: Iterable[Sequence[int]], remap_index: Sequence[int]
) -> list[tuple[int, int]]:
    """Return the new numbers of excluded pairs; ``remap_index`` has the old number of each type."""
    numbers = list(remap_index)
    return [
        (numbers.index(a), numbers.index(b))
        for a, b in pair_exclude_types
        if a in numbers and b in numbers
    ]


def get_finetune_rules_from_model_params(
    pretrained_model_params: Mapping[str, Any],
    model_config: dict[str, Any],
    *,
    model_branch: str = "",
    change_model_params: bool = True,
    multitask_branch_error: str | None = None,
    missing_model_params_error: str | None = None,
) -> tuple[dict[str, Any], dict[str, FinetuneRuleItem]]:
    """Return the new ``model`` section and the rule of every branch.

    Parameters
    ----------
    pretrained_model_params : mapping
        Checked ``model`` section of the pre-trained model.
    model_config : dict
        The new section.
    model_branch : str
        ``--model-branch``.
    change_model_params : bool
        Take descriptors and fittings from the pre-trained section (``--use-pretrain-script``).
    multitask_branch_error, missing_model_params_error : str, optional
        Texts of the errors for a branch name beside several branches, and for a file without a
        section.

    Raises
    ------
    InputError
        For a branch that the pre-trained model does not have, among others.
    """
    if not pretrained_model_params:
        raise InputError(missing_model_params_error or "the pre-trained model states no section")
    several = "model_dict" in model_config
    if several and model_branch and multitask_branch_error:
        raise InputError(multitask_branch_error, where="--model-branch")
    known = pretrained_model_params.get("model_dict")
    old = {SINGLE: pretrained_model_params} if known is None else known
    # Rules ask for the names of the branches and their sections only.
    pretrained = Checkpoint(dict.fromkeys(old), dict(pretrained_model_params))  # type: ignore[arg-type]
    rules = make_rules(model_config, pretrained, model_branch)
    if change_model_params:
        model_config = with_pretrained_sections({"model": model_config}, pretrained, rules)["model"]
    new = resolved(model_config) if several else {SINGLE: model_config}
    return model_config, {
        name: FinetuneRuleItem(
            list(old[rule.branch]["type_map"]),
            list(new[name]["type_map"]),
            rule.branch,
            rule.renewed,
            rule.resumed,
        )
        for name, rule in rules.items()
    }
