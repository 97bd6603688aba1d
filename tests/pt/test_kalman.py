# SPDX-License-Identifier: LGPL-3.0-or-later
"""Extended Kalman filter: the steps are those of DeePMD-kit 3.2.0.

``lkf.npz`` has the parameters of a small model after 2, 3 and 4 of 4 steps that it took on three frames of
twelve equal dimers, which make it indifferent which atoms are chosen, and the state after 2.
"""

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from deepmd.base.errors import InputError, NotAvailableError  # noqa: E402
from deepmd.dpmodel.batch import Batch  # noqa: E402
from deepmd.dpmodel.kalman import FORGETTING, KalmanFilter, blocks_of, groups_of_atoms  # noqa: E402
from deepmd.dpmodel.loss import DOSLoss, EnergyLoss  # noqa: E402
from deepmd.dpmodel.model import build_model  # noqa: E402
from deepmd.dpmodel.module import assign, split  # noqa: E402
from deepmd.dpmodel.neighbors import batch_edges  # noqa: E402
from deepmd.pt.checkpoint.checkpoint import read_checkpoint, write_checkpoint  # noqa: E402
from deepmd.pt.train_step import TorchTrainStep  # noqa: E402
from deepmd.runtime.checkpoint import Checkpoint  # noqa: E402
from deepmd.runtime.step import StepOptions  # noqa: E402
from deepmd.schema.check import normalize_model  # noqa: E402

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


def stored(prefix):
    return {k.removeprefix(prefix): GOLDEN[k] for k in GOLDEN if k.startswith(prefix)}


def batch():
    coord, cell = GOLDEN["coord"].reshape(3, 24, 3), GOLDEN["box"].reshape(3, 3, 3)
    out = Batch.from_arrays(coord, cell, [0] * 24)
    out.labels = {
        "energy": GOLDEN["energy"].reshape(3, 1),
        "force": GOLDEN["force"].reshape(-1, 3),
    }
    out.find = {"energy": 1.0, "force": 1.0}
    out.edges = batch_edges(out, 4.0)
    return out


def loss():
    terms = {"start_pref_e": 1.0, "limit_pref_e": 1.0, "start_pref_f": 1.0, "limit_pref_f": 1.0}
    return EnergyLoss(starter_learning_rate=1e-3, **terms)


def new_step(model, **options):
    options = StepOptions(numb_steps=4, **options)
    return TorchTrainStep({"Default": model}, {"Default": loss()}, LKF, options)


def started():
    """The step, with the state after two of four."""
    model = build_model(normalize_model(SECTION))
    assign(model, {**stored("2/"), **stored("buffers/")})
    step = new_step(model)
    state = {"count": np.array(2), "forgetting": GOLDEN["forgetting"], **stored_covariance()}
    step.load_state({f"Default/{k}": v for k, v in state.items()})
    return step


def stored_covariance():
    return {k: GOLDEN[k] for k in GOLDEN if k.startswith("covariance.")}


def compare(step, number):
    found = split(step.model("Default"))[0]
    for name, want in stored(f"{number}/").items():
        np.testing.assert_allclose(found[name], want, rtol=0, atol=1e-13, err_msg=name)


def test_two_steps():
    step = started()
    for number in (3, 4):
        metrics = step.step("Default", batch(), 1e-3)
        assert float(metrics["rmse_e"]) > 0.01
        compare(step, number)


def test_restart_from_a_checkpoint(tmp_path):
    step, path = started(), tmp_path / "model.ckpt.pt"
    step.step("Default", batch(), 1e-3)
    write_checkpoint(path, Checkpoint({"Default": step.model("Default")}, {}, 3, step.state()))
    found = read_checkpoint(path)
    again = new_step(found.models["Default"])
    again.load_state(found.optimizer)
    again.step("Default", batch(), 1e-3)
    step.step("Default", batch(), 1e-3)
    for name, value in split(step.model("Default"))[0].items():
        np.testing.assert_array_equal(split(again.model("Default"))[0][name], value)
    compare(again, 4)


def test_blocks_as_deepmd_kit_has_them():
    network, fitting = [3, 3, 18, 6], [48, 4, 16, 4, 4, 4, 1]
    sizes = [b.stop - b.start for b in blocks_of([*network, *network, *fitting, *fitting], 40)]
    assert sizes == [36, 24, 40, 8, 33, 40, 8, 33]
    assert sum(sizes) == sum([*network, *network, *fitting, *fitting])


def test_exact_measurements_of_a_linear_model_are_met():
    """With as many independent measurements as parameters these are found."""
    rng = np.random.default_rng(0)
    wanted, found = rng.normal(size=3), np.zeros(3)
    kalman = KalmanFilter([slice(0, 3)])
    for _ in range(400):
        h = rng.normal(size=3)
        found = found + kalman.update(h, h @ (wanted - found))
    np.testing.assert_allclose(found, wanted, atol=1e-4)
    assert FORGETTING < kalman.forgetting < 1.0


def test_groups_differ_between_steps_and_repeat():
    first, again, later = ([*groups_of_atoms(30, step)] for step in (0, 0, 1))
    assert [len(g) for g in first] == [6, 6, 6, 6]
    assert len(set(np.concatenate(first))) == 24
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, later)
    assert [len(g) for g in groups_of_atoms(8, 0)] == [6, 2]


@pytest.mark.parametrize("option", [{"accumulate": 2}, {"gradient_max_norm": 1.0}])
def test_options_of_gradients_are_refused(option):
    with pytest.raises(NotAvailableError, match="LKF"):
        new_step(build_model(normalize_model(SECTION)), **option)


def test_other_losses_are_refused():
    model = build_model(normalize_model(SECTION))
    with pytest.raises(InputError, match="energies and forces"):
        TorchTrainStep(
            {"Default": model}, {"Default": DOSLoss(starter_learning_rate=1.0, numb_dos=2)}, LKF, StepOptions()
        )  # fmt: skip
