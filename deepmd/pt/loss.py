# SPDX-License-Identifier: LGPL-3.0-or-later
"""Losses under the names that clients import; see :mod:`deepmd.dpmodel.loss`."""

from deepmd.dpmodel.loss.base import Loss as TaskLoss
from deepmd.dpmodel.loss.dos import DOSLoss
from deepmd.dpmodel.loss.ener import EnergyLoss as EnergyStdLoss
from deepmd.dpmodel.loss.ener_spin import EnergySpinLoss
from deepmd.dpmodel.loss.population import PopulationLoss
from deepmd.dpmodel.loss.property import PropertyLoss
from deepmd.dpmodel.loss.tensor import TensorLoss

__all__ = [
    "DOSLoss",
    "EnergySpinLoss",
    "EnergyStdLoss",
    "PopulationLoss",
    "PropertyLoss",
    "TaskLoss",
    "TensorLoss",
]
