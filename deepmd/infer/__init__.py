# SPDX-License-Identifier: LGPL-3.0-or-later
"""Evaluation of trained models."""

from deepmd.infer.deep_dos import DeepDOS
from deepmd.infer.deep_eval import DeepEval
from deepmd.infer.deep_population import DeepPopulation
from deepmd.infer.deep_pot import DeepPot
from deepmd.infer.deep_property import DeepProperty
from deepmd.infer.deep_tensor import DeepDipole, DeepGlobalPolar, DeepPolar, DeepWFC
from deepmd.infer.model_devi import calc_model_devi

#: Opens a model of any kind.
DeepPotential = DeepEval

__all__ = [
    "DeepDOS",
    "DeepDipole",
    "DeepEval",
    "DeepGlobalPolar",
    "DeepPolar",
    "DeepPopulation",
    "DeepPot",
    "DeepPotential",
    "DeepProperty",
    "DeepWFC",
    "calc_model_devi",
]
