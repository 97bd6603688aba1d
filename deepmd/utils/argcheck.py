# SPDX-License-Identifier: LGPL-3.0-or-later
"""Input arguments under the names that plugins and dpgui import; see :mod:`deepmd.schema`."""

from deepmd.schema import gen_args, gen_args_multi_task, normalize
from deepmd.schema.registry import descriptor_args as descrpt_args_plugin
from deepmd.schema.registry import fitting_args as fitting_args_plugin
from deepmd.schema.registry import hybrid_model_args as hybrid_model_args_plugin
from deepmd.schema.registry import loss_args as loss_args_plugin
from deepmd.schema.registry import lr_args as lr_args_plugin
from deepmd.schema.registry import model_args as model_args_plugin
from deepmd.schema.registry import modifier_args as modifier_args_plugin
from deepmd.schema.registry import optimizer_args as opt_args_plugin

__all__ = [
    "descrpt_args_plugin",
    "fitting_args_plugin",
    "gen_args",
    "gen_args_multi_task",
    "hybrid_model_args_plugin",
    "loss_args_plugin",
    "lr_args_plugin",
    "model_args_plugin",
    "modifier_args_plugin",
    "normalize",
    "opt_args_plugin",
]
