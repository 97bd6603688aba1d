# SPDX-License-Identifier: LGPL-3.0-or-later
"""The training input: its keys, defaults, checks and the upgrade of old inputs."""

from deepmd.schema.check import normalize
from deepmd.schema.legacy import upgrade
from deepmd.schema.load import load_input
from deepmd.schema.tree import gen_args, gen_args_multi_task

__all__ = ["gen_args", "gen_args_multi_task", "load_input", "normalize", "upgrade"]
