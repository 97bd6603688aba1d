# SPDX-License-Identifier: LGPL-3.0-or-later
"""Fittings. Importing this package registers all of them."""

from deepmd.dpmodel.fitting.base import Fitting
from deepmd.dpmodel.fitting.dipole import DipoleFitting
from deepmd.dpmodel.fitting.dos import DOSFitting
from deepmd.dpmodel.fitting.ener import EnergyFitting
from deepmd.dpmodel.fitting.invar import InvarFitting
from deepmd.dpmodel.fitting.polar import PolarFitting
from deepmd.dpmodel.fitting.population import PopulationFitting
from deepmd.dpmodel.fitting.property import PropertyFitting

__all__ = [
    "DOSFitting",
    "DipoleFitting",
    "EnergyFitting",
    "Fitting",
    "InvarFitting",
    "PolarFitting",
    "PopulationFitting",
    "PropertyFitting",
]
