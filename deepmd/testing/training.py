# SPDX-License-Identifier: LGPL-3.0-or-later
"""A few steps of training on one small batch, for tests."""

from typing import Any

import numpy as np

from deepmd.backend.backend import Backend
from deepmd.dpmodel.batch import Batch
from deepmd.dpmodel.loss import Loss, build_loss
from deepmd.dpmodel.model import Model
from deepmd.dpmodel.neighbors import batch_edges
from deepmd.runtime.step import StepOptions, TrainStep
from deepmd.testing.systems import small_system

_RATE = 1e-3


#: Losses by the kind of what is predicted.
_TENSOR = {"type": "tensor", "pref": 1.0, "pref_atomic": 1.0}
_LOSSES: dict[str, dict[str, Any]] = {
    "energy": {
        "type": "ener",
        **dict.fromkeys(("start_pref_e", "limit_pref_e", "start_pref_f", "limit_pref_f"), 1.0),
    },
    "dipole": _TENSOR,
    "polar": _TENSOR,
    "dos": {"type": "dos", "start_pref_dos": 1.0, "limit_pref_dos": 1.0},
    "property": {"type": "property", "loss_func": "mse"},
    "population": {"type": "population"},
}


def a_loss(model: Model) -> Loss:
    """Return a loss of what a model predicts."""
    (kind,) = model.kinds()
    return build_loss(dict(_LOSSES[kind]), _RATE, model)


def labeled_batch(model: Model, seed: int = 0) -> Batch:
    """Return two frames of a small system with random labels of :func:`a_loss`, and with edges."""
    rng = np.random.default_rng(seed)
    coord, cell, atype = small_system(model.get_ntypes(), model.get_rcut())
    n = len(atype)
    labels = {
        label.name: rng.normal(size=(2 * n if label.atomic else 2, label.size))
        for label in a_loss(model).label_requirements()
    }
    coords = coord + 0.1 * rng.normal(size=(2, n, 3))
    batch = Batch.from_arrays(
        coords, np.stack([cell, cell]), atype, labels=labels, find=dict.fromkeys(labels, 1.0)
    )
    batch.edges = batch_edges(batch, model.get_rcut())
    return batch


def new_step(backend: Backend, model: Model) -> TrainStep:
    """Return the training step of a backend for one model, with :func:`a_loss`."""
    return backend.train_step(
        {"Default": model}, {"Default": a_loss(model)}, {"type": "Adam"}, StepOptions()
    )


def take_steps(step: TrainStep, batch: Batch, start: int, stop: int) -> None:
    """Train from one step to another with a learning rate that falls."""
    for k in range(start, stop):
        step.step("Default", batch, _RATE / (1 + k))
