# SPDX-License-Identifier: LGPL-3.0-or-later
"""The plan of a training is complete before anything is built, and nothing changes it later."""

import json

import pytest
from train.helpers import QuickBackend

from deepmd.runtime.checkpoint_file import read_checkpoint
from deepmd.schema import load_input, normalize
from deepmd.train.plan import make_plan


def linear(config):
    """A sum of one model: a section without a descriptor."""
    config["model"] = {
        "type": "linear_ener",
        "type_map": config["model"]["type_map"],
        "models": [config["model"]],
        "weights": "mean",
    }


def hessian(config):
    config["loss"] = {"type": "ener", "start_pref_h": 1.0, "limit_pref_h": 1.0}


def automatic(config):
    config["model"]["descriptor"]["sel"] = "auto"


@pytest.mark.parametrize("change", [linear, hessian, automatic])
def test_the_complete_input_is_that_of_the_plan(work, change):
    config = work.config(validation_data=None)
    change(config)
    given = normalize(config)
    before = json.dumps(given)
    plan = make_plan(given)
    assert json.dumps(given) == before, "the argument was changed"
    assert plan.config["model"]["info"]["observed_type"] == ["A", "B"]
    assert plan.config["model"].get("hessian_mode", False) is (change is hessian)
    plan.config["model"].clear()  # of a copy
    assert '"sel": "auto"' not in plan.text
    assert plan.config["model"]
    # It is an input that gives the same plan.
    (work.path / "again.json").write_text(plan.text)
    assert make_plan(normalize(load_input("again.json"))).text == plan.text


def test_checkpoints_have_the_section_that_was_written(work, run):
    config = work.config(numb_steps=3, validation_data=None)
    run(config, backend=QuickBackend())
    for step, options in (
        (3, {}),
        (4, {"restart": "model.ckpt"}),
        (5, {"init_model": "model.ckpt"}),
    ):
        if options:
            config["training"]["numb_steps"] = step
            run(config, backend=QuickBackend(), **options)
        written = json.loads((work.path / "out.json").read_text())
        stored = read_checkpoint(f"model.ckpt-{step}.dp")
        assert stored.model_params == written["model"]
        assert json.loads(stored.trainer["input"]) == written
