# SPDX-License-Identifier: LGPL-3.0-or-later
"""Evaluation with TensorFlow: one traced function for all sizes, in chunks of centres."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from deepmd.dpmodel.evaluator import Evaluator
from deepmd.dpmodel.model import Inputs, Model
from deepmd.dpmodel.module import bind, split
from deepmd.dpmodel.neighbors import slot_axes
from deepmd.dpmodel.output_def import Level
from deepmd.dpmodel.programs import architecture, shared
from deepmd.utils.fork import refuse_fork

Leaves = dict[str, Any]


class TfEvaluator(Evaluator):
    """Evaluation of a model with TensorFlow."""

    def __init__(self, model: Model, **about: Any) -> None:
        refuse_fork("TensorFlow")
        super().__init__(model, **about)
        params, fixed = split(model)
        self._leaves = constants(params | fixed)
        self._names = {one.name for one in model.entry_inputs()}
        self._key = architecture(model)

    def chunk_function(
        self, derivatives: Sequence[str], extra: Sequence[str]
    ) -> Callable[[Inputs], dict[str, np.ndarray]]:
        """Return the function that evaluates a chunk; see :class:`Evaluator`."""
        refuse_fork("TensorFlow")
        more, gradients = tuple(extra), bool(derivatives)
        run = shared(
            lambda: _traced(self.model, self._leaves, more, gradients),
            "tensorflow",
            self._key,
            repr((more, gradients)),
        )

        def forward(inputs: Inputs) -> dict[str, np.ndarray]:
            raw = run(self._leaves, inputs.only(self._names))
            return {k: v.numpy() for k, v in raw.items()}

        return forward


def constants(leaves: Mapping[str, np.ndarray]) -> Leaves:
    """Copy arrays to the device."""
    return {k: tf.constant(v) for k, v in leaves.items()}


def specs(leaves: Mapping[str, Any]) -> dict[str, tf.TensorSpec]:
    """Return shapes and dtypes of arrays that never change them."""
    return {k: tf.TensorSpec(v.shape, v.dtype) for k, v in leaves.items()}


def input_specs(model: Model) -> Inputs:
    """Return shapes and dtypes of the evaluation entry, every size being unknown."""

    def named(level: Level) -> dict[str, tf.TensorSpec]:
        known = [one for one in model.entry_inputs() if one.level is level]
        return {one.name: tf.TensorSpec((None, one.size), tf.float64) for one in known}

    numbers = tf.TensorSpec((None,), tf.int64)
    return Inputs(
        tf.TensorSpec((None, 3), tf.float64),
        *[numbers] * 4,
        named(Level.FRAME),
        named(Level.ATOM),
        [tf.TensorSpec((None,) * len(axes), tf.int64) for axes in slot_axes(model.packings())],
    )


def _traced(
    model: Model, leaves: Leaves, extra: tuple[str, ...], gradients: bool
) -> Callable[[Leaves, Inputs], dict[str, Any]]:
    """Return the evaluation of a model as a traced function of its arrays and inputs."""

    @tf.function(input_signature=(specs(leaves), input_specs(model)), autograph=False)
    def run(leaves: Leaves, inputs: Inputs) -> dict[str, Any]:
        bound = bind(model, leaves)
        return bound.forward_edges(inputs, extra) if gradients else bound.atomic(inputs, extra)

    return run
