# SPDX-License-Identifier: LGPL-3.0-or-later
"""Evaluation of batches: what a backend gives to inference, and the NumPy form of it."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np

from deepmd.dpmodel.batch import Batch
from deepmd.dpmodel.chunks import EDGES_PER_CHUNK, numpy_forward, predict_in_chunks
from deepmd.dpmodel.model import Model
from deepmd.dpmodel.neighbors import Overflow


class Evaluator(ABC):
    """A model that can be evaluated.

    Attributes
    ----------
    model : Model
        The neutral model: cutoff, types, dimensions, output definition.
    overflow : Overflow
        How often an atom had more neighbours than ``sel``.
    """

    model: Model

    def __init__(self, model: Model) -> None:
        self.model = model
        self.overflow = Overflow()

    @abstractmethod
    def evaluate(
        self,
        batch: Batch,
        *,
        derivatives: Sequence[str] = ("force", "virial"),
        extra: Sequence[str] = (),
    ) -> dict[str, np.ndarray]:
        """Evaluate a batch with edges; results as of :meth:`Model.predict`, NumPy arrays."""


class NumPyEvaluator(Evaluator):
    """Evaluation of the neutral tree itself, a range of centres at a time."""

    max_edges = EDGES_PER_CHUNK

    def evaluate(
        self,
        batch: Batch,
        *,
        derivatives: Sequence[str] = ("force", "virial"),
        extra: Sequence[str] = (),
    ) -> dict[str, np.ndarray]:
        return predict_in_chunks(
            self.model,
            batch,
            numpy_forward(self.model, derivatives, extra),
            derivatives=derivatives,
            max_edges=self.max_edges,
            overflow=self.overflow,
        )
