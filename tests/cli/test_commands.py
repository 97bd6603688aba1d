# SPDX-License-Identifier: LGPL-3.0-or-later
"""What the commands do when used rightly, on NumPy and a model that trains in no time."""

import inspect
import json
import logging
import re
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

from deepmd.entrypoints.commands import COMMANDS
from deepmd.entrypoints.show import tree_lines
from deepmd.main import command_parsers, main, main_parser


def test_help_and_version(dp):
    result = dp()
    assert result.code == 0
    assert "usage: dp" in result.out
    assert dp("--help").code == 0
    assert dp("--version").out == "DeePMD-kit v3.2.0+r1\n"


@pytest.mark.parametrize("command", ["train", "test", "compress", "doc-train-input"])
def test_every_command_has_help_and_log_options(dp, command):
    result = dp(command, "--help")
    assert result.code == 0
    assert "--log-level" in result.out
    assert "--log-path" in result.out


@pytest.mark.parametrize("command", COMMANDS)
def test_functions_have_the_defaults_of_the_options(command):
    options = {a.dest: a.default for a in command_parsers(main_parser())[command]._actions}
    name = command.replace("-", "_").replace(" ", "_")
    module = import_module(f"deepmd.entrypoints.{'doc' if name.startswith('doc_') else name}")
    for parameter in inspect.signature(getattr(module, name)).parameters.values():
        if parameter.kind is parameter.KEYWORD_ONLY and parameter.name != "backend":
            default = options[parameter.name]
            assert parameter.default in (default, parameter.empty), parameter


def test_doc_train_input(dp):
    text = dp("doc-train-input").out
    assert "rcut_smth" in text
    tree = json.loads(dp("doc-train-input", "--out-type", "json").out)
    assert [s["name"] for s in tree][:2] == ["model", "learning_rate"]
    schema = json.loads(dp("doc-train-input", "--out-type", "json_schema").out)
    assert set(schema["required"]) == {"model", "training"}
    assert "model_dict" in dp("doc-train-input", "--multi-task").out


def test_neighbor_stat(dp, good):
    result = dp("neighbor-stat", "-s", "data", "-r", "3", "-t", "O", "H")
    assert result.code == 0
    assert re.search(r"min_nbor_dist: \d\.\d+", result.log)
    assert re.search(r"max_nbor_size: \[\d+, \d+\]", result.log)


@pytest.fixture
def trained(dp, write, good):
    """Train two steps in the folder of ``dp``."""
    assert dp("--dp", "train", write("in.json", good)).code == 0
    return dp


def test_train_leaves_its_files(trained, tmp_path):
    assert {p.name for p in tmp_path.iterdir()} == {
        "in.json",
        "data",
        "input_v2_compat.json",
        "out.json",
        "run.json",
        "lcurve.out",
        "checkpoint",
        "model.ckpt-2.dp",
        "model.ckpt.dp",
    }
    out = json.loads((tmp_path / "out.json").read_text())
    assert out["model"]["descriptor"]["activation_function"] == "tanh"
    assert out["training"]["sel_overflow"] == "warn"


def test_which_backend_trains_is_logged(dp, write, good, monkeypatch):
    from deepmd.backend import backend

    monkeypatch.setattr(
        backend, "find_spec", lambda name: True if name in ("numpy", "autograd") else None
    )
    result = dp("train", write("in.json", good))
    assert result.code == 0
    assert (
        "Backend: NumPy (the first that can be used here (TensorFlow: tensorflow is not installed; "
        "PyTorch: torch is not installed; JAX: jax is not installed))"
    ) in result.log


def test_backend_by_environment(dp, write, good, monkeypatch):
    monkeypatch.setenv("DP_BACKEND", "NumPy")
    result = dp("train", write("in.json", good))
    assert result.code == 0
    assert "Backend: NumPy (as asked)" in result.log
    assert result.log.startswith("DeePMD-kit v3.2.0+r1\nwith Python 3.")
    assert f"numpy {np.__version__}" in result.log


def test_log_file_and_level(trained, tmp_path):
    result = trained("show", "model.ckpt.dp", "type-map", "-v", "ERROR", "-l", "logs/show.log")
    assert result.code == 0
    assert result.err == ""
    result = trained("show", "model.ckpt.dp", "type-map", "-l", "logs/show.log")
    text = (tmp_path / "logs/show.log").read_text()
    assert re.fullmatch(
        r"\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3}\] DEEPMD INFO    This is a singletask model",
        text.splitlines()[0],
    )
    assert text == result.err


@pytest.mark.parametrize("given", [".", "model.ckpt", "model.ckpt.dp", "model.ckpt-2.dp"])
def test_freeze(trained, tmp_path, given):
    assert trained("--dp", "freeze", "-c", given, "-o", "sub/m.pth").code == 0
    assert (tmp_path / "sub/m.dp").is_file()


@pytest.mark.parametrize("command", [["freeze"], ["test", "-m", "model.ckpt-2.dp"]])
def test_branch_of_a_model_without_branches(trained, command):
    result = trained(*command, "--head", "ice")
    assert result.code == 1
    assert result.errors == ['dp: --head: the model has no branches, "ice" names one']


def test_freeze_without_flag_takes_the_backend_of_the_checkpoint(trained, tmp_path):
    result = trained("freeze")
    assert result.code == 0
    assert "Saved frozen model to frozen_model.dp" in result.log
    assert (tmp_path / "frozen_model.dp").is_file()


def test_freeze_without_flag_takes_the_backend_of_the_suffix(trained, tmp_path, monkeypatch):
    from deepmd.backend.jax import JAXBackend

    monkeypatch.setitem(JAXBackend.hooks, "deserialize_hook", "deepmd.entrypoints.main:dispatch")
    made = []
    monkeypatch.setattr("deepmd.entrypoints.main.dispatch", lambda path, data: made.append(path))
    assert trained("freeze", "-o", "x.hlo").code == 0
    assert made == ["x.hlo"]
    assert trained("freeze", "-o", "x.yaml").code == 0
    assert (tmp_path / "x.yaml").is_file()


def test_freeze_never_replaces_what_was_not_named(trained, tmp_path):
    (tmp_path / "x.dp").write_text("mine")
    checkpoint = (tmp_path / "model.ckpt-2.dp").read_bytes()
    wrong = {
        "x.pth": "dp: x.pth: NumPy writes .dp, but x.dp is there and was not named; "
        "name x.dp to replace it, or another file",
        "x.xyz": "dp: x.xyz: no model file ends in .xyz; NumPy writes x.dp, or x.xyz.dp",
        "model.ckpt-2": "dp: model.ckpt-2.dp: is read and written at once; name another output",
        "model.ckpt.dp": "dp: model.ckpt.dp: is read and written at once; name another output",
    }
    for name, message in wrong.items():
        result = trained("--dp", "freeze", "-o", name)
        assert (result.code, result.errors) == (1, [message])
    assert (tmp_path / "x.dp").read_text() == "mine"
    assert (tmp_path / "model.ckpt-2.dp").read_bytes() == checkpoint
    for name in ("run0.5", "run0.6"):
        assert trained("--dp", "freeze", "-o", name).code == 0
        assert (tmp_path / f"{name}.dp").is_file()


def test_a_conversion_onto_itself_keeps_the_file(trained, tmp_path):
    before = (tmp_path / "model.ckpt-2.dp").read_bytes()
    result = trained("convert-backend", "model.ckpt.dp", "model.ckpt-2.dp")
    assert (result.code, len(result.errors)) == (1, 1)
    assert (tmp_path / "model.ckpt-2.dp").read_bytes() == before


def test_freeze_with_hessian(trained, tmp_path):
    from deepmd.infer import DeepPot

    assert trained("freeze", "--hessian", "-o", "h").code == 0
    model = DeepPot(tmp_path / "h.dp")
    coord = np.array([[0.0, 0.0, 0.0, 0.9, 0.1, 0.0, -0.2, 0.8, 0.3]])
    *_, hessian = model.eval(coord, None, [0, 1, 1])
    step = 1e-4
    moved = [model.eval(coord + s * np.eye(9)[[4]], None, [0, 1, 1])[1] for s in (step, -step)]
    row = -(moved[0] - moved[1]).reshape(9) / (2 * step)
    assert np.abs(row).max() > 1e-3
    np.testing.assert_allclose(hessian.reshape(9, 9)[4], row, atol=1e-5)


def test_show(trained):
    log = trained(
        "show",
        "model.ckpt.dp",
        "type-map",
        "descriptor",
        "fitting-net",
        "size",
        "observed-type",
        "serialization-tree",
    ).log
    assert "This is a singletask model" in log
    assert "The type_map is ['O', 'H']" in log
    assert "The descriptor parameter is {'type': 'se_e2_a'" in log
    # four embedding nets 1-2-4: 2+2 + 8+4; two fitting nets 8-4-4-1 with timesteps
    assert "Parameters in descriptor: 64\n" in log
    assert f"Parameters in fitting-net: {2 * ((32 + 4) + (16 + 4 + 4) + (4 + 1))}\n" in log
    assert "Number of observed types: 2" in log
    assert "EmbeddingNetwork networks × 4" in log


def test_show_model_branch_needs_branches(trained):
    result = trained("show", "model.ckpt.dp", "model-branch")
    assert result.code == 1
    assert "only models of several branches" in result.errors[0]


def test_convert_backend_there_and_back(trained, tmp_path):
    assert trained("freeze").code == 0
    assert trained("convert-backend", "frozen_model.dp", "a.yaml").code == 0
    assert trained("convert-backend", "a.yaml", "b.dp").code == 0
    lines = [
        trained("show", f, "size", "serialization-tree").log for f in ("frozen_model.dp", "b.dp")
    ]
    assert lines[0] == lines[1]


def test_tree():
    layer = {"@class": "Layer", "@variables": {"w": np.zeros((2, 3)), "b": None}}
    other = {"@class": "Layer", "@variables": {"w": np.zeros((3, 1)), "b": np.zeros(1)}}
    model = {
        "@class": "Model",
        "@variables": {"out_bias": np.zeros((1, 2, 1))},
        "descriptor": {"@class": "Descriptor", "layers": [layer, layer, other], "n": {"a": 1}},
        "fitting": {"@class": "Fitting", "@variables": {"bias_atom_e": np.zeros(2)}},
    }
    assert tree_lines(model) == [
        "Model (size=2)",
        "  → Descriptor descriptor",
        "      → Layer layers (size=6) × 2",
        "      → Layer layers (size=4)",
        "  → Fitting fitting (size=2)",
    ]


def test_main_gives_the_exit_code_back(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main([]) == 0
    assert main(["show", "no.dp", "size"]) == 1


def test_python_functions_take_and_ignore_more(trained, tmp_path, caplog):
    from deepmd.entrypoints.freeze import freeze
    from deepmd.entrypoints.show import show

    with caplog.at_level(logging.INFO, logger="deepmd"):
        freeze(checkpoint_folder=".", output="x", unheard_of=1)
        show(INPUT=str(tmp_path / "x.dp"), ATTRIBUTES=["size"], unheard_of=1)
    assert "Parameters in total" in caplog.text
    assert Path("x.dp").is_file()
