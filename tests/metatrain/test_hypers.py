# SPDX-License-Identifier: LGPL-3.0-or-later
"""Hyper-parameters of the architecture, made of our arguments; metatrain is not needed."""

import json

import pytest
import yaml

pytest.importorskip("typing_extensions")

from deepmd.base.errors import InputError
from deepmd.metatrain import ARCHITECTURE
from deepmd.metatrain.checkpoints import upgrade
from deepmd.metatrain.hypers import ModelHypers, TrainerHypers, checked_input, default_hypers
from deepmd.metatrain.package import write_package


def test_files_have_the_same_defaults(tmp_path):
    """Classes, YAML and JSON schema name the same keys."""
    names = {path.name for path in write_package(tmp_path)}
    assert names >= {"__init__.py", "documentation.py", "model.py", "trainer.py"}
    stored = yaml.safe_load((tmp_path / "default-hypers.yaml").read_text())["architecture"]
    assert stored == default_hypers()
    assert stored["name"] == ARCHITECTURE
    schema = json.loads((tmp_path / "schema-hypers.json").read_text())["properties"]
    for section, kind in (("model", ModelHypers), ("training", TrainerHypers)):
        assert set(kind.__annotations__) == set(stored[section])
        assert set(schema[section]["properties"]) - {"finetune"} == set(stored[section])
        for name, value in stored[section].items():
            assert getattr(kind, name) == value
            assert f"\n{name}\n    " in kind.__doc__


def test_defaults_are_a_training():
    """They are a complete input."""
    defaults = default_hypers()
    data = checked_input(defaults["model"], defaults["training"], ["H", "O"], 10)
    assert data["model"]["descriptor"]["type"] == "se_atten_v2"
    assert data["model"]["type_map"] == ["H", "O"]
    assert data["loss"]["start_pref_f"] == 100.0


@pytest.mark.parametrize(
    ("hypers", "line"),
    [
        ({"descriptor": {"type": "se_e2_a", "rcut_smt": 1}}, "model/descriptor/rcut_smt: unknown"),
        ({"fitting_net": {"type": "dos"}}, '"dos" predicts no energy'),
    ],
)
def test_wrong_hypers(hypers, line):
    with pytest.raises(InputError, match=line):
        checked_input({**default_hypers()["model"], **hypers}, None, ["H"])


def test_checkpoints_are_upgraded_step_by_step():
    """From any version that has a way to the current one."""

    def rename(checkpoint):
        checkpoint["new"] = checkpoint.pop("old")

    old = {"model_ckpt_version": 1, "old": 3}
    found = upgrade(old, "model_ckpt_version", 2, {1: rename})
    assert found == {"model_ckpt_version": 2, "new": 3}
    with pytest.raises(RuntimeError, match="model version 3, while the current model version is 2"):
        upgrade({"model_ckpt_version": 3}, "model_ckpt_version", 2, {1: rename})
