# SPDX-License-Identifier: LGPL-3.0-or-later
"""The compiled training step against the one on NumPy."""

import numpy as np
import pytest

pytest.importorskip("jax")

from deepmd.dpmodel.loss import EnergySpinLoss
from deepmd.dpmodel.model import build_model
from deepmd.dpmodel.module import split
from deepmd.jax.train_step import JaxTrainStep
from deepmd.np.train_step import NumPyTrainStep
from deepmd.runtime.step import StepOptions
from tests.jax.conftest import SPIN, make_batch, make_loss, make_model

TASK = "Default"
ADAM = {"type": "Adam"}


def both(optimizer=ADAM, options=None, **changes):
    steps, options = [], options or StepOptions()
    for kind in (NumPyTrainStep, JaxTrainStep):
        model = make_model(**changes)
        steps.append(kind({TASK: model}, {TASK: make_loss()}, optimizer, options))
    return steps


def assert_same(a, b, rtol, *, atol=0.0):
    assert set(a) == set(b)
    for key, value in a.items():
        got = np.asarray(b[key])
        assert got.dtype == np.asarray(value).dtype, key
        scale = np.abs(value).max(initial=0.0)
        np.testing.assert_allclose(got, value, rtol=0, atol=rtol * scale + atol, err_msg=key)


@pytest.mark.parametrize(
    ("changes", "rtol"),
    [
        ({"one_side": False, "numb_fparam": 1, "numb_aparam": 2}, 1e-11),
        ({"precision": "float32"}, 1e-4),
    ],
    ids=["two sides", "float32"],
)
def test_gradients_and_figures(changes, rtol):
    reference, step = both(**changes)
    batch = make_batch(fparam=changes.get("numb_fparam", 0), aparam=changes.get("numb_aparam", 0))
    figures, grads = reference.gradients(TASK, batch, 5e-4)
    mine, my_grads = step.gradients(TASK, batch, 5e-4)
    assert_same(grads, my_grads, rtol)
    assert set(mine) == set(figures) == {"loss", "rmse", "rmse_e", "rmse_f", "rmse_v"}
    for key, value in figures.items():
        assert float(mine[key]) == pytest.approx(value, rel=rtol), key


@pytest.mark.parametrize(
    ("optimizer", "options"),
    [
        ({"type": "Adam", "weight_decay": 0.1}, StepOptions()),
        ({"type": "AdamW", "weight_decay": 0.1, "adam_beta1": 0.8}, StepOptions()),
        (ADAM, StepOptions(gradient_max_norm=0.5, widths={TASK: (7, 10)})),
    ],
    ids=["Adam", "AdamW", "clipping"],
)
def test_twenty_steps(optimizer, options):
    reference, step = both(optimizer, options, small=True)
    batch = make_batch()
    before = split(step.model(TASK))[0]
    for k in range(20):
        lr = 1e-3 * 0.97**k
        a, b = reference.step(TASK, batch, lr), step.step(TASK, batch, lr)
    assert float(b["loss"]) == pytest.approx(a["loss"], rel=1e-11)
    after = split(reference.model(TASK))[0]
    assert_same(after, split(step.model(TASK))[0], 1e-12)
    assert_same(reference.state(), step.state(), 1e-11)
    assert all(np.abs(after[k] - before[k]).max() > 1e-3 for k in before)
    assert step.compilations == 1
    if optimizer is ADAM:  # a program of its own
        a, b = reference.evaluate(TASK, batch, lr), step.evaluate(TASK, batch, lr)
        assert {k: float(v) for k, v in b.items()} == pytest.approx(a, rel=1e-10)


def test_restart_is_bitwise():
    batches = [make_batch(seed=k % 2) for k in range(6)]
    options = StepOptions(widths={TASK: (7, 10)})
    whole = JaxTrainStep({TASK: make_model(small=True)}, {TASK: make_loss()}, ADAM, options)
    for batch in batches[:3]:
        whole.step(TASK, batch, 1e-3)
    state, model = whole.state(), whole.model(TASK)
    for batch in batches[3:]:
        last = whole.step(TASK, batch, 1e-3)
    again = JaxTrainStep({TASK: model}, {TASK: make_loss()}, ADAM, options)
    again.load_state(state)
    for batch in batches[3:]:
        mine = again.step(TASK, batch, 1e-3)
    assert {k: float(v) for k, v in mine.items()} == {k: float(v) for k, v in last.items()}
    for a, b in (
        (split(whole.model(TASK))[0], split(again.model(TASK))[0]),
        (whole.state(), again.state()),
    ):
        assert set(a) == set(b)
        assert all((a[k] == b[k]).all() for k in a)


def test_the_given_model_is_not_changed_and_results_do_not_share_memory():
    model, batch = make_model(small=True), make_batch()
    before = {k: v.copy() for k, v in split(model)[0].items()}
    step = JaxTrainStep({TASK: model}, {TASK: make_loss()}, ADAM, StepOptions())
    first, state = step.model(TASK), step.state()
    step.step(TASK, batch, 1e-2)
    held = {k: v.copy() for k, v in split(first)[0].items()}
    step.step(TASK, batch, 1e-2)
    assert all((split(model)[0][k] == v).all() for k, v in before.items())
    assert all((split(first)[0][k] == v).all() for k, v in held.items())
    assert all((held[k] == v).all() for k, v in before.items())
    assert state[f"{TASK}/count"] == 0


def test_an_absent_label_counts_nothing():
    reference, step = both(small=True)
    batch = make_batch()
    batch.find["virial"] = 0.0
    a, b = reference.evaluate(TASK, batch, 1e-3), step.evaluate(TASK, batch, 1e-3)
    assert np.isnan(float(b["rmse_v"]))
    assert float(b["loss"]) == pytest.approx(a["loss"], rel=1e-12)


def test_tasks_have_their_own_state():
    models = {"a": make_model(small=True), "b": make_model(small=True)}
    step = JaxTrainStep(models, {k: make_loss() for k in models}, ADAM, StepOptions())
    step.step("b", make_batch(), 1e-3)
    state = step.state()
    assert (state["a/count"], state["b/count"]) == (0, 1)
    kept = split(models["a"])[0]
    assert all((v == kept[k]).all() for k, v in split(step.model("a"))[0].items())


def test_tasks_share_what_they_share():
    """Parameters, moments and counts after steps of both tasks are those of NumPy."""
    steps = []
    for kind in (NumPyTrainStep, JaxTrainStep):
        models = {"a": make_model(small=True), "b": make_model(small=True)}
        models["b"].atomic_model.descriptor = models["a"].atomic_model.descriptor
        steps.append(kind(models, {k: make_loss() for k in models}, ADAM, StepOptions()))
    batch = make_batch()
    for task in "aba":
        for step in steps:
            step.step(task, batch, 1e-3)
    reference, step = steps
    for task in "ab":
        assert_same(*(split(s.model(task))[0] for s in steps), 1e-10)
    one, two = (step.model(task).atomic_model.descriptor.serialize() for task in "ab")
    np.testing.assert_equal(one, two)
    state = step.state()
    assert_same(reference.state(), state, 1e-9)
    again = JaxTrainStep(models, {k: make_loss() for k in models}, ADAM, StepOptions())
    again.load_state(state)
    assert_same(state, again.state(), 0.0)


def test_one_program_for_one_architecture():
    models = {"a": make_model(small=True), "b": make_model(small=True), "c": make_model()}
    models["b"].atomic_model.out_bias = models["b"].atomic_model.out_bias + 1.0
    losses = {k: make_loss() for k in models}
    step = JaxTrainStep(models, losses, ADAM, StepOptions())
    programs = [step._tasks[k].program for k in models]
    assert programs[0] is programs[1]
    assert programs[0] is not programs[2]
    others = JaxTrainStep(models, {**losses, "b": make_loss(limit_pref_f=2.0)}, ADAM, StepOptions())
    assert others._tasks["a"].program is programs[0]
    assert others._tasks["b"].program is not programs[0]
    batch = make_batch()
    e_a, e_b = (float(step.evaluate(k, batch, 1e-3)["rmse_e"]) for k in "ab")
    assert abs(e_a - e_b) > 0.1


def test_models_with_spins():
    batch, rng = make_batch(2, 9), np.random.default_rng(1)
    batch.spin = rng.normal(size=(batch.n_atoms, 3))
    batch.labels["force_mag"] = rng.normal(size=(batch.n_atoms, 3))
    batch.find["force_mag"] = 1.0
    prefactors = {f"{k}_pref_{t}": 1.0 for k in ("start", "limit") for t in ("e", "fr", "fm", "v")}
    steps = []
    for kind in (NumPyTrainStep, JaxTrainStep):
        loss = EnergySpinLoss(1e-3, **prefactors)
        steps.append(kind({TASK: build_model(SPIN)}, {TASK: loss}, ADAM, StepOptions()))
    figures, grads = steps[0].gradients(TASK, batch, 5e-4)
    mine, my_grads = steps[1].gradients(TASK, batch, 5e-4)
    assert_same(grads, my_grads, 1e-11)
    assert set(mine) == set(figures) >= {"rmse_fm", "rmse_fr"}
    for key, value in figures.items():
        assert float(mine[key]) == pytest.approx(value, rel=1e-11), key
