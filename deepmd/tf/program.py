# SPDX-License-Identifier: LGPL-3.0-or-later
"""Functions traced once, for arguments of all sizes."""

import logging
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

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
    made = tf.function(function, autograph=False).get_concrete_function(*specs)
    size = len(made.graph.get_operations())
    log.info("traced %s: %d operations", getattr(function, "__name__", "function"), size)
    return made


def constants(leaves: Mapping[str, np.ndarray]) -> Leaves:
    """Copy arrays to the device."""
    return {k: tf.constant(v) for k, v in leaves.items()}


def specs_of(tree: Any) -> Any:
    """Return shapes and dtypes of a tree of arrays that never change them."""
    return tf.nest.map_structure(lambda v: tf.TensorSpec(v.shape, v.dtype), tree)


def input_specs(model: Model) -> Inputs:
    """Return shapes and dtypes of the evaluation entry, every size being unknown."""

    def named(level: Level) -> dict[str, tf.TensorSpec]:
        known = [one for one in model.entry_inputs() if one.level is level]
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
