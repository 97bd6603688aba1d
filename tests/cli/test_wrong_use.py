# SPDX-License-Identifier: LGPL-3.0-or-later
"""Whatever a user does wrong: one line that says what, where and how to mend it, and no traces."""

import copy
import os
import subprocess
import sys
from pathlib import Path

import pytest

from deepmd.entrypoints.commands import INSTEAD

ROOT = Path(__file__).resolve().parents[2]

# -- the command line itself ----------------------------------------------------------------------

ARGUMENTS = [
    (["trian"], "invalid choice: 'trian'"),
    (["train"], "the following arguments are required: INPUT"),
    (["train", "in.json", "--no-such-flag"], "unrecognized arguments: --no-such-flag"),
    (["--pt", "--jax", "train", "in.json"], "not allowed with argument"),
    (["train", "in.json", "-r", "a", "-i", "b"], "not allowed with argument"),
    (["train", "in.json", "-v", "LOUD"], "invalid choice: 'LOUD'"),
    (["test", "-n", "many"], "invalid int value: 'many'"),
    (["test", "-s", "a", "-f", "b"], "not allowed with argument"),
    (["show", "model.dp", "color"], "invalid choice: 'color'"),
    (["convert-backend", "a.dp"], "the following arguments are required: OUTPUT"),
    (["neighbor-stat"], "the following arguments are required: -r/--rcut"),
]


@pytest.mark.parametrize(("args", "message"), ARGUMENTS)
def test_wrong_arguments(fails, args, message):
    assert message in fails(*args, code=2)


def test_unknown_backend(fails, monkeypatch):
    text = fails("-b", "torhc", "train", "in.json", code=2)
    assert 'unknown backend "torhc"; did you mean "pytorch"?' in text
    monkeypatch.setenv("DP_BACKEND", "pytroch")
    assert fails("train", "in.json") == (
        'dp: DP_BACKEND: unknown backend "pytroch"; did you mean "pytorch"?'
    )


def test_backend_that_is_not_built(fails, write, good):
    text = fails("--pd", "train", write("in.json", good))
    assert text == "dp: backend Paddle: cannot be used: known but not built yet"


def test_backend_that_is_not_installed(fails, write, good, monkeypatch):
    from deepmd.backend import backend

    monkeypatch.setattr(backend, "find_spec", lambda name: None if name == "jax" else True)
    text = fails("--jax", "train", write("in.json", good))
    assert text == "dp: backend JAX: cannot be used: jax is not installed"


@pytest.mark.parametrize("value", ["low", "LOW", "medium"])
def test_precision_by_environment_is_refused(fails, monkeypatch, value):
    monkeypatch.setenv("DP_INTERFACE_PREC", value)
    text = fails("test")
    assert "DP_INTERFACE_PREC" in text
    if value.lower() == "low":
        assert '"precision": "float32" in model/descriptor and model/fitting_net' in text


def test_log_file_that_cannot_be_written(fails, write):
    write("file", "")
    assert fails("test", "-l", "file/log") == (
        "dp: file/log: cannot be written: Not a directory; a file is in the place of its folder"
    )


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full")
def test_a_log_on_a_full_disk_ends_and_the_command_does_not(dp, write, good):
    result = dp("--dp", "train", write("in.json", good), "-l", "/dev/full")
    assert result.code == 0
    assert "Traceback" not in result.err
    assert "Logging error" not in result.err
    assert result.log.count("/dev/full: cannot be written: No space left on device") == 1


# -- the input file -------------------------------------------------------------------------------


def test_missing_input(fails):
    assert fails("train", "no.json") == "dp: no.json: file not found"


def test_folder_in_place_of_an_input(fails, tmp_path):
    (tmp_path / "in.json").mkdir()
    assert fails("train", "in.json") == "dp: in.json: is a folder, a file was expected"


def test_bad_json(fails, write):
    text = fails("train", write("in.json", '{"model": {},\n "training" {}}'))
    assert text.startswith("dp: in.json: line 2, column 13: not valid JSON")


def test_bad_yaml(fails, write):
    text = fails("train", write("in.yaml", "model:\n  a: [1, 2\ntraining: 3\n"))
    assert text.startswith("dp: in.yaml: line 3, column 9: not valid YAML")


def test_unknown_suffix(fails, write):
    text = fails("train", write("in.txt", "{}"))
    assert text == "dp: in.txt: unknown kind of input file; name it .json, .yaml or .yml"


INPUTS = [
    ("trainning", {}, 'trainning: unknown key; did you mean "training"?'),
    ("training/disp_frq", 1, 'training/disp_frq: unknown key; did you mean "disp_freq"?'),
    (
        "training/training_data/batchsize",
        1,
        'training/training_data/batchsize: unknown key; did you mean "batch_size"?',
    ),
    (
        "model/descriptor/rcut_smt",
        1.0,
        'model/descriptor/rcut_smt: unknown key; did you mean "rcut_smth"?',
    ),
    ("model/descriptor/rcut", "6.0", 'model/descriptor/rcut: a number is expected, found "6.0"'),
    (
        "model/descriptor/type",
        "se_e2_q",
        'model/descriptor/type: unknown descriptor "se_e2_q"; did you mean "se_e2_r"?',
    ),
    (
        "model/descriptor/type",
        "se_a_tpe",
        'model/descriptor/type: descriptor "se_a_tpe" is known but not built yet; available: ',
    ),
    ("training/numb_epoch", 2, 'training: "numb_steps" and "numb_epoch" exclude each other'),
    ("training/numb_steps", None, "training: the length of the training is missing"),
    ("training/training_data/systems", None, 'training/training_data: required key "systems"'),
    (
        "validating/full_validation",
        True,
        "validating/full_validation: needs training/validation_data",
    ),
    ("model/type_map", None, "model: no type_map"),
]


@pytest.mark.parametrize(("path", "value", "message"), INPUTS)
def test_wrong_keys(fails, write, good, path, value, message):
    data = copy.deepcopy(good)
    *parents, key = path.split("/")
    section = data
    for parent in parents:
        section = section.setdefault(parent, {})
    section.pop(key, None)
    if value is not None:
        section[key] = value
    text = fails("--dp", "train", write("in.json", data))
    assert message in text
    assert "in.json" in text or path == "model/type_map"


def test_missing_system(fails, write, good):
    good["training"]["training_data"]["systems"] = ["dat"]
    text = fails("--dp", "train", write("in.json", good))
    assert "training/training_data" in text
    assert "dat: there is no such system or folder" in text


def test_auto_sel_without_neighbor_statistics(fails, write, good):
    good["model"]["descriptor"]["sel"] = "auto"
    text = fails("--dp", "train", write("in.json", good), "--skip-neighbor-stat")
    assert "model/descriptor/sel" in text
    assert "--skip-neighbor-stat" in text


def test_restart_without_checkpoint(fails, write, good):
    text = fails("--dp", "train", write("in.json", good), "--restart", "model.ckpt")
    assert "model.ckpt: there is no such checkpoint" in text


def test_fine_tuning_of_nothing(fails, write, good):
    text = fails("--dp", "train", write("in.json", good), "--finetune", "x.pt")
    assert text == "dp: x.pt: model file not found"


# -- model files ----------------------------------------------------------------------------------


def test_missing_model(fails, good):
    assert fails("test", "-m", "no.dp", "-s", "data") == "dp: no.dp: model file not found"
    assert "no.dp: model file not found" in fails("show", "no.dp", "size")
    assert "no.dp: model file not found" in fails("convert-backend", "no.dp", "yes.yaml")


def test_folders_and_other_files_are_no_models(fails, write, tmp_path):
    (tmp_path / "run/empty").mkdir(parents=True)
    write("run/model.ckpt.pt", "")
    write("run/input.yaml", "")
    write("run.py", "")
    folder = "dp: run: is a folder, a model file was expected; name the file: model.ckpt.pt"
    other = "dp: run.py: is no model file: no backend opens files of this name; known suffixes: "
    for name, want in (("run", folder), ("run.py", other), ("run/empty", "dp: run/empty: is a ")):
        for args in (
            ("test", "-m", name),
            ("eval-desc", "-m", name),
            ("model-devi", "-m", name, name),
            ("show", name, "size"),
            ("convert-backend", name, "x.dp"),
        ):
            assert fails(*args).startswith(want)
    assert fails("change-bias", "run.py").startswith(other)
    assert fails("test", "-m", ".").startswith("dp: .: is a folder, a model file was expected")


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["trian", "in.json"], '; did you mean "train"?'),
        (["test", "--modle", "x.dp"], 'arguments: --modle x.dp; did you mean "--model"?'),
        (["change-bias", "x.dp", "-m", "chagne"], '; did you mean "change"?'),
        (["show", "x.dp", "sise"], '; did you mean "size"?'),
        (["test", "--xyzzy"], "unrecognized arguments: --xyzzy"),
    ],
)
def test_misspelled_arguments(fails, args, message):
    assert fails(*args, code=2).endswith(message)


def test_missing_model_without_suffix(fails):
    assert "frozen_model.pth: model file not found" in fails("--pt", "test")
    assert "frozen_model.dp: model file not found" in fails("--dp", "test")


@pytest.mark.parametrize("args", [["show", "x.foo", "size"], ["convert-backend", "x.dp", "x.foo"]])
def test_unknown_model_suffix(fails, args):
    text = fails(*args)
    assert text.startswith("dp: x.foo: no backend opens files of this name; known suffixes: .dp,")


def test_checkpoints_cannot_be_converted_to(fails):
    text = fails("convert-backend", "x.dp", "x.pt")
    assert text == (
        "dp: x.pt: training checkpoints cannot be written by a conversion; use one of .pth"
    )


def test_file_of_a_backend_that_is_not_built(fails, write):
    text = fails("show", write("x.pd", ""), "size")
    assert text == "dp: backend Paddle: cannot be used: known but not built yet"


def test_damaged_model(fails, write):
    text = fails("show", write("x.dp", "not HDF5"), "size")
    assert text.startswith("dp: x.dp: ")


def test_freeze_without_checkpoint(fails):
    text = fails("--dp", "freeze")
    assert text.startswith('dp: .: no file "checkpoint"')


# -- data of dp test ------------------------------------------------------------------------------


def test_missing_and_empty_list_of_systems(fails, write):
    write("x.dp", "")
    assert fails("test", "-m", "x.dp", "-f", "no.txt") == "dp: no.txt: file not found"
    text = fails("test", "-m", "x.dp", "-f", write("empty.txt", "\n"))
    assert text == "dp: empty.txt: names no system"


def test_input_without_validation_data(fails, write, good):
    write("x.dp", "")
    text = fails("test", "-m", "x.dp", "--valid-data", write("in.json", good))
    assert text == "dp: in.json: training/validation_data: names no system"


def test_negative_number_of_frames(fails):
    assert "--numb-test" in fails("test", "-n", "-1")


# -- commands that are not built ------------------------------------------------------------------

NOT_BUILT = [
    ["gui"],
    ["pretrained", "download", "X"],
    ["train-nvnmd", "in.json"],
]


@pytest.mark.parametrize("args", NOT_BUILT, ids=lambda a: a[0])
def test_commands_that_are_not_built(fails, args):
    advice = f"; {INSTEAD[args[0]]}" if args[0] in INSTEAD else ""
    assert fails(*args) == f"dp: dp {args[0]}: this command is known but not built yet{advice}"


# -- interruption ---------------------------------------------------------------------------------


def test_interruption(fails, monkeypatch):
    def interrupt(**_):
        raise KeyboardInterrupt

    monkeypatch.setattr("deepmd.entrypoints.show.show", interrupt)
    assert fails("show", "x.dp", "size", code=130) == "dp: interrupted"


def test_full_disk(fails, monkeypatch):
    def full(**_):
        raise OSError(28, "No space left on device", "model.dp")

    monkeypatch.setattr("deepmd.entrypoints.show.show", full)
    assert fails("show", "x.dp", "size") == "dp: model.dp: No space left on device"


def test_our_own_defects_keep_their_traceback(dp, monkeypatch):
    def broken(**_):
        raise ZeroDivisionError

    monkeypatch.setattr("deepmd.entrypoints.show.show", broken)
    with pytest.raises(ZeroDivisionError):
        dp("show", "x.dp", "size")


def test_as_a_process(tmp_path):
    """The exit code and the line leave the process, too."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-m", "deepmd", "train", "no.json"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr == "dp: no.json: file not found\n"
    assert done.stdout == ""
