# SPDX-License-Identifier: LGPL-3.0-or-later
"""The PyTorch backend."""

from deepmd.backend.backend import EVERYTHING, Backend


@Backend.register("pytorch", "pt")
class PyTorchBackend(Backend):
    """Training, TorchScript models and checkpoints of PyTorch."""

    name = "PyTorch"
    packages = ("torch",)
    suffixes = (".pth",)
    plugins = ("deepmd.pt",)
    checkpoint_suffix = ".pt"
    features = EVERYTHING
    hooks = {
        "deep_eval": "deepmd.pt.files:open_model",
        "evaluator": "deepmd.pt.evaluator:TorchEvaluator",
        "train_step": "deepmd.pt.train_step:TorchTrainStep",
        "before_plugins": "deepmd.pt.executor:stop_profiling",
        "start_group": "deepmd.pt.distributed:start_group",
        "read_checkpoint": "deepmd.pt.checkpoint.checkpoint:read_checkpoint",
        "write_checkpoint": "deepmd.pt.checkpoint.checkpoint:write_checkpoint",
        "serialize_hook": "deepmd.pt.files:read_model",
        "deserialize_hook": "deepmd.pt.torchscript.export:write_pth",
    }
