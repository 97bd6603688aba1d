# SPDX-License-Identifier: LGPL-3.0-or-later
"""Training steps on torch against those on NumPy."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from deepmd.dpmodel.loss import EnergyLoss, EnergySpinLoss  # noqa: E402
from deepmd.dpmodel.model import build_model  # noqa: E402
from deepmd.dpmodel.module import split  # noqa: E402
from deepmd.np.train_step import NumPyTrainStep  # noqa: E402
from deepmd.pt.train_step import TorchTrainStep  # noqa: E402
from deepmd.runtime.step import StepOptions  # noqa: E402
from deepmd.testing.systems import randomize  # noqa: E402
from tests.members import DESCRIPTORS  # noqa: E402
from tests.members import section as member  # noqa: E402
from tests.pt.models import batch, model, section  # noqa: E402

ADAMW = {"type": "AdamW", "adam_beta1": 0.8, "adam_beta2": 0.95, "weight_decay": 0.02}


def _labeled(seed=5):
    b = batch(seed=seed)
    rng = np.random.default_rng(seed)
    b.labels = {
        "energy": rng.normal(size=(b.n_frames, 1)),
        "force": rng.normal(size=(b.n_atoms, 3)),
        "virial": rng.normal(size=(b.n_frames, 9)),
    }
    b.find = {"energy": 1.0, "force": 1.0, "virial": 0.0}
    return b


NO_FORCE = {"start_pref_f": 0.0, "limit_pref_f": 0.0}


def _loss(**more):
    given = {"start_pref_e": 1.0, "limit_pref_e": 2.0, "start_pref_f": 3.0, "limit_pref_f": 1.0}
    return EnergyLoss(1e-2, **{**given, "start_pref_v": 0.5, "limit_pref_v": 0.5, **more})


PLAIN = StepOptions()


def _pair(section, *, options=PLAIN, loss=None, **changes):
    built = model(**changes)
    given = ({"Default": built}, {"Default": loss or _loss()}, section, options)
    return NumPyTrainStep(*given), TorchTrainStep(*given)


def _same(a, b, tolerance):
    assert set(a) == set(b)
    for key, value in b.items():
        scale = max(float(np.abs(value).max(initial=0.0)), 1e-8)
        assert float(np.abs(a[key] - value).max(initial=0.0)) <= tolerance * scale, key


@pytest.mark.parametrize(
    "section", [{"type": "Adam"}, {"type": "Adam", "weight_decay": 0.01}, ADAMW]
)
@pytest.mark.parametrize("max_norm", [None, 0.5])
def test_fifty_steps(section, max_norm):
    # One-sided tiny networks: this is about the optimizer.
    reference, tested = _pair(
        section,
        options=StepOptions(gradient_max_norm=max_norm),
        loss=_loss(limit_pref_e=1.0, **NO_FORCE, start_pref_v=0.0, limit_pref_v=0.0),
        neuron=[2, 4],
        type_one_side=True,
    )
    batches = [_labeled(seed) for seed in range(3)]
    for k in range(50):
        lr = 1e-2 * 0.95**k
        a = reference.step("Default", batches[k % 3], lr)
        b = tested.step("Default", batches[k % 3], lr)
        assert float(b["loss"]) == pytest.approx(float(a["loss"]), rel=1e-10)
    _same(split(tested.model("Default"))[0], split(reference.model("Default"))[0], 1e-11)
    _same(tested.state(), reference.state(), 1e-9)


def test_figures_gradients_and_evaluation():
    reference, tested = _pair({"type": "Adam"})
    b = _labeled()
    expected, grads = reference.gradients("Default", b, 5e-3)
    figures, found = tested.gradients("Default", b, 5e-3)
    assert list(figures) == list(expected)
    for key, value in expected.items():
        np.testing.assert_allclose(float(figures[key]), value, rtol=1e-12)
    _same({k: g.numpy() for k, g in found.items()}, grads, 1e-11)
    assert isinstance(figures["rmse_e"], torch.Tensor)
    assert np.isnan(figures["rmse_v"])
    before = split(tested.model("Default"))[0]
    shown = tested.evaluate("Default", b, 5e-3)
    assert float(shown["loss"]) == pytest.approx(float(figures["loss"]), rel=1e-12)
    _same(split(tested.model("Default"))[0], before, 0.0)


@pytest.mark.parametrize("name", DESCRIPTORS)
def test_a_step_of_every_descriptor(name, tmp_path):
    built = randomize(build_model(member(name, tmp_path)))
    given = ({"Default": built}, {"Default": _loss()}, {"type": "Adam"}, PLAIN)
    after = []
    for kind in (NumPyTrainStep, TorchTrainStep):
        trained = kind(*given)
        trained.step("Default", _labeled(), 1e-3)
        after.append(split(trained.model("Default"))[0])
    _same(after[1], after[0], 1e-6)


@pytest.mark.parametrize("precision", ["float64", "float32"])
def test_a_restart_continues_bit_for_bit(precision):
    batches = [_labeled(seed) for seed in range(3)]
    _, whole = _pair(ADAMW, precision=precision)
    for k in range(6):
        whole.step("Default", batches[k % 3], 1e-3)
    _, first = _pair(ADAMW, precision=precision)
    assert first.state() == {"Default/count": 0}
    for k in range(3):
        first.step("Default", batches[k], 1e-3)
    second = TorchTrainStep(
        {"Default": first.model("Default")}, {"Default": _loss()}, ADAMW, StepOptions()
    )
    second.load_state(first.state())
    for k in range(3):
        second.step("Default", batches[k], 1e-3)
    _same(split(second.model("Default"))[0], split(whole.model("Default"))[0], 0.0)
    _same(second.state(), whole.state(), 0.0)


def test_the_state_of_numpy_is_understood():
    reference, _tested = _pair(ADAMW)
    b = _labeled()
    for _ in range(3):
        reference.step("Default", b, 1e-3)
    other = TorchTrainStep(
        {"Default": reference.model("Default")}, {"Default": _loss()}, ADAMW, StepOptions()
    )
    other.load_state(reference.state())
    reference.step("Default", b, 1e-3)
    other.step("Default", b, 1e-3)
    _same(split(other.model("Default"))[0], split(reference.model("Default"))[0], 1e-12)


def test_tasks_share_what_they_share():
    a, b = model(), model()
    b.atomic_model.descriptor = a.atomic_model.descriptor
    step = TorchTrainStep({"a": a, "b": b}, {"a": _loss(), "b": _loss()}, ADAMW, StepOptions())
    assert step.lifted["a"].atomic_model.descriptor is step.lifted["b"].atomic_model.descriptor
    step.step("a", _labeled(), 1e-2)
    step.step("b", _labeled(), 1e-2)
    step.step("a", _labeled(), 1e-2)
    one = step.model("a").atomic_model.descriptor.serialize()
    np.testing.assert_equal(one, step.model("b").atomic_model.descriptor.serialize())
    state = step.state()
    name = "atomic_model.descriptor.embeddings.networks.0.layers.0.w"
    assert state[f"a/count.{name}"] == state[f"b/count.{name}"] == 3
    other = TorchTrainStep({"a": a, "b": b}, {"a": _loss(), "b": _loss()}, ADAMW, StepOptions())
    other.load_state(state)
    _same(other.state(), state, 0.0)


def test_numpy_shares_what_they_share():
    """Parameters, moments and counts after steps of both tasks are those of PyTorch."""
    steps = []
    for kind in (TorchTrainStep, NumPyTrainStep):
        a, b = model(), model()
        b.atomic_model.descriptor = a.atomic_model.descriptor
        steps.append(kind({"a": a, "b": b}, {"a": _loss(), "b": _loss()}, ADAMW, StepOptions()))
    for task in "aba":
        for step in steps:
            step.step(task, _labeled(), 1e-2)
    tested, reference = steps
    for task in "ab":
        trained = [split(step.model(task))[0] for step in steps]
        _same(*trained, 1e-10)
    _same(tested.state(), reference.state(), 1e-9)
    other = NumPyTrainStep({"a": a, "b": b}, {"a": _loss(), "b": _loss()}, ADAMW, StepOptions())
    other.load_state(tested.state())
    _same(other.state(), tested.state(), 0.0)


def test_nothing_trained():
    built = model()
    built.atomic_model.trainable = False
    step = TorchTrainStep({"Default": built}, {"Default": _loss()}, ADAMW, StepOptions())
    assert float(step.step("Default", _labeled(), 1e-3)["loss"]) > 0
    np.testing.assert_equal(step.model("Default").serialize(), built.serialize())


def test_the_traced_loss_has_the_gradients_of_the_eager_one(monkeypatch):
    # Without the compiler behind it: what could go wrong is the trace.
    monkeypatch.setattr(torch, "compile", lambda graph, **options: graph)
    eager, traced = _traced_pair()
    # Other frames, other numbers of edges and slots: one trace serves them.
    for seed in (5, 6, 7):
        _compare(eager, traced, _labeled(seed))
    assert len(traced._compiled["Default"]._programs) == 1


@pytest.mark.slow  # the compiler takes a minute
def test_the_compiled_loss_has_the_gradients_of_the_eager_one():
    eager, compiled = _traced_pair()
    _compare(eager, compiled, _labeled(5))
    _compare(eager, compiled, _labeled(6))


def _traced_pair():
    _, eager = _pair({"type": "Adam"}, type_one_side=True)
    _, traced = _pair({"type": "Adam"}, type_one_side=True, options=StepOptions(compile=True))
    return eager, traced


def _compare(eager, traced, b):
    expected, grads = eager.gradients("Default", b, 5e-3)
    figures, found = traced.gradients("Default", b, 5e-3)
    for key, value in expected.items():
        np.testing.assert_allclose(float(figures[key]), float(value), rtol=1e-12)
    _same({k: g.numpy() for k, g in found.items()}, {k: g.numpy() for k, g in grads.items()}, 1e-10)


def _with_spins(seed=5):
    """A small model with spins, and a batch with its labels."""
    described = {**section(type_one_side=True, neuron=[2, 4], sel=[40, 40])}
    described["spin"] = {"use_spin": ["O"], "virtual_scale": [0.3]}
    b, rng = _labeled(seed), np.random.default_rng(seed)
    b.spin = rng.normal(size=(b.n_atoms, 3))
    b.labels["force_mag"], b.find["force_mag"] = rng.normal(size=(b.n_atoms, 3)), 1.0
    b.find["virial"] = 1.0
    prefactors = {f"{k}_pref_{t}": 1.0 for k in ("start", "limit") for t in ("e", "fr", "fm", "v")}
    return build_model(described), b, EnergySpinLoss(1e-2, **prefactors)


@pytest.mark.parametrize(
    "compiled", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["eager", "compiled"]
)
def test_models_with_spins(compiled):
    built, b, loss = _with_spins()
    given = ({"Default": built}, {"Default": loss}, {"type": "Adam"})
    reference = NumPyTrainStep(*given, StepOptions())
    tested = TorchTrainStep(*given, StepOptions(compile=compiled))
    expected, grads = reference.gradients("Default", b, 5e-3)
    figures, found = tested.gradients("Default", b, 5e-3)
    assert set(figures) == set(expected) >= {"rmse_fm", "rmse_fr", "rmse_v"}
    for key, value in expected.items():
        np.testing.assert_allclose(float(figures[key]), value, rtol=1e-11, err_msg=key)
    _same({k: g.numpy() for k, g in found.items()}, grads, 1e-10)
    # The same program serves other numbers of atoms.
    b = _with_spins(seed=6)[1]
    expected = reference.evaluate("Default", b, 5e-3)
    assert float(tested.gradients("Default", b, 5e-3)[0]["loss"]) == pytest.approx(
        expected["loss"], rel=1e-11
    )
