# SPDX-License-Identifier: LGPL-3.0-or-later
"""Losses. Importing this package registers all of them."""

from typing import Any

from deepmd.base.errors import InputError
from deepmd.dpmodel.loss.base import Labels, Loss, labels_of
from deepmd.dpmodel.loss.dos import DOSLoss
from deepmd.dpmodel.loss.ener import EnergyLoss
from deepmd.dpmodel.loss.ener_spin import EnergySpinLoss
from deepmd.dpmodel.loss.population import PopulationLoss
from deepmd.dpmodel.loss.property import PropertyLoss
from deepmd.dpmodel.loss.tensor import TensorLoss

__all__ = [
    "DOSLoss",
    "EnergyLoss",
    "EnergySpinLoss",
    "Labels",
    "Loss",
    "PopulationLoss",
    "PropertyLoss",
    "TensorLoss",
    "build_loss",
    "labels_of",
]


def build_loss(section: dict[str, Any], start_lr: float, model: Any = None) -> Loss:
    """Build the loss of a checked ``loss`` section.

    Parameters
    ----------
    section : dict
        The normalized section.
    start_lr : float
        Learning rate at which the prefactors have their start values.
    model : Model, optional
        What is trained; only the energy loss does without. Its output statistics may be set
        later, see :meth:`Loss.take_statistics`.
    """
    given = dict(section)
    name = given.pop("type", "ener")
    kind = Loss.registry.get(name, where="loss/type")
    predicted = ["energy"] if model is None else model.kinds()
    if kind.fits and not set(kind.fits).intersection(predicted):
        raise InputError(
            f'the loss "{name}" does not fit the model, which predicts {", ".join(predicted)}',
            where="loss/type",
            fix="leave the section out: it follows from the fitting net",
        )
    return kind.for_model(given, start_lr, model)
