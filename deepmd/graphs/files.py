# SPDX-License-Identifier: LGPL-3.0-or-later
"""Frozen graphs as model files: reading."""

import os
from collections.abc import Iterable
from typing import Any

from deepmd.base.errors import ModelFileError
from deepmd.base.reading import shown
from deepmd.dpmodel.construction import constructing
from deepmd.dpmodel.model import Model, build_model
from deepmd.graphs.arrays import fill
from deepmd.graphs.modifier import SCOPE, make_modifier, modifier_section
from deepmd.graphs.ours import is_ours, is_whole, own_tree
from deepmd.graphs.pairwise import KIND, pairwise, parts_of_pairwise
from deepmd.graphs.section import describe, raw_section
from deepmd.graphs.types import Find, SharedNetworks
from deepmd.io.files import SINGLE
from deepmd.io.graph import Graph, read_graph
from deepmd.io.guard import opening
from deepmd.runtime.checkpoint import Checkpoint


def read_pb(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read the dictionary of a frozen graph, ``.pb`` or ``.pbtxt``.

    Raises
    ------
    ModelFileError
        If the file is missing or damaged, or the graph is of a form that is not known.
    """
    graph = read_graph(path)
    with opening(path):
        if is_ours(graph):
            is_whole(path)  # raises where the checksum differs
        return tree_of(graph)


def tree_of(graph: Graph) -> dict[str, Any]:
    """Return the dictionary of a model file of a graph, ours or of DeePMD-kit."""
    if is_ours(graph):
        return own_tree(graph)
    given = modifier_section(graph)
    whole = graph if given is None else graph.part(SCOPE, outside=True)
    section, model = model_of(whole, whole.constant, known=weights_of(whole))
    if given is not None:
        inner = graph.part(SCOPE)
        _, dipole = model_of(inner, inner.constant, known=weights_of(inner))
        section["modifier"], model.modifier = given, make_modifier(given, dipole, model)
    distance = min_nbor_dist_in(graph)
    return Checkpoint({SINGLE: model}, section, min_nbor_dist=distance, backend="TensorFlow").tree()


def model_of(graph: Graph, find: Find, known: Iterable[str]) -> tuple[dict[str, Any], Model]:
    """Return the model section of a graph, and the model with its arrays.

    Parameters
    ----------
    graph : Graph
    find : callable
        Returns the array of a name, or None.
    known : iterable of str
        Names of the arrays that there are.

    Raises
    ------
    ModelFileError
        If an array is missing, has another size, or would be left out.
    """
    raw, known = raw_section(graph), list(known)
    if raw.get("type") != KIND:
        return filled(graph, find, known, raw)
    raw, parts = parts_of_pairwise(graph, find, known, raw)
    sections, models = zip(*(filled(*part) for part in parts), strict=True)
    return pairwise(raw, sections, models)


def filled(
    graph: Graph, find: Find, known: list[str], raw: dict[str, Any]
) -> tuple[dict[str, Any], Model]:
    """Return the section and model of a raw section; arguments are those of :func:`model_of`."""
    section, vectors, split, excluded = describe(graph, find, raw)
    with constructing([find(name) for name in known]):
        data = build_model(section).serialize()
    arrays = SharedNetworks(find, vectors, split, excluded)
    used = fill(data, graph, arrays) | arrays.used
    left = sorted(set(known) - used)
    if left:
        names = ", ".join(shown(name) for name in left[:5])
        more = f" and {len(left) - 5} more" if len(left) > 5 else ""
        raise ModelFileError(
            f"holds arrays of a form that is not known: {names}{more}",
            fix="convert it with the program that wrote it",
        )
    return section, Model.deserialize(data)


def min_nbor_dist_in(graph: Graph) -> float | None:
    """Return the smallest distance of the training data [Å], if the graph tells."""
    distance = graph.constant("train_attr/min_nbor_dist")
    return None if distance is None else float(distance)


def weights_of(graph: Graph) -> list[str]:
    """Return the names of the constants that are numbers of a model, not of its formulas."""
    found = []
    for name, node in graph.items():
        if node.op != "Const" or name.startswith("gradients"):
            continue
        value = node.value
        numbers = getattr(value, "dtype", None)
        if numbers is None or numbers.kind != "f" or value.size < 2:
            continue
        if not ((value == 0.0) | (value == 1.0)).all():
            found.append(name)
    return found
