"""Evaluation on these arrays."""

import functools

from deepmd.dpmodel.module import bind, split
from deepmd.runtime.evaluator import Evaluator
from deepmd_board.arrays import Array


class BoardEvaluator(Evaluator):
    @functools.cached_property
    def bound(self):
        """The model with its arrays in place of those of NumPy."""
        params, fixed = split(self.model)
        return bind(self.model, {path: Array(x) for path, x in (params | fixed).items()})

    def chunk_function(self, derivatives, extra):
        def forward(inputs):
            evaluate = self.bound.forward_edges if derivatives else self.bound.atomic
            found = evaluate(inputs.map(Array), extra)
            assert all(isinstance(x, Array) for x in found.values())
            return {name: x.value for name, x in found.items()}

        return forward
