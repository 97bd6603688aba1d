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
        "deep_eval": "deepmd.np.evaluator:open_model",
        "evaluator": "deepmd.np.evaluator:NumPyEvaluator",
        "train_step": "deepmd.np.train_step:NumPyTrainStep",
        "read_checkpoint": "deepmd.runtime.checkpoint_file:read_checkpoint",
        "write_checkpoint": "deepmd.runtime.checkpoint_file:write_checkpoint",
        "serialize_hook": "deepmd.io:load_model",
        "deserialize_hook": "deepmd.runtime.probes:write_model",
    }
