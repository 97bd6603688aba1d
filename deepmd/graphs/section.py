# SPDX-License-Identifier: LGPL-3.0-or-later
"""Model section of the input that a graph was trained with, in today's form."""

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from deepmd.base.errors import ModelFileError, NotAvailableError, located
from deepmd.base.reading import check_input_tree
from deepmd.graphs.inferred import (
    environment_nodes,
    inferred_section,
    settings_of,
    suffix_of,
)
from deepmd.graphs.names import ATTENTION_SCALE, LAYER_NORM_EPSILON, STATISTICS, STRIPPED, parts_of
from deepmd.graphs.tables import TYPES
from deepmd.graphs.types import SETTINGS, Find, TypeVectors
from deepmd.io.graph import Graph
from deepmd.schema.check import normalize_model
from deepmd.schema.legacy import upgrade

SCRIPT = "train_attr/training_script"
#: Keys of models with parts that are not read from graphs.
NOT_READ = ("modifier", "spin", "use_srtab")
#: Descriptors with a type embedding of their own.
OWN_TYPES = ("se_atten",)
#: Scope of the attributes of a modifier.
MODIFIER = "modifier_attr"
#: Keys of the section that concern the training and the file only.
_IGNORED = ("compress", "finetune_head", "data_stat_protect", "data_stat_nbatch")


class Description(NamedTuple):
    """Model of a graph.

    Attributes
    ----------
    section : dict
        Checked model section of the model here.
    vectors : TypeVectors, optional
        Vectors of types that DPA-1 takes over.
    split : set of str
        Suffixes of the descriptors whose networks are for neighbors in the graph, for pairs here.
    excluded : dict of str to set of pairs
        Types that do not see each other, the smaller first, by the suffix of the descriptor.
    """

    section: dict[str, Any]
    vectors: TypeVectors | None
    split: set[str]
    excluded: dict[str, set[tuple[int, ...]]]


def describe(graph: Graph, find: Find, raw: dict[str, Any] | None = None) -> Description:
    """Return the model of a graph.

    Parameters
    ----------
    graph : Graph
    find : callable
        Returns the array of a node, or None.
    raw : dict, optional
        Model section, by default that of :func:`raw_section`.

    Raises
    ------
    InputError
        If the script inside cannot be used, or does not belong to the graph.
    """
    raw = raw_section(graph) if raw is None else dict(raw)
    types = raw.pop("type_embedding", None)
    if f"{MODIFIER}/type" in graph:
        raw.pop("modifier", None)  # the graph has it beside the model
    kind = raw.get("type", "standard")
    found = [k for k in NOT_READ if k in raw] + ([f"type {kind}"] if kind != "standard" else [])
    if found:
        raise NotAvailableError(
            f"graphs of models with {', '.join(found)} are not read",
            fix="convert the model before it is frozen, or train it again",
        )
    if types is not None:
        raw["type_embedding"] = {k: types[k] for k in SETTINGS if k in types}
    with located(SCRIPT):
        section = normalize_model(raw)
    parts = [(part, s) for _, part, s in parts_of(section["descriptor"])]
    _check(section, graph)
    for part, s in parts:
        _adapt(part, s, graph)
    vectors = None if types is None else _vectors(section, parts, find)
    split = set() if types is not None else {s for part, s in parts if _splits(part, s, find)}
    excluded = {s: {tuple(sorted(p)) for p in part["exclude_types"]} for part, s in parts}
    return Description(section, vectors, split, excluded)


def _vectors(
    section: dict[str, Any],
    parts: list[tuple[dict[str, Any], str]],
    find: Find,
) -> TypeVectors | None:
    """Return the vectors of the types of DPA-1, whose descriptor takes them over."""
    own = {part["type"] in OWN_TYPES for part, _ in parts}
    if len(own) > 1:
        raise NotAvailableError("type_embedding with descriptors of several types is not read")
    if not own.pop():
        _check_means(parts, find)
        return None
    vectors = TypeVectors(section.pop("type_embedding"), section["type_map"], find)
    for part, _ in parts:
        part["tebd_dim"] = vectors.width
        part["use_tebd_bias"] = part["use_econf_tebd"] = False
    return vectors


def _check_means(parts: list[tuple[dict[str, Any], str]], find: Find) -> None:
    """Raise NotAvailableError if excluded types have means.

    They have no slots at all in TensorFlow, here they have empty ones.
    """
    for part, s in parts:
        mean = find(STATISTICS["davg"].format(s=s))
        if part.get("exclude_types") and mean is not None and np.any(mean):
            raise NotAvailableError(
                "exclude_types with a mean of the environment and a type embedding is not read",
                fix='train the model again with "set_davg_zero": true',
            )


def _splits(part: dict[str, Any], s: str, find: Find) -> bool:
    """Give one-sided networks to pairs of types, if only so a section says what the graph does.

    Excluded pairs have no slots at all in TensorFlow, here they have empty ones: these differ if
    the environment has a mean. Pairs have networks that are zero where they are excluded.
    """
    one_sided = part.get("type_one_side") and part["type"] in ("se_e2_a", "se_e2_r")
    mean = find(STATISTICS["davg"].format(s=s))
    if not one_sided or not part["exclude_types"] or mean is None or not np.any(mean):
        return False
    part["type_one_side"] = False
    return True


def script_of(graph: Graph) -> dict[str, Any] | None:
    """Return the training script of a graph, or None: it is there since DeePMD-kit 2."""
    text = graph.text(SCRIPT)
    if text is None:
        return None
    try:
        given = json.loads(text)
    except ValueError as error:
        raise ModelFileError(f"{SCRIPT} is no JSON ({error})") from None
    check_input_tree(given, SCRIPT)
    if not isinstance(given, dict):
        raise ModelFileError(f"{SCRIPT} is no object with sections")
    return given


def raw_section(graph: Graph) -> dict[str, Any]:
    """Return the model section in the script of a graph, or the one that follows from its nodes."""
    given = script_of(graph)
    return inferred_section(graph) if given is None else _raw_section(given)


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


def _adapt(part: dict[str, Any], s: str, graph: Graph) -> None:
    """Let a section say what the graph does where DeePMD-kit takes no notice of an option.

    Its TensorFlow has one-sided networks of types in concat mode only, and another default epsilon
    of layer norms.
    """
    if part["type"] in ("se_e2_a", "se_e2_r") and f"filter_type_all{s}/matrix_1" not in graph:
        part["type_one_side"] = any(name.startswith(f"filter_type_all{s}/") for name in graph)
    if part["type"] != "se_atten":
        return
    if part["tebd_input_mode"] == "strip":
        table, n = graph.constant(TYPES.format(s=s)), graph.constant("descrpt_attr/ntypes")
        one_side = STRIPPED[True].format(array="matrix", l=1, s=s) in graph
        # A table has rows for neighbors, or for pairs.
        part["type_one_side"] = one_side if table is None else len(table) == int(n) + 1
    gated = part["tebd_input_mode"] == "strip" or part["attn_layer"]
    if part["smooth_type_embedding"] and gated:
        raise NotAvailableError(
            "smooth type embeddings of DeePMD-kit's TensorFlow vanish by another function than "
            "those of its other backends, which is not built",
            fix='train the model again, or with "smooth_type_embedding": false',
        )
    if part["attn_layer"]:
        part["ln_eps"] = float(_number(graph, LAYER_NORM_EPSILON.format(s=s)))
        part["temperature"] = _scale(graph, ATTENTION_SCALE.format(s=s))


def _scale(graph: Graph, name: str) -> float:
    """Return the factor of the logits of attention, of which a graph has the inverse square."""
    if name not in graph:
        raise ModelFileError(f'has no node "{name}", which its model needs')
    root = graph[graph[name].inputs[1]]
    if root.op != "Sqrt":
        raise ModelFileError(f'the logits of its attention are scaled by "{root.op}"')
    squared = graph[root.inputs[0]]
    return (
        float(_number(graph, squared.inputs[0] if squared.op == "Cast" else squared.name)) ** -0.5
    )


def _number(graph: Graph, name: str) -> Any:
    value = graph.constant(name)
    if np.shape(value) != () or not isinstance(value, np.ndarray):
        raise ModelFileError(f'has no number "{name}", which its model needs')
    return value


def _check(section: Mapping[str, Any], graph: Graph) -> None:
    """Raise ModelFileError if script and graph disagree on types, cutoffs or neighbors."""
    names = graph.text("model_attr/tmap")
    if names is not None and names.split() != section["type_map"]:
        raise ModelFileError(
            f"its types are {names.split()}, its script says {section['type_map']}"
        )
    parts = {s: part for _, part, s in parts_of(section["descriptor"])}
    for node in environment_nodes(graph):
        s = suffix_of(node)
        if s not in parts:
            raise ModelFileError(f'its script has no descriptor for the operator "{node.name}"')
        for name, value in settings_of(node).items():
            stated = parts[s][name]
            same = np.sum(value) == np.sum(stated) if name == "sel" else np.isclose(value, stated)
            if not same:
                raise ModelFileError(f"{name} is {value}, its script says {stated}")
