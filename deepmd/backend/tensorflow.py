# SPDX-License-Identifier: LGPL-3.0-or-later
"""The TensorFlow backend, and backends that are known but not built here."""

from deepmd.backend.backend import EVERYTHING, Backend, Feature


@Backend.register("tensorflow", "tf")
class TensorFlowBackend(Backend):
    """Training, frozen graphs and checkpoints of TensorFlow."""

    name = "TensorFlow"
    packages = ("tensorflow",)
    reading_packages = ("google.protobuf",)
    suffixes = (".pb",)
    plugins = (
        "deepmd.tf",
        "deepmd",
    )
    checkpoint_suffix = ".meta"
    checkpoint_parts = (".data-00000-of-00001", ".index")
    features = EVERYTHING
    hooks = {
        "deep_eval": "deepmd.tf.files:open_model",
        "evaluator": "deepmd.tf.evaluator:TfEvaluator",
        "train_step": "deepmd.tf.train_step:TfTrainStep",
        "read_checkpoint": "deepmd.graphs.checkpoints:read_checkpoint",
        "write_checkpoint": "deepmd.tf.checkpoint:write_checkpoint",
        "serialize_hook": "deepmd.graphs.models:read_model",
        "deserialize_hook": "deepmd.tf.files:write_pb",
    }
    reading_hooks = {"deep_eval": "deepmd.graphs.models:open_model"}


@Backend.register("tensorflow2", "tf2")
class TensorFlow2Backend(Backend):
    """SavedModels of TensorFlow; trainings are those of the TensorFlow backend."""

    name = "TensorFlow 2"
    packages = ("tensorflow",)
    suffixes = (".savedmodeltf",)
    folders = (".savedmodeltf",)
    checkpoint_suffix = ".tf2"
    features = Feature.DEEP_EVAL | Feature.IO
    hooks = {
        "deep_eval": "deepmd.tf.savedmodel:open_model",
        "serialize_hook": "deepmd.io.saved_model:load_saved",
        "deserialize_hook": "deepmd.tf.savedmodel:write_savedmodeltf",
    }


class _NotBuilt(Backend):
    """A backend that says so in one line."""

    def why_not(self) -> str | None:
        """Return the reason this backend cannot be used here."""
        return "known but not built yet"


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
