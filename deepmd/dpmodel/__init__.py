# SPDX-License-Identifier: LGPL-3.0-or-later
"""The mathematics, once for all backends; names that plugins import from here are loaded on demand."""

from importlib import import_module
from typing import Any

_NAMES = {
    "FittingOutputDef": "output_def",
    "ModelOutputDef": "output_def",
    "OutputVariableDef": "output_def",
    "fitting_check_output": "output_def",
}


def __getattr__(name: str) -> Any:
    if name in _NAMES:
        return getattr(import_module(f"{__name__}.{_NAMES[name]}"), name)
    raise AttributeError(f"module {__name__} has no attribute {name}")
