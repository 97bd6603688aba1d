# SPDX-License-Identifier: LGPL-3.0-or-later
"""Trainings that were spoilt on purpose: the cause is named, and a good one is accused of nothing."""

import copy
import json

import numpy as np
import pytest
from insight.alloys import CONFIG, alloy, clusters, train

from deepmd.insight.diagnosis import as_lines, diagnose
from deepmd.insight.run import read_run
from deepmd.main import main


def scaled(name, factor):
    def change(config, train, valid):
        for frame in (*train.frames, *valid.frames):
            frame.labels[name] = factor * frame.labels[name]

    return change


def key(section, **values):
    def change(config, train, valid):
        config[section] |= values

    return change


def descriptor(**values):
    def change(config, train, valid):
        config["model"]["descriptor"] |= values

    return change


def leak(config, train, valid):
    valid.frames[:4] = copy.deepcopy(train.frames[:4])


def shift(config, train, valid):
    for frame in valid.frames:
        frame.labels["energy"] = frame.labels["energy"] + 0.5 * len(frame.types)


def few_data(config, train, valid):
    del train.frames[2:]
    config["model"]["fitting_net"]["neuron"] = [40, 40]
    config["training"]["training_data"]["batch_size"] = 1


def noise(config, train, valid):
    rng = np.random.default_rng(3)
    for frame in (*train.frames, *valid.frames):
        frame.labels["force"] = frame.labels["force"] + rng.normal(
            scale=0.6, size=frame.labels["force"].shape
        )


def overlap(config, train, valid):
    train.frames[3].coord[1] = train.frames[3].coord[0] + [0.1, 0.1, 0.1]


#: How a training is spoilt -> code of the finding.
SPOILT = {
    "energies in kcal/mol": (scaled("energy", 23.0605), "units"),
    "gradients for forces": (scaled("force", -1.0), "units"),
    "sign of the virial": (scaled("virial", -1.0), "virial"),
    "few slots": (descriptor(sel=[6, 6]), "sel"),
    "no force in the loss": (key("loss", start_pref_f=0, limit_pref_f=0), "prefactor"),
    "large rate": (key("learning_rate", start_lr=1.0, stop_lr=0.5), "rate-large"),
    "small rate": (key("learning_rate", start_lr=1e-7, stop_lr=1e-8), "rate-small"),
    "validation in training": (leak, "leak"),
    "another reference energy": (shift, "bias"),
    "two frames": (few_data, "overfit"),
    "noisy forces": (noise, "noise"),
    "short": (key("training", numb_steps=10), "few-steps"),
    "short cutoff": (descriptor(rcut=2.3, rcut_smth=1.5), "rcut"),
    "atoms on each other": (overlap, "overlap"),
}
#: Those that show without a trained model: a few steps suffice.
QUICK = ("gradients for forces", "few slots", "validation in training", "short")
#: Those that show only after training.
TRAINED = ("two frames", "noisy forces", "another reference energy", "small rate", "large rate")


def spoilt(folder, name, steps=240):
    """Train in a folder, spoilt in one way, and return its findings."""
    config = copy.deepcopy(CONFIG)
    config["training"]["numb_steps"] = steps  # which one way of spoiling replaces
    frames, valid = alloy(24), alloy(10, seed=1)
    if name is not None:
        SPOILT[name][0](config, frames, valid)
    run = read_run(train(folder, config, frames, valid))
    return [f for f in diagnose(run) if f.level != "note"], run


#: Ways of spoiling that the open clusters can have, too; they have other distances and few atoms.
CLUSTERS = {
    name: SPOILT[name]
    for name in (
        *("energies in kcal/mol", "gradients for forces", "no force in the loss", "large rate"),
        *("small rate", "validation in training", "another reference energy", "noisy forces"),
        *("short", "atoms on each other"),
    )
} | {"few slots": (descriptor(sel=[2, 1]), "sel")}


def spoilt_clusters(folder, name, steps=240):
    """Train for open clusters of several sizes; return the findings."""
    config = copy.deepcopy(CONFIG)
    config["model"]["type_map"] = ["Ni", "Al"]
    config["model"]["descriptor"] |= {"sel": [8, 8], "rcut": 4.5}
    config["training"]["numb_steps"] = steps
    config["loss"] |= {"start_pref_v": 0, "limit_pref_v": 0}
    frames, valid = clusters(48), clusters(18, seed=1)
    if name is not None:
        CLUSTERS[name][0](config, frames, valid)
    run = read_run(train(folder, config, frames, valid))
    return [f for f in diagnose(run) if f.level != "note"]


@pytest.mark.slow  # twelve trainings
def test_causes_are_named_for_clusters(tmp_path):
    """Thresholds were set with the alloy; these data had no part in them."""
    named = {}
    for k, (name, (_, code)) in enumerate(CLUSTERS.items()):
        found = spoilt_clusters(tmp_path / str(k), name, steps=240 if name in TRAINED else 96)
        named[name] = [f.code for f in found], code
    missed = {name: (codes, code) for name, (codes, code) in named.items() if code not in codes}
    assert len(missed) <= 1, missed
    assert spoilt_clusters(tmp_path / "good", None) == []


@pytest.mark.parametrize("name", ["gradients for forces", "validation in training"])
def test_what_shows_at_once_for_clusters(tmp_path, name):
    found = spoilt_clusters(tmp_path / "run", name, steps=4)
    assert CLUSTERS[name][1] in [f.code for f in found]


@pytest.mark.slow  # fifteen trainings
def test_causes_are_named(tmp_path):
    named = {}
    for k, (name, (_, code)) in enumerate(SPOILT.items()):
        found, _ = spoilt(tmp_path / str(k), name, steps=240 if name in TRAINED else 48)
        named[name] = [f.code for f in found], code
    missed = {name: (codes, code) for name, (codes, code) in named.items() if code not in codes}
    assert len(missed) <= 1, missed
    first = sum(codes[:1] == [code] for codes, code in named.values())
    assert first >= len(named) - 2, named


@pytest.mark.slow  # a training of some hundred steps
def test_a_good_training_is_accused_of_nothing(tmp_path):
    found, run = spoilt(tmp_path / "good", None)
    assert found == []
    assert as_lines(found, run.config) == ["nothing wrong was found"]


@pytest.mark.parametrize("name", QUICK)
def test_what_shows_at_once(tmp_path, name):
    found, _ = spoilt(tmp_path / "run", name, steps=4)
    assert SPOILT[name][1] in [f.code for f in found]


def several(folder, steps):
    """Train two branches with one descriptor, the second without forces in its loss."""
    config = copy.deepcopy(CONFIG)
    model, training = config["model"], config["training"]
    own = {"type_map": "types", "descriptor": "both", "fitting_net": model["fitting_net"]}
    config["model"] = {
        "shared_dict": {"types": model["type_map"], "both": model["descriptor"]},
        "model_dict": {"good": own, "bad": copy.deepcopy(own)},
    }
    loss = config.pop("loss")
    config["loss_dict"] = {"good": loss, "bad": loss | {"start_pref_f": 0, "limit_pref_f": 0}}
    data = {key: training.pop(key) for key in ("training_data", "validation_data")}
    training["data_dict"] = {"good": data, "bad": copy.deepcopy(data)}
    training |= {"model_prob": {"good": 0.9, "bad": 0.1}, "numb_steps": steps}
    return train(folder, config, alloy(24), alloy(10, seed=1))


def test_every_branch_is_diagnosed(tmp_path):
    """Each with its own data, loss and head; passes are counted by the chances of the branches."""
    run = read_run(several(tmp_path / "run", 40))
    found = diagnose(run)
    where = {f.where: f for f in found}
    zero = "loss_dict/bad/start_pref_f, loss_dict/bad/limit_pref_f"
    assert where[zero].code == "prefactor"
    assert where[zero].text.startswith("bad: the force makes")
    assert not any("loss_dict/good" in f.where for f in found)
    short = [f for f in found if f.code == "few-steps"]
    assert [f.text.partition(":")[0] for f in short] == ["bad"]
    assert short[0].value == pytest.approx(4 * 2 / 24)
    assert any("loss_dict/bad/start_pref_f = 0" in line for line in as_lines(found, run.config))


def test_command_names_number_and_key(short_run, tmp_path, capsys):
    assert main(["diagnose", str(short_run), "--json", "-", "--log-level", "ERROR"]) == 0
    found = json.loads(capsys.readouterr().out)
    [short] = [f for f in found if f["code"] == "few-steps"]
    assert short["value"] == pytest.approx(4 * 2 / 12)
    assert short["where"] == "training/numb_steps"
    run = read_run(short_run)
    assert any(
        "(now training/numb_steps = 4)" in line for line in as_lines(diagnose(run), run.config)
    )
