# SPDX-License-Identifier: LGPL-3.0-or-later
"""Backends that are known but not built here."""

from deepmd.backend.backend import Backend, Feature


class _NotBuilt(Backend):
    """A backend that says so in one line."""

    def why_not(self) -> str | None:
        """Why this backend cannot be used here."""
        return "known but not built yet"


@Backend.register("tensorflow", "tf")
class TensorFlowBackend(_NotBuilt):
    """Frozen graphs of TensorFlow."""

    name = "TensorFlow"
    suffixes = (".pb",)
    checkpoint_suffix = ".meta"
    features = Feature.ENTRY_POINT | Feature.DEEP_EVAL | Feature.IO
    reading_packages = ("google.protobuf",)
    hooks = {
        "deep_eval": "deepmd.graphs.files:open_pb",
        "read_checkpoint": "deepmd.graphs.checkpoints:read_checkpoint",
        "serialize_hook": "deepmd.graphs.files:read_pb",
    }


@Backend.register("tensorflow2", "tf2")
class TensorFlow2Backend(_NotBuilt):
    """Saved models of TensorFlow 2."""

    name = "TensorFlow 2"
    suffixes = (".savedmodeltf",)
    checkpoint_suffix = ".tf2"


@Backend.register("pytorch-exportable", "pt-expt")
class PyTorchExportableBackend(_NotBuilt):
    """Exported programs of PyTorch."""

    name = "PyTorch exportable"
    suffixes = (".pte", ".pt2")


@Backend.register("paddle", "pd")
class PaddleBackend(_NotBuilt):
    """Models of Paddle."""

    name = "Paddle"
    suffixes = (".pd",)
