# SPDX-License-Identifier: LGPL-3.0-or-later
"""Fittings of invariant quantities, under the name that plugins import."""

from deepmd.pt.model.task import EnergyFittingNet
from deepmd.pt.native.networks import InvarFitting

__all__ = ["EnergyFittingNet", "InvarFitting"]
