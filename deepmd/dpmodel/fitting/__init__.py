# SPDX-License-Identifier: LGPL-3.0-or-later
"""Fittings. Importing this package registers all of them."""

from deepmd.dpmodel.fitting.base import Fitting
from deepmd.dpmodel.fitting.ener import EnergyFitting

__all__ = ["EnergyFitting", "Fitting"]
