# SPDX-License-Identifier: LGPL-3.0-or-later
"""The whole tree of input arguments."""

from importlib import import_module

from dargs import Argument

from deepmd.base.plugin import load_entry_points
from deepmd.schema.learning_rate import learning_rate_argument
from deepmd.schema.model import model_argument, multi_task_model_argument
from deepmd.schema.registry import ArgsRegistry, loss_args, optimizer_args
from deepmd.schema.training import training_argument
from deepmd.schema.validating import validating_argument

#: Packages whose import registers the components and their arguments.
COMPONENTS = (
    "deepmd.dpmodel.descriptor",
    "deepmd.dpmodel.fitting",
    "deepmd.dpmodel.loss",
    "deepmd.dpmodel.kalman",
    "deepmd.dpmodel.model",
    "deepmd.dpmodel.muon",
    "deepmd.dpmodel.optimizer",
    "deepmd.dpmodel.schedule",
)


def load_components() -> None:
    """Import what registers itself."""
    for package in COMPONENTS:
        import_module(package)
    load_entry_points("deepmd.dpmodel")


def gen_args(multi_task: bool = False) -> list[Argument]:
    """Return the sections of the input; built anew, since plugins may have registered more."""
    load_components()
    loss, doc = "loss", "What is minimized; follows from the fitting network if absent."
    if multi_task:
        loss, doc = "loss_dict", "The loss of every branch."
    return [
        multi_task_model_argument() if multi_task else model_argument(),
        learning_rate_argument(),
        _chosen("optimizer", optimizer_args, "Adam", "How parameters are updated."),
        _chosen(loss, loss_args, "ener", doc, repeat=multi_task),
        training_argument(multi_task=multi_task),
        validating_argument(),
        Argument("nvnmd", dict, optional=True, doc="Hardware training (TensorFlow)."),
    ]


def gen_args_multi_task() -> list[Argument]:
    """Return the sections of a multi-task input."""
    return gen_args(multi_task=True)


def _chosen(
    name: str, registry: ArgsRegistry, default: str, doc: str, *, repeat: bool = False
) -> Argument:
    """Return a section whose ``type`` decides what else it has."""
    variant = registry.variant(default=default)
    return Argument(name, dict, [], [variant], repeat=repeat, optional=True, default={}, doc=doc)
