# SPDX-License-Identifier: LGPL-3.0-or-later
"""Upgrade of old inputs under the names that clients import; see :mod:`deepmd.schema.legacy`."""

import copy
from typing import Any

from deepmd.schema.legacy import move_optimizer, update_deepmd_input

__all__ = ["convert_optimizer_v31_to_v32", "update_deepmd_input"]


def convert_optimizer_v31_to_v32(jdata: dict[str, Any], warning: bool = True) -> dict[str, Any]:
    """Return an input whose optimizer has a section of its own, as of version 3.2."""
    data = copy.deepcopy(jdata)
    move_optimizer(data)
    return data
