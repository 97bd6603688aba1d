# SPDX-License-Identifier: LGPL-3.0-or-later
"""Commands with ``--tf``, one after the other as a user gives them, on a model that is trained here."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from cli.conftest import small_input, write_system

from deepmd.dpmodel.module import split
from deepmd.graphs.checkpoints import read_checkpoint
from deepmd.graphs.models import read_model
from deepmd.infer import DeepPot
from deepmd.io import load_model
from deepmd.main import main
from deepmd.np.evaluator import NumPyEvaluator

FILES = (".data-00000-of-00001", ".index", ".meta")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Folder of a training of two steps, its frozen graph, and the same model as .dp."""
    folder = tmp_path_factory.mktemp("trained")
    write_system(folder / "data")
    given = small_input(["data"], save_freq=1)
    given["model"]["descriptor"]["type_one_side"] = True
    (folder / "input.json").write_text(json.dumps(given))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        main(["--tf", "train", "input.json", "--skip-neighbor-stat"])
        main(["--tf", "freeze", "-o", "model.pb"])
        main(["convert-backend", "model.pb", "model.dp"])
    return folder


@pytest.fixture
def dp(trained, tmp_path, monkeypatch):
    """Run ``dp --tf`` in a copy of the folder."""
    work = tmp_path / "work"
    shutil.copytree(trained, work)
    monkeypatch.chdir(work)
    return lambda *words: main(["--tf", *words])


def parameters(path):
    """Trained arrays of the only model of a checkpoint."""
    (model,) = read_checkpoint(path).models.values()
    return split(model)[0]


def retrain(dp, option, source):
    """Train for no step at all from the numbers of a file; return the parameters."""
    given = json.loads(Path("input.json").read_text())
    given["training"]["numb_steps"] = 0
    Path("again.json").write_text(json.dumps(given))
    dp("train", "again.json", "--skip-neighbor-stat", option, source, "--overwrite")
    return parameters("model.ckpt-0.meta")


@pytest.mark.parametrize(
    ("option", "source", "like"),
    [
        ("--init-model", "model.ckpt-1", "model.ckpt-1.meta"),
        ("--init-model", "model.ckpt", "model.ckpt-2.meta"),
        ("--init-frz-model", "model.pb", "model.ckpt-2.meta"),
        ("--init-frz-model", "model.dp", "model.ckpt-2.meta"),
    ],
)
def test_a_training_starts_with_the_numbers_of_a_file(dp, option, source, like):
    want = parameters(like)
    found = retrain(dp, option, source)
    assert found.keys() == want.keys()
    for key, value in want.items():
        np.testing.assert_array_equal(found[key], value, err_msg=key)


def test_restart_goes_on(dp):
    whole = parameters("model.ckpt-2.meta")
    for suffix in FILES:
        Path(f"model.ckpt-2{suffix}").unlink()
    dp("train", "input.json", "--skip-neighbor-stat", "--restart", "model.ckpt-1")
    for key, value in parameters("model.ckpt-2.meta").items():
        np.testing.assert_array_equal(value, whole[key], err_msg=key)


def bias_of(model):
    return np.asarray(model.atomic_model.out_bias)[0, :, 0]


def test_change_bias(dp):
    """Of a checkpoint and of a graph, to the biases that the .dp gets."""
    main(["change-bias", "model.dp", "-s", "data"])
    want = load_model("model_updated.dp")["model"]["@variables"]["out_bias"]
    before = read_checkpoint("model.ckpt-2.meta")
    dp("change-bias", "model.ckpt-2.meta", "-s", "data", "-o", "other.ckpt-2.meta")
    after = read_checkpoint("other.ckpt-2.meta")
    np.testing.assert_allclose(bias_of(*after.models.values()), np.asarray(want)[0, :, 0], 1e-10)
    for key, value in before.optimizer.items():  # the state of the training stays
        np.testing.assert_array_equal(after.optimizer[key], value)
    dp("change-bias", "model.pb", "-b", "1.5", "2.5")
    found = read_model("model_updated.pb")["model"]["@variables"]["out_bias"]
    np.testing.assert_allclose(np.asarray(found)[0, :, 0], [1.5, 2.5], rtol=1e-14)
    dp("train", "input.json", "--skip-neighbor-stat", "--init-model", "other.ckpt-2", "--overwrite")


def frames():
    return [np.load(f"data/set.000/{name}.npy") for name in ("coord", "box")]


def test_evaluating_commands(dp, capsys):
    dp("show", "model.pb", "type-map", "descriptor", "size")
    dp("test", "-m", "model.pb", "-s", "data", "-n", "3", "-d", "detail")
    dp("eval-desc", "-m", "model.pb", "-s", "data", "-o", "desc")
    dp("model-devi", "-m", "model.pb", "model.dp", "-s", "data", "-o", "devi.out")
    dp("neighbor-stat", "-s", "data", "-r", "3.0", "-t", "O", "H")
    dp("convert-backend", "model.pb", "model.yaml")
    assert "['O', 'H']" in capsys.readouterr().err
    coord, box = frames()
    types = [0, 1, 1, 0, 1, 1]
    want = NumPyEvaluator.of_tree(load_model("model.yaml"), "model.yaml", None)
    potential = DeepPot.from_evaluator(want)
    _, force, _ = potential.eval(coord, box, types)
    np.testing.assert_allclose(
        np.loadtxt("detail.f.out")[:, 3:], force[:3].reshape(-1, 3), rtol=1e-9, atol=1e-12
    )
    descriptors = np.load("desc/data.npy")
    np.testing.assert_allclose(
        descriptors, potential.eval_descriptor(coord, box, types), rtol=1e-9, atol=1e-12
    )
    assert np.abs(np.loadtxt("devi.out")[:, 1:]).max() < 1e-12
