# SPDX-License-Identifier: LGPL-3.0-or-later
"""Models as frozen graphs: the evaluation entry ``forward_edges`` for all sizes, weights inside.

Names of the nodes are the interface of a file: placeholders ``deepmd/vec``, ``deepmd/i``,
``deepmd/j``, ``deepmd/atype``, ``deepmd/frame``, ``deepmd/frame_inputs/<name>``,
``deepmd/atom_inputs/<name>`` and ``deepmd/slots/<k>``, results ``deepmd/out/<name>`` and
``deepmd/out/<name>_grad``, texts ``deepmd/metadata``, ``deepmd/probes`` and ``deepmd/model``.
"""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from deepmd.base.errors import ModelFileError
from deepmd.dpmodel.model import Inputs, Model
from deepmd.dpmodel.module import bind, split
from deepmd.io.guard import AGAIN
from deepmd.tf.program import constants, input_specs, traced

#: Version of the evaluation entry.
ENTRY_VERSION = 2
_ROOM = "deepmd"
_OUT = f"{_ROOM}/out/"


def input_names(inputs: Inputs) -> Inputs:
    """Return the names of the placeholders in the places of the arrays."""
    vec, i, j, atype, frame = (f"{_ROOM}/{name}" for name in Inputs._fields[:5])
    return Inputs(
        vec,
        i,
        j,
        atype,
        frame,
        {k: f"{_ROOM}/frame_inputs/{k}" for k in inputs.frame_inputs},
        {k: f"{_ROOM}/atom_inputs/{k}" for k in inputs.atom_inputs},
        [f"{_ROOM}/slots/{k}" for k in range(len(inputs.slots))],
    )


def model_graph(model: Model, notes: Mapping[str, Any]) -> tf.compat.v1.GraphDef:
    """Return the graph of a model.

    Parameters
    ----------
    model : Model
    notes : dict
        Constants beside it by name: texts, numbers, NumPy arrays.
    """
    specs = input_specs(model)
    names = input_names(specs)
    # Within a function, as everywhere else here, == compares the elements of arrays.
    with tf.__internal__.FuncGraph("model").as_default() as graph:
        flat = zip(specs.flat(), names.flat(), strict=True)
        places = [tf.compat.v1.placeholder(s.dtype, s.shape, name) for s, name in flat]
        params, fixed = split(model)
        leaves = constants(params | fixed)
        results = bind(model, leaves).forward_edges(specs.with_arrays(places))
        wanted = [p.op.name for p in places]
        for name, value in results.items():
            wanted.append(tf.identity(value, f"{_OUT}{name}").op.name)
        for name, value in notes.items():
            wanted.append(tf.constant(value, name=name).op.name)
        return _pruned(graph.as_graph_def(), wanted)


def _pruned(whole: tf.compat.v1.GraphDef, wanted: Iterable[str]) -> tf.compat.v1.GraphDef:
    """Return what some nodes depend on, without the marks that tracing left."""
    if whole.library.function:
        raise TypeError("a graph for a file must not call functions")
    nodes = {node.name: node for node in whole.node}
    kept: set[str] = set()
    todo = list(wanted)
    while todo:
        name = todo.pop()
        if name not in kept:
            kept.add(name)
            todo += [given.lstrip("^").partition(":")[0] for given in nodes[name].input]
    out = tf.compat.v1.GraphDef(versions=whole.versions)
    for node in whole.node:
        if node.name in kept:
            for mark in [key for key in node.attr if key.startswith("_")]:
                del node.attr[mark]
            out.node.append(node)
    return out


# -- running --------------------------------------------------------------------------------------


def allowed_operators() -> frozenset[str]:
    """Return the operators that a file may contain: they compute and do nothing else."""
    lines = Path(__file__).with_name("allowed_operators.txt").read_text().splitlines()
    return frozenset(line.strip() for line in lines if line.strip() and not line.startswith("#"))


def check_operators(graph: tf.compat.v1.GraphDef) -> None:
    """Raise ModelFileError if a graph has operators that are not allowed, or calls functions."""
    unknown = sorted({node.op for node in graph.node} - allowed_operators())
    if unknown or graph.library.function:
        named = ", ".join(unknown[:5]) or "functions"
        raise ModelFileError(
            f"its program uses what model files must not: {named}",
            fix="use files from sources you trust, or convert it from its source again",
        )


def runner(graph: tf.compat.v1.GraphDef, model: Model) -> Callable[[Inputs], dict[str, Any]]:
    """Return the evaluation entry of a graph as a function.

    Raises
    ------
    ModelFileError
        If the graph does more than compute, or is that of another model.
    """
    check_operators(graph)
    specs = input_specs(model)
    names = input_names(specs)
    there = {node.name: node for node in graph.node if node.op == "Placeholder"}
    for spec, name in zip(specs.flat(), names.flat(), strict=True):
        if name not in there or tf.as_dtype(there[name].attr["dtype"].type) != spec.dtype:
            raise ModelFileError(f"its program has no such input as {name}", fix=AGAIN)
    outputs = [node.name for node in graph.node if node.name.startswith(_OUT)]

    def program(*arrays: Any) -> dict[str, Any]:
        given = dict(zip(names.flat(), arrays, strict=True))
        wanted = [f"{name}:0" for name in outputs]
        found = tf.graph_util.import_graph_def(graph, given, wanted, name="")
        return {k.removeprefix(_OUT): v for k, v in zip(outputs, found, strict=True)}

    run = traced(program, *specs.flat())

    def forward(inputs: Inputs) -> dict[str, np.ndarray]:
        return {k: v.numpy() for k, v in run(*inputs.flat()).items()}

    return forward
