# SPDX-License-Identifier: LGPL-3.0-or-later
"""Steps of the extended Kalman filter on every backend: those of DeePMD-kit 3.2.0.

``lkf.npz`` has the parameters of a small model after 2, 3 and 4 of 4 steps that it took on three frames of
twelve equal dimers, which make it indifferent which atoms are chosen, and the state after 2.
"""

import importlib
from pathlib import Path

import numpy as np
import pytest

from deepmd.base.errors import InputError, NotAvailableError
from deepmd.dpmodel.batch import Batch
from deepmd.dpmodel.loss import DOSLoss, EnergyLoss
from deepmd.dpmodel.model import build_model
from deepmd.dpmodel.module import assign, split
from deepmd.dpmodel.neighbors import batch_edges
from deepmd.runtime.checkpoint import Checkpoint
from deepmd.runtime.step import StepOptions
from deepmd.schema.check import normalize_model

GOLDEN = np.load(Path(__file__).parents[1] / "golden/files/lkf.npz")
SECTION = {
    "type_map": ["H"],
    "descriptor": {
        "type": "se_e2_a", "sel": [6], "rcut": 4.0, "rcut_smth": 0.5, "neuron": [3, 6],
        "axis_neuron": 2, "type_one_side": True,
    },
    "fitting_net": {"neuron": [4, 4]},
}  # fmt: skip
LKF = {
    "type": "LKF", "kf_blocksize": 40, "kf_start_pref_e": 0.5, "kf_limit_pref_e": 2.0,
    "kf_start_pref_f": 1.0, "kf_limit_pref_f": 3.0,
}  # fmt: skip
STEPS = {
    "numpy": ("deepmd.np.train_step", "NumPyTrainStep"),
    "torch": ("deepmd.pt.train_step", "TorchTrainStep"),
    "jax": ("deepmd.jax.train_step", "JaxTrainStep"),
    "tensorflow": ("deepmd.tf.train_step", "TfTrainStep"),
}


def batch():
    coord, cell = GOLDEN["coord"].reshape(3, 24, 3), GOLDEN["box"].reshape(3, 3, 3)
    out = Batch.from_arrays(coord, cell, [0] * 24)
    out.labels = {
        "energy": GOLDEN["energy"].reshape(3, 1),
        "force": GOLDEN["force"].reshape(-1, 3),
        "virial": np.zeros((3, 9)),
    }
    out.find = {"energy": 1.0, "force": 1.0, "virial": 0.0}
    out.edges = batch_edges(out, 4.0)
    return out


def stored(prefix):
    return {k.removeprefix(prefix): GOLDEN[k] for k in GOLDEN if k.startswith(prefix)}


def energy_loss(force):
    terms = {"start_pref_e": 1.0, "limit_pref_e": 1.0, "start_pref_f": force, "limit_pref_f": force}
    return EnergyLoss(starter_learning_rate=1e-3, **terms)


def new_step(backend, model, optimizer=LKF, loss=None, **options):
    """Return the step of a backend for a model."""
    module, name = STEPS[backend]
    pytest.importorskip(backend)
    losses = {"Default": loss or energy_loss(force=1.0)}
    kind = getattr(importlib.import_module(module), name)
    return kind({"Default": model}, losses, optimizer, StepOptions(numb_steps=4, **options))


def started():
    """The model and the state after two of four steps."""
    model = build_model(normalize_model(SECTION))
    assign(model, {**stored("2/"), **stored("buffers/")})
    state = {"count": np.array(2), "forgetting": GOLDEN["forgetting"]}
    state |= {f"covariance.{k}": v for k, v in stored("covariance.").items()}
    return model, {f"Default/{k}": v for k, v in state.items()}


def take_step(backend, model, state, number):
    """Return the step of a backend after one step, which must be that of DeePMD-kit."""
    step = new_step(backend, model)
    step.load_state(state)
    metrics = step.step("Default", batch(), 1e-3)
    assert float(metrics["rmse_e"]) > 0.01
    found, wanted = split(step.model("Default"))[0], stored(f"{number}/")
    assert wanted
    for name, want in wanted.items():
        np.testing.assert_allclose(found[name], want, rtol=0, atol=1e-12, err_msg=name)
    return step


#: JAX and TensorFlow compile second derivatives for a minute.
COMPILED = [pytest.param(name, marks=pytest.mark.slow) for name in ("jax", "tensorflow")]


@pytest.mark.parametrize("backend", ["numpy", "torch", *COMPILED])
def test_two_steps_with_a_restart_between(backend):
    step = take_step(backend, *started(), 3)
    take_step(backend, step.model("Default"), step.state(), 4)


def test_restart_from_a_checkpoint_of_torch(tmp_path):
    step, path = take_step("torch", *started(), 3), tmp_path / "model.ckpt.pt"
    checkpoints = importlib.import_module("deepmd.pt.checkpoint.checkpoint")
    state = Checkpoint({"Default": step.model("Default")}, {}, 3, step.state())
    checkpoints.write_checkpoint(path, state)
    found = checkpoints.read_checkpoint(path)
    again = take_step("torch", found.models["Default"], found.optimizer, 4)
    step.step("Default", batch(), 1e-3)
    for name, value in split(step.model("Default"))[0].items():
        np.testing.assert_array_equal(split(again.model("Default"))[0][name], value)


@pytest.mark.parametrize("backend", STEPS)
def test_options_of_gradients_are_refused(backend):
    with pytest.raises(NotAvailableError, match="LKF"):
        new_step(backend, build_model(normalize_model(SECTION)), gradient_max_norm=1.0)


@pytest.mark.parametrize("backend", STEPS)
def test_other_losses_are_refused(backend):
    dos = DOSLoss(starter_learning_rate=1.0, numb_dos=2)
    with pytest.raises(InputError, match="energies and forces"):
        new_step(backend, build_model(normalize_model(SECTION)), loss=dos)
