# SPDX-License-Identifier: LGPL-3.0-or-later
"""Functions of commands follow the rules of the command line: defaults, choices, paths, inputs."""

import copy
import importlib
import inspect
from pathlib import Path

import numpy as np
import pytest
from infer.models import write as write_model

from deepmd.base.errors import InputError
from deepmd.entrypoints.change_bias import change_bias
from deepmd.entrypoints.commands import COMMANDS
from deepmd.entrypoints.convert_backend import convert_backend
from deepmd.entrypoints.doc import doc_train_input
from deepmd.entrypoints.eval_desc import eval_desc
from deepmd.entrypoints.freeze import freeze
from deepmd.entrypoints.main import _MODULES
from deepmd.entrypoints.model_devi import model_devi
from deepmd.entrypoints.options import Option
from deepmd.entrypoints.show import show
from deepmd.entrypoints.test import test as dp_test
from deepmd.infer import DeepPot, calc_model_devi
from deepmd.schema import load_input
from deepmd.utils.argcheck import normalize
from deepmd.utils.compat import update_deepmd_input


def options_of(command):
    for item in COMMANDS[command][1]:
        yield from [item] if isinstance(item, Option) else item


@pytest.mark.parametrize("command", COMMANDS)
def test_defaults_are_those_of_the_command(command):
    name = command.replace("-", "_").replace(" ", "_")
    module = importlib.import_module(f"deepmd.entrypoints.{_MODULES.get(name, name)}")
    parameters = inspect.signature(getattr(module, name)).parameters
    assert inspect.Parameter.VAR_KEYWORD in {p.kind for p in parameters.values()}
    for option in options_of(command):
        names = [option.settings.get("dest"), *(f.lstrip("-") for f in option.flags)]
        found = [
            parameters[n.replace("-", "_")]
            for n in names
            if n and n.replace("-", "_") in parameters
        ]
        for parameter in found:
            optional = option.flags[0].startswith("-") or option.settings.get("nargs") == "?"
            default = option.settings["default"]
            required = not optional or option.settings.get("required", False)
            assert parameter.default == (inspect.Parameter.empty if required else default)


@pytest.mark.parametrize(
    ("function", "given", "message"),
    [
        (doc_train_input, {"out_type": "jsn"}, 'doc-train-input --out-type: "jsn" is not known; did'),
        (eval_desc, {"dtype": "fp46"}, 'eval-desc --dtype: "fp46" is not known; did'),
        (change_bias, {"INPUT": "m.dp", "mode": "sett"}, 'change-bias --mode: "sett" is not known'),
        (show, {"INPUT": "m.dp", "ATTRIBUTES": ["sise"]}, 'dp show ATTRIBUTES: "sise" is not known'),
        (dp_test, {"datafile": "a", "valid_data": "b"}, "--valid-data: not allowed with --datafile"),
        (model_devi, {"relative": -1.0}, "--relative: found -1.0"),
    ],
)  # fmt: skip
def test_values_that_the_command_refuses(tmp_path, monkeypatch, function, given, message):
    monkeypatch.chdir(tmp_path)
    write_model(tmp_path / "m.dp")
    write_model(tmp_path / "frozen_model.dp")
    with pytest.raises(InputError, match=message):
        function(**given)


def test_levels_of_deviations():
    with pytest.raises(InputError, match="relative_v: found nan"):
        calc_model_devi([], None, [], [], relative_v=np.nan, real_data={"energy": []})


def test_paths_are_accepted(dp, good, write, tmp_path):
    assert dp("--dp", "train", write("input.json", good)).code == 0
    made = freeze(checkpoint_folder=Path("."), output=Path("frozen"), backend="dp")
    convert_backend(INPUT=Path(made), OUTPUT=Path("other.yaml"))
    changed = change_bias(INPUT=Path(made), system=Path("data"), output=Path("changed.dp"))
    dp_test(model=Path(changed), system=Path("data"))
    eval_desc(model=Path(made), system=Path("data"), output=Path("desc"))
    model_devi(models=[Path(made), Path(changed)], system=Path("data"), output=Path("devi"))
    for name in ("frozen.dp", "other.yaml", "changed.dp", "desc/data.npy", "devi"):
        assert (tmp_path / name).exists()
    assert DeepPot(Path(changed)).get_type_map() == ["O", "H"]


def test_comments_are_dropped_everywhere(good, write, dp):
    given = copy.deepcopy(good)
    given["_comment"] = "of the whole"
    for section in ("model", "training", "learning_rate"):
        given[section]["_note"] = {"type": 1}
    given["model"]["descriptor"]["_sel"] = "is small"
    assert normalize(given) == normalize(good) == normalize(load_input(write("in.json", given)))
    assert given["_comment"] == "of the whole"
    assert update_deepmd_input(given) == update_deepmd_input(good)
    torch_models = pytest.importorskip("deepmd.pt.model.model")
    made = [torch_models.get_model(g["model"]).serialize() for g in (given, good)]
    np.testing.assert_equal(*made)


@pytest.mark.parametrize("given", [[], None, "model"])
def test_an_input_is_an_object(given):
    with pytest.raises(InputError, match=r"input\.json: one object with sections is expected"):
        normalize(given)
