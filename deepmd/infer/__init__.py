# SPDX-License-Identifier: LGPL-3.0-or-later
"""Evaluation of trained models."""

from typing import Any

from deepmd.infer.deep_eval import DeepEval
from deepmd.infer.deep_pot import DeepPot
from deepmd.infer.model_devi import calc_model_devi
from deepmd.utils.errors import NotAvailableError

#: Opens a model of any kind.
DeepPotential = DeepEval

__all__ = ["DeepEval", "DeepPot", "DeepPotential", "calc_model_devi"]

_LATER = ("DeepDOS", "DeepDipole", "DeepGlobalPolar", "DeepPolar", "DeepProperty", "DeepWFC")


def __getattr__(name: str) -> Any:
    if name in _LATER:
        raise NotAvailableError("is not built yet", where=f"deepmd.infer.{name}")
    raise AttributeError(f"module 'deepmd.infer' has no attribute '{name}'")
