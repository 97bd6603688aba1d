# SPDX-License-Identifier: LGPL-3.0-or-later
"""Branches of a multi-task checkpoint in every command, by name and alias."""

import numpy as np
import pytest
from infer.models import make_section

from deepmd.backend.backend import Backend
from deepmd.dpmodel.model import build_model
from deepmd.infer import DeepPot
from deepmd.io import load_model
from deepmd.runtime.checkpoint import Checkpoint

CHECKPOINT = "model.ckpt-5.dp"
LISTED = "holds 2 branches: Ice, gas; name one with --head (in Python: head=)"
UNKNOWN = 'has no branch "steam"; Its branches: Ice, gas'
#: Commands that take a branch, less the option.
COMMANDS = {
    "freeze": ["freeze", "-c", CHECKPOINT, "-o", "out.dp"],
    "test": ["test", "-m", CHECKPOINT, "-s", "data"],
    "convert-backend": ["convert-backend", CHECKPOINT, "out.yaml"],
    "change-bias": ["change-bias", CHECKPOINT, "-b", "1", "2", "-o", "out.dp"],
    "eval-desc": ["eval-desc", "-m", CHECKPOINT, "-s", "data"],
    "model-devi": ["model-devi", "-m", CHECKPOINT, "other.dp", "-s", "data"],
}


@pytest.fixture(autouse=True)
def models(dp, tmp_path, write_system):
    """Write a checkpoint of two branches, another one, and a system."""
    write_system(tmp_path / "data")
    sections = {name: make_section(seed=k) for k, name in enumerate(("Ice", "gas"))}
    sections["Ice"]["model_branch_alias"] = ["Solid_Water"]
    models = {name: build_model(section) for name, section in sections.items()}
    backend = Backend.get_backend("dpmodel")()
    params = {"shared_dict": {}, "model_dict": sections}
    backend.write_checkpoint(tmp_path / CHECKPOINT, Checkpoint(models, params, step=5))
    models["Ice"].atomic_model.out_bias += 1.0
    backend.write_checkpoint(tmp_path / "other.dp", Checkpoint(models, params, step=6))
    return models


@pytest.mark.parametrize("command", COMMANDS)
def test_without_a_branch(fails, command):
    assert fails(*COMMANDS[command]) == f"dp: {CHECKPOINT}: {LISTED}"


@pytest.mark.parametrize("command", COMMANDS)
def test_unknown_branch(fails, command):
    line = fails(*COMMANDS[command], "--head", "steam")
    assert line == f"dp: {CHECKPOINT}: {UNKNOWN}"


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("option", ["--head", "--model-branch"])
def test_branch_by_name_or_alias(dp, command, option):
    assert dp(*COMMANDS[command], option, "solid_water").code == 0


def test_frozen_and_converted_models_are_the_branch(dp, models):
    for command, name, file in (
        ("freeze", "gas", "out.dp"),
        ("convert-backend", "ice", "out.yaml"),
    ):
        assert dp(*COMMANDS[command], "--head", name).code == 0
        tree, want = load_model(file), models["gas" if name == "gas" else "Ice"]
        assert "models" not in tree
        assert "model_dict" not in tree["model_def_script"]
        np.testing.assert_array_equal(
            tree["model"]["fitting"]["nets"]["networks"][0]["layers"][0]["@variables"]["w"],
            want.serialize()["fitting"]["nets"]["networks"][0]["layers"][0]["@variables"]["w"],
        )
    # A frozen model has no branches.
    assert 'the model has no branches, "ice"' in dp("test", "-m", "out.dp", "--head", "ice").err


def test_predictions_are_those_of_the_branch():
    coord, types = np.random.default_rng(0).uniform(0, 4, (1, 6, 3)), [0, 1, 1, 0, 1, 1]
    first, again, other = (
        DeepPot(CHECKPOINT, head=head).eval(coord, None, types)[0]
        for head in ("ICE", "Solid_Water", "gas")
    )
    assert first == again != other


def test_calculator():
    atoms = pytest.importorskip("ase").Atoms("OHH", [[0, 0, 0], [1, 0, 0], [0, 1, 0.0]])
    from deepmd.calculator import DP

    found = []
    for head in ("Ice", "gas"):
        atoms.calc = DP(CHECKPOINT, head=head)
        found.append(atoms.get_potential_energy())
        assert found[-1] == DeepPot(CHECKPOINT, head=head).eval(atoms.positions, None, [0, 1, 1])[0]
    assert found[0] != found[1]


def test_show_lists_branches(dp):
    result = dp("show", CHECKPOINT, "model-branch", "type-map", "size")
    assert result.code == 0
    assert "This is a multitask model" in result.log
    assert "Available model branches are ['Ice', 'gas', 'RANDOM']" in result.log
    assert "The type_map of branch gas is ['O', 'H']" in result.log
    assert "Parameter counts of branch Ice:" in result.log


def test_model_devi_compares_one_branch(dp):
    assert dp(*COMMANDS["model-devi"], "--head", "gas").code == 0
    assert not np.loadtxt("model_devi.out")[:, 1:].any()
