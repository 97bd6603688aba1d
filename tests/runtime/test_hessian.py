# SPDX-License-Identifier: LGPL-3.0-or-later
"""The Hessian term: predictions, loss and gradients by finite differences, and on every backend."""

import numpy as np
import pytest

from deepmd.base.errors import InputError
from deepmd.dpmodel.batch import Batch, join
from deepmd.dpmodel.loss import EnergyLoss, labels_of
from deepmd.dpmodel.model import build_model, prepare
from deepmd.dpmodel.model.hessian import predict_with_hessian
from deepmd.dpmodel.module import assign, split
from deepmd.dpmodel.neighbors import batch_edges
from deepmd.np.train_step import NumPyTrainStep
from deepmd.runtime.step import StepOptions

MODEL = {
    "type_map": ["A", "B"],
    "descriptor": {
        "type": "se_e2_a",
        "sel": [6, 6],
        "rcut": 4.0,
        "rcut_smth": 1.0,
        "neuron": [2, 4],
        "axis_neuron": 2,
        "seed": 1,
    },
    "fitting_net": {"type": "ener", "neuron": [4, 4], "seed": 1},
}
ADAM = {"type": "Adam", "adam_beta1": 0.9, "adam_beta2": 0.999, "weight_decay": 0.0}


def model():
    from deepmd.schema import normalize

    training = {"training_data": {"systems": ["a"]}, "numb_steps": 1}
    whole = {"model": MODEL, "learning_rate": {"start_lr": 1e-3}, "training": training}
    return build_model(normalize(whole)["model"])


def frames(n: int, seed: int, periodic: bool) -> Batch:
    """One frame with labels of every kind."""
    rng = np.random.default_rng(seed)
    cell = 6.0 * np.eye(3)[None] if periodic else None
    grid = np.array([[0, 0, 0], [1.6, 0, 0], [0, 1.7, 0], [0.2, 0.1, 1.8]])[:n]
    batch = Batch.from_arrays(grid[None] + 0.2 * rng.normal(size=(1, n, 3)), cell, [0, 1, 1, 0][:n])
    hessian = rng.normal(size=(3 * n, 3 * n))
    batch.labels = {
        "energy": rng.normal(size=(1, 1)),
        "force": rng.normal(size=(n, 3)),
        "hessian": (hessian + hessian.T).reshape(n, 9 * n),
    }
    batch.find = dict.fromkeys(batch.labels, 1.0)
    batch.edges = batch_edges(batch, 4.0)
    return batch


@pytest.fixture(scope="module")
def ragged() -> Batch:
    """Two frames of different size."""
    return join([frames(4, 1, periodic=True), frames(3, 2, periodic=False)])


def loss(**more: float) -> EnergyLoss:
    given = {f"{kind}_pref_{t}": 0.5 for kind in ("start", "limit") for t in ("e", "f", "h")}
    return EnergyLoss(1e-3, **{**given, **more})


def test_rows_of_frames_of_different_size(ragged: Batch) -> None:
    net = model()
    inputs = prepare(ragged, net.packings())
    got = predict_with_hessian(net, inputs, 2, columns=15)["hessian"].reshape(7, 3, 15)
    step = 1e-4
    for atom, first, n in ((2, 0, 4), (5, 4, 3)):
        moved = []
        for sign in (1, -1):
            shifted = Batch(**{**vars(ragged), "coord": ragged.coord.copy()})
            shifted.coord[atom, 1] += sign * step
            moved.append(net.predict(prepare(shifted, net.packings()), 2)["force"])
        row = (moved[1] - moved[0]) / (2 * step)
        np.testing.assert_allclose(got[atom, 1, : 3 * n], row[first : first + n].ravel(), atol=1e-7)
        assert not got[atom, 1, 3 * n :].any()
    plain = net.predict(inputs, 2)
    both = predict_with_hessian(net, inputs, 2, columns=12, derivatives=("force", "virial"))
    for name in ("energy", "force", "virial"):
        np.testing.assert_allclose(both[name], plain[name], rtol=1e-13)


@pytest.mark.parametrize("kind", ["mse", "mae"])
def test_loss_is_the_mean_over_the_matrix(kind: str) -> None:
    batch = frames(3, 4, periodic=False)
    pred = {"hessian": np.zeros((3, 27))}
    nothing = {f"{when}_pref_{t}": 0.0 for when in ("start", "limit") for t in ("e", "f")}
    term = EnergyLoss(1e-3, **nothing, start_pref_h=2.0, limit_pref_h=2.0, loss_func=kind)
    value, figures = term(1e-3, pred, labels_of(batch))
    label = batch.labels["hessian"]
    mean = np.abs(label).mean() if kind == "mae" else np.square(label).mean()
    np.testing.assert_allclose(value, 2.0 * mean)
    name, shown = ("mae_h", mean) if kind == "mae" else ("rmse_h", mean**0.5)
    np.testing.assert_allclose(figures[name], shown)


def test_gradient_is_that_of_finite_differences(ragged: Batch) -> None:
    net, options = model(), StepOptions()
    stepper = NumPyTrainStep({"t": net}, {"t": loss()}, ADAM, options)
    figures, grads = stepper.gradients("t", ragged, 1e-3)
    assert figures["loss"] == pytest.approx(float(stepper.evaluate("t", ragged, 1e-3)["loss"]))
    params = split(net)[0]
    for name in list(params)[::4]:
        at = np.unravel_index(np.argmax(np.abs(grads[name])), grads[name].shape)
        ends = []
        for sign in (1, -1):
            changed = {k: v.copy() for k, v in params.items()}
            changed[name][at] += sign * 1e-5
            assign(net, changed)
            part = NumPyTrainStep({"t": net}, {"t": loss()}, ADAM, options)
            ends.append(float(part.evaluate("t", ragged, 1e-3)["loss"]))
        assign(net, params)
        slope = (ends[0] - ends[1]) / 2e-5
        assert grads[name][at] == pytest.approx(slope, rel=1e-5, abs=1e-7), name


@pytest.mark.parametrize("backend", ["pytorch", "jax", "tensorflow"])
def test_every_backend_takes_the_same_step(
    backend: str, ragged: Batch, request: pytest.FixtureRequest
) -> None:
    from deepmd.backend.backend import Backend

    quick = {"jax": "quick_programs", "tensorflow": "eager_functions"}
    if backend in quick:
        request.getfixturevalue(quick[backend])
    pytest.importorskip({"pytorch": "torch"}.get(backend, backend))
    net = model()
    steppers = [
        kind({"t": net}, {"t": loss()}, ADAM, StepOptions())
        for kind in (NumPyTrainStep, Backend.get_backend(backend)().train_step)
    ]
    a, b = (s.step("t", ragged, 1e-3) for s in steppers)
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_allclose(float(b[name]), float(a[name]), rtol=1e-11, err_msg=name)
    assert a["rmse_h"] > 0
    params = [split(s.model("t"))[0] for s in steppers]
    for name, value in params[0].items():
        np.testing.assert_allclose(params[1][name], value, atol=1e-10, err_msg=name)


def test_frames_without_a_hessian_cost_nothing(ragged: Batch, monkeypatch) -> None:
    batch = Batch(**{**vars(ragged), "find": {**ragged.find, "hessian": 0.0}})
    monkeypatch.setattr("deepmd.dpmodel.loss.ener.predict_with_hessian", None)
    figures = NumPyTrainStep({"t": model()}, {"t": loss()}, ADAM, StepOptions()).step(
        "t", batch, 1e-3
    )
    assert np.isnan(figures["rmse_h"]) and np.isfinite(figures["loss"])


def test_dictionary_and_labels() -> None:
    data = loss().serialize()
    assert (data["@version"], data["start_pref_h"]) == (5, 0.5)
    assert EnergyLoss.deserialize(data).serialize() == data
    plain = loss(start_pref_h=0.0, limit_pref_h=0.0).serialize()
    assert plain["@version"] == 4 and "start_pref_h" not in plain
    assert EnergyLoss.deserialize(plain).serialize() == plain
    assert [la.name for la in loss().label_requirements()] == ["energy", "force", "hessian"]
    with pytest.raises(InputError, match="use_huber: excludes the Hessian error"):
        loss(use_huber=True)
