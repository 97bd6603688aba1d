# SPDX-License-Identifier: LGPL-3.0-or-later
"""Graphs with two models, of a QM region and of its pairs with fragments.

Scopes of either have its name at their end; the type embedding is that of both.
"""

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from deepmd.base.errors import ModelFileError
from deepmd.base.reading import shown
from deepmd.dpmodel.atomic_model import PairwiseAtomicModel
from deepmd.dpmodel.model import Model, PairwiseModel
from deepmd.graphs.types import Find
from deepmd.io.graph import Graph

#: Type of such models.
KIND = "pairwise_dprc"
#: Ends of the scopes, by key of the section.
ENDS = {"qm_model": "_qm", "qmmm_model": "_qmmm"}
#: Scope of the arrays of both.
SHARED = "type_embed_net/"


class Part(NamedTuple):
    """One of the models, as :func:`deepmd.graphs.files.filled` takes it.

    Attributes
    ----------
    graph : Graph
        Without the nodes of the other model, and with scopes as if there were none.
    find : callable
        Returns the array of a name there, or None.
    known : list of str
        Names there of the arrays of the model.
    raw : dict
        Its section.
    """

    graph: Graph
    find: Find
    known: list[str]
    raw: dict[str, Any]


def parts_of_pairwise(
    graph: Graph, find: Find, known: Sequence[str], raw: dict[str, Any]
) -> tuple[dict[str, Any], list[Part]]:
    """Return the section of the whole without both models, and these.

    Raises
    ------
    ModelFileError
        If a section is missing, or an array belongs to neither.
    """
    missing = [key for key in ENDS if not isinstance(raw.get(key), dict)]
    if missing:
        raise ModelFileError(f"its script has no section {missing[0]}")
    left = [n for n in known if not (n.startswith(SHARED) or any(map(_end(n), ENDS.values())))]
    if left:
        raise ModelFileError(
            f"holds arrays that belong to neither of its models: {shown(left[0])}",
            fix="convert it with the program that wrote it",
        )
    common = {k: raw[k] for k in ("type_map", "type_embedding") if k in raw}
    parts = [_part(graph, find, known, {**common, **raw[key]}, end) for key, end in ENDS.items()]
    return {k: v for k, v in raw.items() if k not in ENDS and k != "type_embedding"}, parts


def _end(name: str) -> Any:
    """Return whether a name has scopes with an end."""
    return lambda end: re.search(rf"{end}(?=/|$|_\d)", name) is not None


def _part(graph: Graph, find: Find, known: Sequence[str], raw: dict[str, Any], end: str) -> Part:
    (other,) = (e for e in ENDS.values() if e != end)

    def rename(name: str) -> str:
        return re.sub(rf"{end}(?=/|$|_\d)", "", name)

    def is_mine(name: str) -> bool:
        return not any(_end(n)(other) for n in (name, *graph[name].inputs))

    names = {rename(name): name for name in graph}
    return Part(
        graph.some(is_mine, rename),
        lambda name: find(names.get(name, name)),
        [rename(n) for n in known if n.startswith(SHARED) or _end(n)(end)],
        raw,
    )


def pairwise(
    raw: dict[str, Any], sections: Sequence[dict[str, Any]], models: Sequence[Model]
) -> tuple[dict[str, Any], Model]:
    """Return section and model of the whole, from those of its parts."""
    section = {**raw, **dict(zip(ENDS, sections, strict=True))}
    parts = (model.atomic_model for model in models)
    whole = PairwiseAtomicModel(*parts, raw["type_map"])
    whole.share_types()
    return section, PairwiseModel(whole)
