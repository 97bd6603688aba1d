# SPDX-License-Identifier: LGPL-3.0-or-later
"""Checkpoint of a training, whatever the format of the file."""

import dataclasses
from typing import Any

import numpy as np

from deepmd import __version__
from deepmd.dpmodel.model import Model
from deepmd.io.files import SINGLE, branch_of, branch_params


@dataclasses.dataclass
class Checkpoint:
    """The complete state of a training after a step.

    Attributes
    ----------
    models : dict of str to Model
        Neutral models by task; the only task of an ordinary training is ``Default``.
    model_params : dict
        The normalized ``model`` section, as in ``out.json``.
    step : int
        Steps that were taken.
    optimizer : dict of str to array
        What :meth:`TrainStep.state` returned.
    trainer : dict of str to array, number or str
        Everything else a restart needs, under flat names: ``data.Default.cursor``, ``seed``, ….
        Arrays keep their dtype and shape.
    min_nbor_dist : float, optional
        Smallest distance of the training data [Å].
    backend : str
        Name of the backend that trained.
    """

    models: dict[str, Model]
    model_params: dict[str, Any]
    step: int = 0
    optimizer: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
    trainer: dict[str, Any] = dataclasses.field(default_factory=dict)
    min_nbor_dist: float | None = None
    backend: str = ""

    def model_data(self, head: str | None = None) -> dict[str, Any]:
        """Return the dictionary of a model file.

        Parameters
        ----------
        head : str, optional
            The task, when there are several.
        """
        task = branch_of(self.models, head, "checkpoint", self.model_params)
        model_params = branch_params(self.model_params, task)
        return dataclasses.replace(
            self, models={SINGLE: self.models[task]}, model_params=model_params
        ).tree()

    def tree(self) -> dict[str, Any]:
        """Return the dictionary of all models: of a single one, that of a model file."""
        models = {task: model.serialize() for task, model in self.models.items()}
        min_dist = self.min_nbor_dist
        return {
            "software": "deepmd-kit",
            "version": __version__,
            "backend": self.backend,
            **({"model": models[SINGLE]} if set(models) == {SINGLE} else {"models": models}),
            "model_def_script": self.model_params,
            "@variables": {}
            if min_dist is None
            else {"min_nbor_dist": np.asarray(float(min_dist))},
        }
