# SPDX-License-Identifier: LGPL-3.0-or-later
"""Steps of the extended Kalman filter on every backend: those of DeePMD-kit 3.2.0."""

import importlib
from pathlib import Path

import numpy as np
import pytest

from deepmd.dpmodel.batch import Batch
from deepmd.dpmodel.loss import EnergyLoss
from deepmd.dpmodel.model import build_model
from deepmd.dpmodel.module import assign, split
from deepmd.dpmodel.neighbors import batch_edges
from deepmd.runtime.step import StepOptions
from deepmd.schema.check import normalize_model

#: Parameters of a small model after 2, 3 and 4 of 4 steps, and the state of the filter after 2; see
#: tests/pt/test_kalman.py.
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


def new_step(backend, model, optimizer=LKF, *, force=1.0, **options):
    """Return the step of a backend for a model and the weight of its forces."""
    module, name = STEPS[backend]
    pytest.importorskip(backend)
    terms = {"start_pref_e": 1.0, "limit_pref_e": 1.0, "start_pref_f": force, "limit_pref_f": force}
    loss = EnergyLoss(starter_learning_rate=1e-3, **terms)
    kind = getattr(importlib.import_module(module), name)
    return kind(
        {"Default": model}, {"Default": loss}, optimizer, StepOptions(numb_steps=4, **options)
    )


#: JAX and TensorFlow compile second derivatives for a minute.
COMPILED = [pytest.param(name, marks=pytest.mark.slow) for name in ("jax", "tensorflow")]


@pytest.mark.parametrize("backend", ["numpy", "torch", *COMPILED])
def test_two_steps_with_a_restart_between(backend):
    model = build_model(normalize_model(SECTION))
    started = {k.partition("/")[2]: GOLDEN[k] for k in GOLDEN if k.startswith(("2/", "buffers/"))}
    assign(model, started)
    state = {k: GOLDEN[k] for k in GOLDEN if k.startswith("covariance.")}
    state |= {"count": np.array(2), "forgetting": GOLDEN["forgetting"]}
    state = {f"Default/{k}": v for k, v in state.items()}
    for number in (3, 4):
        step = new_step(backend, model)
        step.load_state(state)
        metrics = step.step("Default", batch(), 1e-3)
        assert float(metrics["rmse_e"]) > 0.01
        model, state = step.model("Default"), step.state()
        found = split(model)[0]
        wanted = {k.partition("/")[2]: GOLDEN[k] for k in GOLDEN if k.startswith(f"{number}/")}
        assert wanted
        for name, want in wanted.items():
            np.testing.assert_allclose(found[name], want, rtol=0, atol=1e-12, err_msg=name)
