# SPDX-License-Identifier: LGPL-3.0-or-later
"""The whole tree of input arguments."""

from importlib import import_module

from dargs import Argument

from deepmd.schema.learning_rate import learning_rate_argument
from deepmd.schema.model import model_argument, multi_task_model_argument
from deepmd.schema.optimizer import optimizer_argument
from deepmd.schema.registry import loss_args
from deepmd.schema.training import training_argument
from deepmd.schema.validating import validating_argument
from deepmd.utils.plugin import load_entry_points

#: Packages whose import registers the components and their arguments.
COMPONENTS = (
    "deepmd.dpmodel.descriptor",
    "deepmd.dpmodel.fitting",
    "deepmd.dpmodel.loss",
    "deepmd.dpmodel.model",
    "deepmd.dpmodel.training.schedule",
)


def load_components() -> None:
    """Import what registers itself."""
    for package in COMPONENTS:
        import_module(package)
    load_entry_points("deepmd.dpmodel")


def gen_args(multi_task: bool = False) -> list[Argument]:
    """Return the sections of the input; built anew, since plugins may have registered more."""
    load_components()
    if multi_task:
        sections = [multi_task_model_argument(), _losses(), training_argument(multi_task=True)]
    else:
        sections = [model_argument(), _loss(), training_argument()]
    model, loss, training = sections
    return [
        model,
        learning_rate_argument(),
        optimizer_argument(),
        loss,
        training,
        validating_argument(),
        Argument("nvnmd", dict, optional=True, doc="Hardware training (TensorFlow)."),
    ]


def gen_args_multi_task() -> list[Argument]:
    """Return the sections of a multi-task input."""
    return gen_args(multi_task=True)


def _loss() -> Argument:
    return Argument(
        "loss",
        dict,
        [],
        [loss_args.variant(default="ener")],
        optional=True,
        default={},
        doc="What is minimised; follows from the fitting network if absent.",
    )


def _losses() -> Argument:
    return Argument(
        "loss_dict",
        dict,
        [],
        [loss_args.variant(default="ener")],
        repeat=True,
        optional=True,
        default={},
        doc="The loss of every branch.",
    )
