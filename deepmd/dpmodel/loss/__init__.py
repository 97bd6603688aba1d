# SPDX-License-Identifier: LGPL-3.0-or-later
"""Losses. Importing this package registers all of them."""

from typing import Any

from deepmd.dpmodel.loss.base import Labels, Loss, labels_of
from deepmd.dpmodel.loss.ener import EnergyLoss

__all__ = ["EnergyLoss", "Labels", "Loss", "build_loss", "labels_of"]


def build_loss(section: dict[str, Any], start_lr: float) -> Loss:
    """Build the loss of a checked ``loss`` section.

    Parameters
    ----------
    section : dict
        The normalised section.
    start_lr : float
        Learning rate at which the prefactors have their start values.
    """
    given = dict(section)
    kind = Loss.registry.get(given.pop("type", "ener"), where="loss/type")
    return kind(starter_learning_rate=start_lr, **given)
