# SPDX-License-Identifier: LGPL-3.0-or-later
"""Fittings as ``torch.nn.Module``."""

from deepmd.dpmodel import fitting as _neutral
from deepmd.pt.lift import lift
from deepmd.pt.native.fitting import BaseFitting

DipoleFittingNet = lift(_neutral.DipoleFitting)
DOSFittingNet = lift(_neutral.DOSFitting)
EnergyFittingNet = lift(_neutral.EnergyFitting)
PolarFittingNet = lift(_neutral.PolarFitting)
PropertyFittingNet = lift(_neutral.PropertyFitting)

__all__ = [
    "BaseFitting",
    "DOSFittingNet",
    "DipoleFittingNet",
    "EnergyFittingNet",
    "PolarFittingNet",
    "PropertyFittingNet",
]
