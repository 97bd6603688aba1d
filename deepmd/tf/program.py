# SPDX-License-Identifier: LGPL-3.0-or-later
"""Functions traced once, for arguments of all sizes."""

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from deepmd.dpmodel.input_def import InputDef
from deepmd.dpmodel.model import Inputs, Model
from deepmd.dpmodel.neighbors import slot_axes
from deepmd.dpmodel.output_def import Level

log = logging.getLogger(__name__)

Leaves = dict[str, Any]


def traced(function: Callable[..., Any], *specs: Any) -> Callable[..., Any]:
    """Trace a function once; what is returned never traces again.

    Parameters
    ----------
    function : function
        Takes and returns trees of arrays.
    *specs : trees of TensorSpec
        Shapes and dtypes of the arguments; unknown sizes are None.
    """
    made = _in_order(tf.function(function, autograph=False).get_concrete_function(*specs), specs)
    size = len(made.graph.get_operations())
    log.info("traced %s: %d operations", getattr(function, "__name__", "function"), size)
    return made


def _in_order(made: Any, specs: Any) -> Any:
    """Return a function with the same results, the sums of which have one order of terms.

    AddN, by which TensorFlow sums gradients, begins with a term whose memory nothing else reads any
    more: with which depends on how far other threads are, so that the last bits of three terms and
    more differ from run to run. ``tf.config.experimental.enable_op_determinism`` does not change it.
    """
    graph = made.graph.as_graph_def()
    nodes = [one for node in graph.node for one in _pairwise(node)]
    if len(nodes) == len(graph.node):
        return made
    del graph.node[:]
    graph.node.extend(nodes)
    names, wanted = [t.name for t in made.inputs], [t.name for t in made.outputs]

    def again(*args: Any) -> Any:
        captured = map(tf.identity, made.captured_inputs)
        given = [*filter(tf.is_tensor, tf.nest.flatten(args)), *captured]
        inputs = dict(zip(names, given, strict=True))
        found = iter(tf.graph_util.import_graph_def(graph, inputs, wanted, name=""))
        outputs = made.structured_outputs
        return tf.nest.map_structure(lambda x: None if x is None else next(found), outputs)

    return tf.function(again, autograph=False).get_concrete_function(*specs)


def _pairwise(node: Any) -> list[Any]:
    """Return the nodes that do the work of a node: sums of two in the place of longer ones."""
    terms = [name for name in node.input if not name.startswith("^")]
    if node.op != "AddN" or len(terms) < 3:
        return [node]
    out, total = [], terms[0]
    for k, term in enumerate(terms[1:], 1):
        one = type(node)(name=f"{node.name}/of_{k + 1}", op="AddV2", input=[total, term])
        one.attr["T"].CopyFrom(node.attr["T"])
        out.append(one)
        total = one.name
    out[-1].name = node.name
    out[-1].input.extend(name for name in node.input if name.startswith("^"))
    return out


def constants(leaves: Mapping[str, np.ndarray]) -> Leaves:
    """Copy arrays to the device."""
    return {k: tf.constant(v) for k, v in leaves.items()}


def specs_of(tree: Any) -> Any:
    """Return shapes and dtypes of a tree of arrays that never change them."""
    return tf.nest.map_structure(lambda v: tf.TensorSpec(v.shape, v.dtype), tree)


def input_specs(model: Model, more: Sequence[InputDef] = ()) -> Inputs:
    """Return shapes and dtypes of the evaluation entry, every size being unknown.

    ``more`` are inputs beside those of the entry.
    """

    def named(level: Level) -> dict[str, tf.TensorSpec]:
        known = [one for one in (*model.entry_inputs(), *more) if one.level is level]
        return {one.name: tf.TensorSpec((None, one.size), tf.float64) for one in known}

    numbers = tf.TensorSpec((None,), tf.int64)
    return Inputs(
        tf.TensorSpec((None, 3), tf.float64),
        numbers,
        numbers,
        numbers,
        numbers,
        named(Level.FRAME),
        named(Level.ATOM),
        [tf.TensorSpec((None,) * len(axes), tf.int64) for axes in slot_axes(model.packings())],
    )
