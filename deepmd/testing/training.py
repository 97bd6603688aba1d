# SPDX-License-Identifier: LGPL-3.0-or-later
"""A few steps of training on one small batch, for tests."""

import numpy as np

from deepmd.backend.backend import Backend
from deepmd.dpmodel.batch import Batch
from deepmd.dpmodel.loss import build_loss
from deepmd.dpmodel.model import Model
from deepmd.dpmodel.neighbors import batch_edges
from deepmd.runtime.step import StepOptions, TrainStep
from deepmd.testing.systems import small_system

_RATE = 1e-3


def labeled_batch(model: Model, seed: int = 0) -> Batch:
    """Return two frames of a small system with random energies and forces, and with edges."""
    rng = np.random.default_rng(seed)
    coord, cell, atype = small_system(model.get_ntypes(), model.get_rcut())
    n = len(atype)
    labels = {"energy": rng.normal(size=(2, 1)), "force": rng.normal(size=(2 * n, 3))}
    coords = coord + 0.1 * rng.normal(size=(2, n, 3))
    batch = Batch.from_arrays(
        coords, np.stack([cell, cell]), atype, labels=labels, find=dict.fromkeys(labels, 1.0)
    )
    batch.edges = batch_edges(batch, model.get_rcut())
    return batch


def new_step(backend: Backend, model: Model) -> TrainStep:
    """Return the training step of a backend for one model, with the loss of energies and forces."""
    section = {"type": "ener", "start_pref_e": 1.0, "limit_pref_e": 1.0}
    loss = build_loss({**section, "start_pref_f": 1.0, "limit_pref_f": 1.0}, _RATE, model)
    return backend.train_step(
        {"Default": model}, {"Default": loss}, {"type": "Adam"}, StepOptions()
    )


def take_steps(step: TrainStep, batch: Batch, start: int, stop: int) -> None:
    """Train from one step to another with a learning rate that falls."""
    for k in range(start, stop):
        step.step("Default", batch, _RATE / (1 + k))
