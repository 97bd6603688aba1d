# SPDX-License-Identifier: LGPL-3.0-or-later
"""Evaluation of batches: what a backend gives to inference, and the NumPy form of it."""

import os
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from deepmd.dpmodel.batch import Batch
from deepmd.dpmodel.chunks import EDGES_PER_CHUNK, numpy_forward, predict_in_chunks
from deepmd.dpmodel.model import Model, frame_hessian, prepare
from deepmd.dpmodel.neighbors import Overflow
from deepmd.io.files import branch_of, branch_params, load_model, models_of
from deepmd.utils.errors import ModelFileError


class Evaluator(ABC):
    """A model that can be evaluated.

    Attributes
    ----------
    model : Model
        The neutral model: cutoff, types, dimensions, output definition.
    overflow : Overflow
        How often an atom had more neighbours than ``sel``.
    model_def_script : dict
        The model section of the input it was trained with; empty if the file does not say.
    min_nbor_dist : float or None
        Smallest distance of the training data [Å].
    """

    model: Model
    #: Atoms in one call that keep the device busy without exhausting its memory.
    batch_atoms = 1024

    def __init__(
        self,
        model: Model,
        *,
        model_def_script: Mapping[str, Any] | None = None,
        min_nbor_dist: float | None = None,
    ) -> None:
        self.model = model
        self.model_def_script = dict(model_def_script or {})
        self.min_nbor_dist = min_nbor_dist
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

    def hessian(self, batch: Batch) -> np.ndarray:
        """Second derivatives (3 n_atoms, 3 n_atoms) [eV/Å²] of a batch of one frame, with edges."""
        inputs = prepare(batch, self.model.packings(), self.overflow)
        return np.asarray(frame_hessian(self.model, inputs))


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
        """Evaluate a batch with edges; see :class:`Evaluator`."""
        return predict_in_chunks(
            self.model,
            batch,
            numpy_forward(self.model, derivatives, extra),
            derivatives=derivatives,
            max_edges=self.max_edges,
            overflow=self.overflow,
        )


def open_model(path: str | os.PathLike[str], head: str | None = None) -> NumPyEvaluator:
    """Open a neutral model file, or a checkpoint of the same form, for evaluation with NumPy.

    Parameters
    ----------
    path : path
        ``.dp``, ``.yaml``, ``.yml``.
    head : str, optional
        Task of a checkpoint with several.
    """
    tree = load_model(path)
    models = models_of(tree)
    branch = branch_of(models, head, path)
    try:
        model = Model.deserialize(models[branch])
    except ModelFileError as error:
        raise ModelFileError(error.what, where=path, fix=error.fix) from None
    nearest = tree.get("@variables", {}).get("min_nbor_dist")
    return NumPyEvaluator(
        model,
        model_def_script=branch_params(tree.get("model_def_script") or {}, branch),
        min_nbor_dist=None if nearest is None else float(nearest),
    )
