# SPDX-License-Identifier: LGPL-3.0-or-later
"""Model section of the input that a graph was trained with, in today's form."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from deepmd.base.errors import ModelFileError, located
from deepmd.base.reading import check_tree
from deepmd.graphs.inferred import (
    environment_nodes,
    inferred_section,
    settings_of,
    suffix_of,
)
from deepmd.io.graph import Graph
from deepmd.schema.check import normalize_model
from deepmd.schema.legacy import upgrade

SCRIPT = "train_attr/training_script"
#: Keys of the section that concern the training and the file only.
_IGNORED = ("compress", "finetune_head", "data_stat_protect", "data_stat_nbatch")


def model_section(graph: Graph) -> dict[str, Any]:
    """Return the checked model section of a graph.

    Raises
    ------
    InputError
        If the script inside cannot be used, or does not belong to the graph.
    """
    given = script_of(graph)
    raw = inferred_section(graph) if given is None else _raw_section(given)
    with located(SCRIPT):
        section = normalize_model(raw)
    for part, s in descriptor_parts(section):
        _adapt(part, s, graph)
    _check(section, graph)
    return section


def script_of(graph: Graph) -> dict[str, Any] | None:
    """Return the training script of a graph, or None: it is there since DeePMD-kit 2."""
    text = graph.text(SCRIPT)
    if text is None:
        return None
    try:
        given = json.loads(text)
    except ValueError as error:
        raise ModelFileError(f"{SCRIPT} is no JSON ({error})") from None
    check_tree(given, SCRIPT)
    if not isinstance(given, dict):
        raise ModelFileError(f"{SCRIPT} is no object with sections")
    return given


def _raw_section(script: dict[str, Any]) -> dict[str, Any]:
    section = upgrade(script).get("model")
    if not isinstance(section, dict):
        raise ModelFileError(f"{SCRIPT} has no section model")
    return {k: v for k, v in _without_null(section).items() if k not in _IGNORED}


def _without_null(node: Any) -> Any:
    """Return a section without null, which stands for the default."""
    if isinstance(node, dict):
        return {k: _without_null(v) for k, v in node.items() if v is not None}
    return node


def descriptor_parts(section: Mapping[str, Any]) -> Iterator[tuple[dict[str, Any], str]]:
    """Iterate over the descriptors of a section, each with the suffix of its scopes."""
    descriptor = section["descriptor"]
    if descriptor["type"] != "hybrid":
        yield descriptor, ""
        return
    for k, part in enumerate(descriptor["list"]):
        yield part, f"_{k}"


def _adapt(part: dict[str, Any], s: str, graph: Graph) -> None:
    """Let a section say what the graph does where DeePMD-kit takes no notice of the option."""
    if part["type"] in ("se_e2_a", "se_e2_r"):
        part["type_one_side"] = f"filter_type_all{s}/matrix_1_0" in graph


def _check(section: Mapping[str, Any], graph: Graph) -> None:
    """Raise ModelFileError if script and graph disagree on types, cutoffs or neighbors."""
    names = graph.text("model_attr/tmap")
    if names is not None and names.split() != section["type_map"]:
        raise ModelFileError(
            f"its types are {names.split()}, its script says {section['type_map']}"
        )
    parts = {s: part for part, s in descriptor_parts(section)}
    for node in environment_nodes(graph):
        s = suffix_of(node)
        if s not in parts:
            raise ModelFileError(f'its script has no descriptor for the operator "{node.name}"')
        for name, value in settings_of(node).items():
            stated = parts[s][name]
            same = np.sum(value) == np.sum(stated) if name == "sel" else np.isclose(value, stated)
            if not same:
                raise ModelFileError(f"{name} is {value}, its script says {stated}")
