# SPDX-License-Identifier: LGPL-3.0-or-later
"""Input arguments under the names that plugins and dpgui import; see :mod:`deepmd.schema`."""

from deepmd.schema import gen_args as gen_args
from deepmd.schema import gen_args_multi_task as gen_args_multi_task
from deepmd.schema import normalize as normalize
from deepmd.schema import registry

descrpt_args_plugin = registry.descriptor_args
fitting_args_plugin = registry.fitting_args
hybrid_model_args_plugin = registry.hybrid_model_args
loss_args_plugin = registry.loss_args
lr_args_plugin = registry.lr_args
model_args_plugin = registry.model_args
modifier_args_plugin = registry.modifier_args
opt_args_plugin = registry.optimizer_args
