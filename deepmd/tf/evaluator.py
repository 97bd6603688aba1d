# SPDX-License-Identifier: LGPL-3.0-or-later
"""Evaluation with TensorFlow: one traced function for all sizes, in chunks of centers."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from deepmd.base.fork import refuse_fork
from deepmd.dpmodel.model import Inputs, Model
from deepmd.dpmodel.module import bind, split
from deepmd.runtime.evaluator import Evaluator
from deepmd.runtime.programs import architecture, shared
from deepmd.tf.program import Leaves, constants, input_specs, specs_of, traced


class TfEvaluator(Evaluator):
    """Evaluation of a model with TensorFlow.

    Attributes
    ----------
    program : function or None
        Program of a file, used instead of the model where it will do.
    """

    program: Callable[[Inputs], dict[str, np.ndarray]] | None = None

    def __init__(self, model: Model, **about: Any) -> None:
        refuse_fork("TensorFlow")
        super().__init__(model, **about)
        params, fixed = split(model)
        self._leaves = constants(params | fixed)
        self._names = model.input_names()
        self._key = architecture(model)

    def chunk_function(
        self, derivatives: Sequence[str], extra: Sequence[str]
    ) -> Callable[[Inputs], dict[str, np.ndarray]]:
        """Return the function that evaluates a chunk; see :class:`Evaluator`."""
        refuse_fork("TensorFlow")
        more, gradients, program = tuple(extra), bool(derivatives), self.program
        if program is not None and gradients and not more:
            return lambda inputs: program(inputs.only(self._names))
        run = shared(
            lambda: forward_of(self.model, self._leaves, more, gradients=gradients),
            "tensorflow",
            self._key,
            repr((more, gradients)),
        )

        def forward(inputs: Inputs) -> dict[str, np.ndarray]:
            raw = run(self._leaves, inputs.only(self._names))
            return {k: v.numpy() for k, v in raw.items()}

        return forward


def forward_of(
    model: Model, leaves: Leaves, extra: tuple[str, ...] = (), *, gradients: bool = True
) -> Callable[[Leaves, Inputs], dict[str, Any]]:
    """Return the evaluation of a model as a function of its arrays and inputs.

    It gives what :meth:`Model.forward_edges` does, or :meth:`Model.atomic` without gradients.
    """

    def forward(leaves: Leaves, inputs: Inputs) -> dict[str, Any]:
        bound = bind(model, leaves)
        return bound.forward_edges(inputs, extra) if gradients else bound.atomic(inputs, extra)

    return traced(forward, specs_of(leaves), input_specs(model))
