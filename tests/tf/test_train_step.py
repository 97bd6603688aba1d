# SPDX-License-Identifier: LGPL-3.0-or-later
"""The training step on TensorFlow: its optimizers, clipping, shared parameters, tracings."""

import numpy as np
import pytest

from deepmd.dpmodel.batch import join
from deepmd.dpmodel.loss import EnergyLoss
from deepmd.dpmodel.model import build_model
from deepmd.dpmodel.module import split
from deepmd.np.train_step import NumPyTrainStep
from deepmd.runtime.step import StepOptions
from deepmd.testing.systems import randomize
from deepmd.tf.train_step import TfTrainStep
from tests.tf.test_files import SECTION, make_batch


def model(precision="float64", **fitting):
    section = {
        **SECTION,
        "descriptor": {**SECTION["descriptor"], "precision": precision},
        "fitting_net": {**SECTION["fitting_net"], "precision": precision, **fitting},
    }
    return randomize(build_model(section))


def labeled(n_frames, n_atoms, seed=0):
    batch, rng = make_batch(n_frames, n_atoms, seed), np.random.default_rng(seed)
    batch.labels = {
        "energy": rng.normal(size=(n_frames, 1)),
        "force": rng.normal(size=(n_frames * n_atoms, 3)),
        "virial": rng.normal(size=(n_frames, 9)),
    }
    batch.find = {"energy": 1.0, "force": 1.0, "virial": 0.0}
    return batch


def loss():
    return EnergyLoss(1e-3, start_pref_f=10.0, start_pref_v=0.2, limit_pref_v=0.5)


#: Nothing is clipped or compiled.
PLAIN = StepOptions()


def both(models, optimizer, options=PLAIN):
    losses = {name: loss() for name in models}
    return [kind(models, losses, optimizer, options) for kind in (NumPyTrainStep, TfTrainStep)]


def assert_same(a, b, rtol):
    assert a.keys() == b.keys()
    for name, value in a.items():
        scale = max(float(np.abs(value).max(initial=0.0)), 1e-3)
        np.testing.assert_allclose(b[name], value, rtol=0, atol=rtol * scale, err_msg=name)


@pytest.mark.parametrize("precision", ["float64", "float32"])
@pytest.mark.parametrize(
    ("optimizer", "norm"),
    [
        ({"type": "Adam"}, None),
        ({"type": "Adam", "weight_decay": 0.1, "adam_beta1": 0.8}, 0.5),
        ({"type": "AdamW", "weight_decay": 0.1, "adam_beta2": 0.9}, None),
    ],
)
def test_the_optimizers_are_those_of_numpy(optimizer, norm, precision, eager_functions):
    steppers = both({"t": model(precision)}, optimizer, StepOptions(gradient_max_norm=norm))
    rtol = 1e-10 if precision == "float64" else 1e-4
    for k in range(3):
        a, b = (s.step("t", labeled(1, 8, k), 1e-3) for s in steppers)
        assert float(b["loss"]) == pytest.approx(float(a["loss"]), rel=rtol)
        assert np.isnan(float(b["rmse_v"]))
    assert_same(*(split(s.model("t"))[0] for s in steppers), rtol)
    assert_same(*(s.state() for s in steppers), rtol)
    assert_same(*(s.gradients("t", labeled(1, 8), 1e-3)[1] for s in steppers), rtol)


def test_one_tracing_serves_all_sizes():
    step = TfTrainStep({"t": model(seed=11)}, {"t": loss()}, {"type": "Adam"}, StepOptions())
    for n_frames, n_atoms in ((1, 8), (2, 5), (1, 1), (3, 12)):
        metrics = step.step("t", labeled(n_frames, n_atoms), 1e-3)
        assert np.isfinite(float(metrics["loss"]))
    step.step("t", join([labeled(1, 3), labeled(2, 4)]), 1e-3)
    assert step.tracings == 1
    step.evaluate("t", labeled(1, 8), 1e-3)
    assert step.tracings == 2


def test_tasks_that_share_parameters(eager_functions):
    def pair():
        a, b = model(), model(seed=5)
        b.atomic_model.descriptor = a.atomic_model.descriptor
        return {"a": a, "b": b}

    steppers = both(pair(), {"type": "Adam"})
    for k, task in enumerate("abbab"):
        for s in steppers:
            s.step(task, labeled(1, 8, k), 1e-3)
    for task in "ab":
        assert_same(*(split(s.model(task))[0] for s in steppers), 1e-10)
    assert_same(*(s.state() for s in steppers), 1e-10)
    shared = [split(steppers[1].model(t).atomic_model.descriptor)[0] for t in "ab"]
    assert_same(*shared, 0.0)
    again = TfTrainStep(pair(), {t: loss() for t in "ab"}, {"type": "Adam"}, StepOptions())
    again.load_state(steppers[1].state())
    assert_same(again.state(), steppers[1].state(), 0.0)
