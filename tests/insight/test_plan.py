# SPDX-License-Identifier: LGPL-3.0-or-later
"""Cost of an input before its training: every figure is there, and nothing else is left behind."""

import copy
import json

import numpy as np
import pytest
from insight.alloys import CONFIG, alloy

from deepmd.data.search import open_systems
from deepmd.data.writers import write_frames
from deepmd.entrypoints.commands import PLAN
from deepmd.entrypoints.plan import table
from deepmd.infer.queries import model_size
from deepmd.insight.planning import ALTERNATIVES, ATOMS, alternative, ns_per_day, repeated
from deepmd.main import main


@pytest.fixture
def folder(tmp_path, monkeypatch):
    write_frames(alloy(8), tmp_path / "train")
    write_frames(alloy(4, seed=1), tmp_path / "valid")
    (tmp_path / "input.json").write_text(json.dumps(CONFIG))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_figures(folder, capsys):
    before = sorted(p.name for p in folder.iterdir())
    arguments = ["--seconds", "0.05", "-a", "compressed", "--json", "-", "--log-level", "ERROR"]
    assert main(["--dp", "plan", "input.json", *arguments]) == 0
    assert sorted(p.name for p in folder.iterdir()) == before
    plain, compressed = json.loads(capsys.readouterr().out)
    assert [plain["name"], compressed["name"]] == ["input", "compressed"]
    for row in (plain, compressed):
        assert row["steps_per_hour"] * row["step"] == pytest.approx(3600)
        assert row["hours"] == pytest.approx(row["step"] * 4 / 3600)
        assert row["us_per_atom_step"] > 0
        assert row["memory"] > 10
        assert row["md_atoms"] == 512
    assert compressed["size"] > plain["size"]  # the networks stay beside the tables
    lines = list(table([plain, compressed], 1.0))
    assert lines[0].split()[0] == "steps/h"
    assert lines[2].startswith("compressed")


def test_alternatives_have_figures_of_their_own(folder, tmp_path, capsys):
    arguments = ["--seconds", "0.05", "-a", "float32", "--json", "-", "--log-level", "ERROR"]
    assert main(["--dp", "plan", "input.json", *arguments]) == 0
    plain, single = json.loads(capsys.readouterr().out)
    assert single["name"] == "float32"
    assert single["parameters"] == plain["parameters"]
    assert single["size"] < plain["size"]


def test_inputs_of_alternatives():
    given = copy.deepcopy(CONFIG)
    single = alternative(given, "float32")["model"]
    assert single["descriptor"]["precision"] == single["fitting_net"]["precision"] == "float32"
    other = alternative(given, "se_atten_v2")["model"]["descriptor"]
    assert other == {"type": "se_atten_v2", "sel": "auto", "rcut": 4.0, "rcut_smth": 1.0, "seed": 1}
    assert given == CONFIG
    (named,) = (o for o in PLAN if "--alternatives" in o.flags)
    assert tuple(named.settings["choices"]) == ALTERNATIVES


def test_units():
    # A step of 1 ms and 1 fs: 86.4 million steps a day.
    assert ns_per_day(1e-3, 1.0) == pytest.approx(86.4)


def test_repeated_frame_has_the_same_energy_per_atom(short_run):
    from deepmd.infer import DeepPot

    potential = DeepPot(short_run / "model.ckpt.dp")
    assert model_size(potential.model)["total"] > 0
    [system] = open_systems([str(short_run / "train")], type_map=potential.get_type_map())
    batch = system.load(np.arange(1), [])
    large = repeated(batch, 4.0)
    assert large.n_atoms >= ATOMS
    batch.aparam = np.arange(batch.n_atoms)[:, None]  # goes with the atoms
    assert repeated(batch, 4.0).aparam[batch.n_atoms :][:3].tolist() == [[0], [1], [2]]
    batch.aparam = None
    energies = [potential.evaluate_batch(b)["energy"][0, 0] / b.n_atoms for b in (batch, large)]
    assert energies[0] == pytest.approx(energies[1], rel=1e-12)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--seconds", "0"], "--seconds: found 0.0"),
        (["--timestep", "-1"], "--timestep: found -1.0"),
    ],
)
def test_wrong_requests(folder, capsys, arguments, message):
    assert main(["--dp", "plan", "input.json", *arguments]) == 1
    assert message in capsys.readouterr().err
