# SPDX-License-Identifier: LGPL-3.0-or-later
"""Populations of electrons: values of the loss and results are those of DeePMD-kit 3.2.0."""

import json

import numpy as np
import pytest
from train.helpers import write_system

from deepmd.dpmodel.loss import Labels, PopulationLoss
from deepmd.dpmodel.model import build_model
from deepmd.infer import DeepPotential
from deepmd.infer.deep_population import DeepPopulation
from deepmd.io import save_model
from deepmd.main import main
from tests.members import section

SMOOTH = {
    "spin_loss": 7.601710519989868,
    "spin_total_loss": 20.97334973702067,
    "pop_loss": 7.113462257722105,
    "pop_alpha_total_loss": 13.094795279537092,
    "pop_beta_total_loss": 6.878554457483579,
    "spin_total": -0.052448460320975165,
    "mae": 2.16100626897787,
    "rmse": 2.8852669626146366,
}


@pytest.fixture
def labels():
    """Predictions and labels of two frames of three atoms."""
    rng = np.random.default_rng(3)
    predicted, known = (2 * rng.normal(size=(2, 3, 2)).reshape(-1, 2) for _ in range(2))
    frame, natoms = np.repeat([0, 1], 3), np.full(2, 3.0)
    found = {"atom_population": 1.0}
    return {"atom_population": predicted}, Labels(
        {"atom_population": known}, found, natoms, frame, np.ones(2)
    )


@pytest.mark.parametrize(
    ("options", "total"),
    [
        ({"metric": ["mae", "rmse"]}, 55.661872251753316),
        ({"start_pref_spin": 3.0, "limit_pref_spin": 1.0}, 63.26358277174318),
        ({"loss_func": "mae"}, 61.191909294427486),
        ({"beta": 0.5}, 58.34369162422825),
    ],
)
def test_values(labels, options, total):
    loss = PopulationLoss(1e-3, **options)
    value, metrics = loss(5e-4, *labels)
    assert value == pytest.approx(total, rel=1e-13)
    assert list(metrics) and set(metrics) == set(loss.metric_names())
    if "rmse" in metrics:
        assert metrics == pytest.approx(SMOOTH, rel=1e-13)


def test_the_curve_names_the_columns_of_deepmd_kit():
    assert PopulationLoss(1e-3, metric=["mae", "rmse"]).metric_names() == [
        "mae",
        "pop_alpha_total_loss",
        "pop_beta_total_loss",
        "pop_loss",
        "rmse",
        "spin_loss",
        "spin_total",
        "spin_total_loss",
    ]


def test_results_and_means(tmp_path):
    """Populations belong to atoms; the means per type are stored, and not added."""
    model = build_model(section("population", tmp_path))
    x, cell = (
        np.random.default_rng(1).uniform(0, 5, (2, 12)),
        np.tile(np.eye(3).ravel() * 7, (2, 1)),
    )
    save_model(tmp_path / "m.dp", {"model": model.serialize()})
    found = DeepPotential(tmp_path / "m.dp")
    assert isinstance(found, DeepPopulation)
    (population,) = found.eval(x, cell, [0, 0, 1, 1])
    assert population.shape == (2, 4, 2)
    model.atomic_model.out_bias[:] = 3.0
    save_model(tmp_path / "n.dp", {"model": model.serialize()})
    (again,) = DeepPopulation(tmp_path / "n.dp").eval(x, cell, [0, 0, 1, 1], atomic=True)
    assert np.array_equal(population, again)


def test_training_takes_the_means_of_the_types(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_system(tmp_path / "a", seed=1, frames=2)
    types = np.loadtxt(tmp_path / "a/type.raw", dtype=int)
    known = np.random.default_rng(2).normal(size=(2, len(types), 2))
    np.save(tmp_path / "a/set.000/atomic_population.npy", known.reshape(2, -1))
    names = (tmp_path / "a/type_map.raw").read_text().split()
    descriptor = {"type": "se_e2_a", "sel": [20] * len(names), "rcut": 3.0, "neuron": [2]}
    descriptor |= {"axis_neuron": 1, "type_one_side": True}
    fitting = {"type": "population", "neuron": [2]}
    config = {
        "model": {"type_map": names, "descriptor": descriptor, "fitting_net": fitting},
        "learning_rate": {"type": "exp", "start_lr": 1e-3, "stop_lr": 1e-4},
        "training": {
            "training_data": {"systems": ["a"], "batch_size": 2},
            "numb_steps": 1,
            "disp_freq": 1,
            "seed": 1,
        },
    }
    (tmp_path / "input.json").write_text(json.dumps(config))
    main(["--dp", "train", "input.json", "--skip-neighbor-stat"])
    assert json.loads((tmp_path / "out.json").read_text())["loss"]["type"] == "population"
    model = DeepPotential(tmp_path / "model.ckpt-1.dp").model
    for t in np.unique(types):
        mean, std = known[:, types == t].mean(axis=(0, 1)), known[:, types == t].std(axis=(0, 1))
        assert model.atomic_model.out_bias[0, t] == pytest.approx(mean, rel=1e-12)
        assert model.atomic_model.out_std[0, t] == pytest.approx(std, rel=1e-12)
