# SPDX-License-Identifier: LGPL-3.0-or-later
"""A few steps of training on one small batch, for tests."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from deepmd.backend.backend import Backend
from deepmd.dpmodel.batch import Batch, join
from deepmd.dpmodel.loss import Loss, build_loss
from deepmd.dpmodel.model import Model
from deepmd.dpmodel.neighbors import batch_edges
from deepmd.io.tree import difference
from deepmd.runtime.checkpoint import Checkpoint
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


def labeled_batch(
    model: Model,
    loss: Loss | None = None,
    *,
    natoms: Sequence[int] = (6, 6),
    extra: Callable[[int], dict[str, Any]] | None = None,
    seed: int = 0,
) -> Batch:
    """Return frames of small systems with random labels of a loss, and with edges.

    Parameters
    ----------
    model : Model
    loss : Loss, optional
        By default :func:`a_loss`.
    natoms : sequence of int
        Atoms of every frame.
    extra : function, optional
        Parameters of a number of atoms, by name; by default random spins for a model that has some.
    seed : int
    """
    rng, wanted = np.random.default_rng(seed), (loss or a_loss(model)).label_requirements()
    frames = []
    for n in natoms:
        coord, cell, atype = small_system(model.get_ntypes(), model.get_rcut(), n=max(n, 1))
        coord = coord[:n] + 0.1 * rng.normal(size=(n, 3))
        sizes = {
            label.name: (n if label.atomic else 1, 9 * n if label.pairwise else label.size)
            for label in wanted
        }
        labels = {name: rng.normal(size=size) for name, size in sizes.items()}
        given = extra(n) if extra else {}
        if model.has_spin():
            given.setdefault("spin", rng.normal(size=(n, 3)))
        find = dict.fromkeys(labels, 1.0)
        frames.append(
            Batch.from_arrays(coord[None], cell[None], atype[:n], labels=labels, find=find, **given)
        )
    batch = join(frames)
    batch.edges = batch_edges(batch, model.get_rcut())
    return batch


def new_step(backend: Backend, model: Model, loss: Loss | None = None) -> TrainStep:
    """Return the training step of a backend for one model, by default with :func:`a_loss`."""
    return backend.train_step(
        {"Default": model}, {"Default": loss or a_loss(model)}, {"type": "Adam"}, StepOptions()
    )


def assert_exact_restart(
    backend: Backend,
    model: Model,
    section: dict[str, Any],
    folder: Path,
    *,
    loss: Loss | None = None,
    batch: Batch | None = None,
) -> None:
    """Assert that two steps, a checkpoint and two more are four steps, bit for bit.

    Parameters
    ----------
    backend : Backend
    model : Model
    section : dict
        Its model section.
    folder : path
        Takes the checkpoint.
    loss : Loss, optional
        By default :func:`a_loss`.
    batch : Batch, optional
        By default :func:`labeled_batch`.
    """
    path = folder / f"half{backend.checkpoint_suffix}"
    batch = batch or labeled_batch(model, loss)
    whole, half = new_step(backend, model, loss), new_step(backend, model, loss)
    take_steps(whole, batch, 0, 4)
    take_steps(half, batch, 0, 2)
    models, optimizer = {"Default": half.model("Default")}, half.state()
    backend.write_checkpoint(
        path, Checkpoint(models, section, step=2, optimizer=optimizer, backend=backend.name)
    )
    found = backend.read_checkpoint(path)
    again = new_step(backend, found.models["Default"], loss)
    again.load_state(found.optimizer)
    take_steps(again, batch, 2, 4)
    trained = [step.model("Default").serialize() for step in (whole, again)]
    assert difference(trained[0], trained[1]) is None
    assert difference(trained[0], model.serialize()) is not None


def take_steps(step: TrainStep, batch: Batch, start: int, stop: int) -> None:
    """Train from one step to another with a learning rate that falls."""
    for k in range(start, stop):
        step.step("Default", batch, _RATE / (1 + k))
