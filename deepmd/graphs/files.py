# SPDX-License-Identifier: LGPL-3.0-or-later
"""Frozen graphs of DeePMD-kit as model files: reading, and evaluation by NumPy."""

import os
from collections.abc import Callable, Iterable
from typing import Any

from deepmd.base.errors import ModelFileError
from deepmd.base.reading import shown
from deepmd.dpmodel.model import Model, build_model
from deepmd.graphs.arrays import fill
from deepmd.graphs.section import model_section
from deepmd.io.files import SINGLE
from deepmd.io.graph import Graph, read_graph
from deepmd.io.guard import opening
from deepmd.np.evaluator import NumPyEvaluator
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
        return tree_of(graph)


def open_pb(path: str | os.PathLike[str], head: str | None = None) -> NumPyEvaluator:
    """Open a frozen graph for evaluation with NumPy.

    Parameters
    ----------
    path : path
    head : str, optional
        Frozen graphs have no branches.
    """
    return NumPyEvaluator.of_tree(read_pb(path), path, head)


def tree_of(graph: Graph) -> dict[str, Any]:
    """Return the dictionary of a model file of a graph."""
    section = model_section(graph)
    model = model_of(section, graph, graph.constant, known=weights_of(graph))
    nearest = nearest_in(graph)
    return Checkpoint({SINGLE: model}, section, min_nbor_dist=nearest, backend="TensorFlow").tree()


def model_of(
    section: dict[str, Any], graph: Graph, find: Callable[[str], Any], known: Iterable[str]
) -> Model:
    """Return the model of a section with its arrays.

    Parameters
    ----------
    section : dict
        Checked.
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
    data = build_model(section).serialize()
    used = fill(data, graph, find)
    left = sorted(set(known) - used)
    if left:
        names = ", ".join(shown(name) for name in left[:5])
        more = f" and {len(left) - 5} more" if len(left) > 5 else ""
        raise ModelFileError(
            f"holds arrays of a form that is not known: {names}{more}",
            fix="convert it with the program that wrote it",
        )
    return Model.deserialize(data)


def nearest_in(graph: Graph) -> float | None:
    """Return the smallest distance of the training data [Å], if the graph tells."""
    nearest = graph.constant("train_attr/min_nbor_dist")
    return None if nearest is None else float(nearest)


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
