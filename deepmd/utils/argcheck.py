# SPDX-License-Identifier: LGPL-3.0-or-later
"""Input arguments under the names that plugins and dpgui import; see :mod:`deepmd.schema`."""

from collections.abc import Iterable
from typing import Any

from dargs import Argument

from deepmd.schema import gen_args as gen_args
from deepmd.schema import gen_args_multi_task as gen_args_multi_task
from deepmd.schema import normalize as normalize
from deepmd.schema import registry
from deepmd.schema.describe import gen_doc as gen_doc
from deepmd.schema.describe import gen_json as gen_json
from deepmd.schema.describe import gen_json_schema as gen_json_schema
from deepmd.schema.learning_rate import learning_rate_argument
from deepmd.schema.model import TypeEmbeddingKeys, model_argument
from deepmd.schema.training import training_argument
from deepmd.schema.tree import load_components

descrpt_args_plugin = registry.descriptor_args
fitting_args_plugin = registry.fitting_args
hybrid_model_args_plugin = registry.hybrid_model_args
loss_args_plugin = registry.loss_args
lr_args_plugin = registry.lr_args
model_args_plugin = registry.model_args
modifier_args_plugin = registry.modifier_args
opt_args_plugin = registry.optimizer_args


def loss_args() -> list[Argument]:
    """Return the section ``loss``."""
    return [section for section in gen_args() if section.name == "loss"]


def training_args(multi_task: bool = False) -> list[Argument]:
    """Return the section ``training``."""
    return [training_argument(multi_task=multi_task)]


def model_args(**_: Any) -> list[Argument]:
    """Return the section ``model``."""
    load_components()
    return [model_argument()]


def learning_rate_args(**_: Any) -> Argument:
    """Return the section ``learning_rate``."""
    load_components()
    return learning_rate_argument()


def descrpt_se_a_args() -> list[Argument]:
    """Return the keys of the descriptor se_e2_a."""
    load_components()
    made = registry.descriptor_args.factory("se_e2_a")()
    return [made] if isinstance(made, Argument) else made


def type_embedding_args() -> list[Argument]:
    """Return the keys of ``model/type_embedding``."""
    return TypeEmbeddingKeys.arguments()


def list_to_doc(xx: Iterable[Any]) -> str:
    """Return names as a list in a sentence."""
    return ", ".join(f'"{x}"' for x in xx) + "."
