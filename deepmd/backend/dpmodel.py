# SPDX-License-Identifier: LGPL-3.0-or-later
"""The NumPy backend: the neutral model itself."""

from deepmd.backend.backend import EVERYTHING, Backend


@Backend.register("dpmodel", "dp", "np", "numpy")
class DPModelBackend(Backend):
    """Neutral model files, evaluated and trained with NumPy and autograd."""

    name = "NumPy"
    packages = ("numpy", "autograd")
    suffixes = (".dp", ".yaml", ".yml")
    checkpoint_suffix = ".dp"
    features = EVERYTHING
    hooks = {
        "deep_eval": "deepmd.dpmodel.evaluator:open_model",
        "train_step": "deepmd.dpmodel.training.numpy_step:NumPyTrainStep",
        "read_checkpoint": "deepmd.io.checkpoint:read_checkpoint",
        "write_checkpoint": "deepmd.io.checkpoint:write_checkpoint",
        "serialize_hook": "deepmd.io:load_model",
        "deserialize_hook": "deepmd.dpmodel.probes:write_model",
    }
