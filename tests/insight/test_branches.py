# SPDX-License-Identifier: LGPL-3.0-or-later
"""Trainings of several branches, seen one branch at a time and done again as a whole."""

import copy
import json

import numpy as np
import pytest
from insight.alloys import CONFIG, alloy, train

from deepmd.insight.run import read_run
from deepmd.main import main


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A training of two branches; the second one has no virials in its loss."""
    config = copy.deepcopy(CONFIG)
    model, training, loss = config["model"], config["training"], config.pop("loss")
    branch = {"type_map": "types", "descriptor": "d", "fitting_net": model["fitting_net"]}
    config["model"] = {
        "shared_dict": {
            "types": model["type_map"],
            "d": {
                **{"type": "se_atten", "sel": 40, "rcut": 4.0, "rcut_smth": 1.0, "seed": 1},
                **{"neuron": [4, 8], "axis_neuron": 3, "attn_layer": 0, "tebd_dim": 2},
            },
        },
        "model_dict": {
            "first": {**copy.deepcopy(branch), "model_branch_alias": ["one"]},
            "second": copy.deepcopy(branch),
        },
    }
    config["loss_dict"] = {
        "first": loss,
        "second": {k: v for k, v in loss.items() if not k.endswith("_v")},
    }
    data = {k: training.pop(k) for k in ("training_data", "validation_data")}
    training["data_dict"] = {"first": data, "second": copy.deepcopy(data)}
    training["model_prob"] = {"first": 3.0, "second": 1.0}
    folder = tmp_path_factory.mktemp("branches") / "run"
    return train(folder, config, alloy(12), alloy(6, seed=1))


def test_one_branch_is_read_as_if_alone(run):
    whole = read_run(run)
    first, second = whole.branch("one"), whole.branch("second")
    assert first.head == "first"
    assert first.config["model"]["descriptor"]["type"] == "se_atten"
    assert "start_pref_v" in first.config["loss"]
    assert first.config["training"]["training_data"]["batch_size"] == 2
    assert np.isfinite(first.column("rmse_v_trn")).all()
    assert second.column("rmse_v_trn") is None
    assert first.column("rmse_f_trn")[0] != second.column("rmse_f_trn")[0]
    assert [first.record["step"], second.record["step"]] == [3, 1]
    assert list(first.record["data"]) == ["Default"]


def test_commands_take_a_branch(run, tmp_path, capsys):
    assert (
        main(["diagnose", str(run), "--head", "second", "--json", "-", "--log-level", "ERROR"]) == 0
    )
    [short] = [f for f in json.loads(capsys.readouterr().out) if f["code"] == "few-steps"]
    assert short["value"] == pytest.approx(1 * 2 / 12)
    page = tmp_path / "page.html"
    given = ["--head", "first", "-o", str(page), "--log-level", "ERROR"]
    assert main(["report", str(run), *given]) == 0
    assert "first" in page.read_text()
    assert main(["report", str(run), "--log-level", "ERROR"]) == 1
    text = capsys.readouterr().err
    assert "holds 2 branches: first, second; name one with --head" in text


def test_repeated_exactly(run, tmp_path, capsys):
    again = tmp_path / "again"
    assert main(["reproduce", str(run), "-o", str(again)]) == 0
    assert "model equal to the last bit" in capsys.readouterr().err
