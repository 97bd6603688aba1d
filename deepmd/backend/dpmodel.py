# SPDX-License-Identifier: LGPL-3.0-or-later
"""The NumPy backend: the neutral model itself."""

import os
from typing import Any

from deepmd.backend.backend import Backend, Feature


@Backend.register("dpmodel", "dp", "np", "numpy")
class DPModelBackend(Backend):
    """Neutral model files, evaluated and trained with NumPy and autograd."""

    name = "NumPy"
    packages = ("numpy", "autograd")
    suffixes = (".dp", ".yaml", ".yml")
    checkpoint_suffix = ".dp"
    features = (
        Feature.ENTRY_POINT | Feature.DEEP_EVAL | Feature.NEIGHBOR_STAT | Feature.IO | Feature.TRAIN
    )
    hooks = {
        "train_step": "deepmd.dpmodel.training.numpy_step:NumPyTrainStep",
        "read_checkpoint": "deepmd.io.checkpoint:read_checkpoint",
        "write_checkpoint": "deepmd.io.checkpoint:write_checkpoint",
        "serialize_hook": "deepmd.io:load_model",
        "deserialize_hook": "deepmd.io:save_model",
    }

    def deep_eval(self, path: str | os.PathLike[str], head: str | None = None) -> Any:
        """Open a neutral model file and return its Evaluator."""
        from deepmd.dpmodel.evaluator import NumPyEvaluator
        from deepmd.dpmodel.model import Model
        from deepmd.io.files import branch_of, models_of

        models = models_of(self.serialize_hook(path))
        return NumPyEvaluator(Model.deserialize(models[branch_of(models, head, path)]))
