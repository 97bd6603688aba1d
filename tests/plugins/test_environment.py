# SPDX-License-Identifier: LGPL-3.0-or-later
"""Plugins and a backend that are installed in a fresh virtual environment, by their pyprojects."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from importlib.util import find_spec
from pathlib import Path

import pytest
from train.helpers import Workspace

from deepmd.dpmodel.model import build_model
from deepmd.runtime.probes import model_file_dict, write_model
from deepmd.testing.systems import randomize
from tests.members import section
from tests.plugins.conftest import HERE

ROOT = HERE.parents[1]
EVALUATION = """
import sys, numpy as np
from deepmd.infer import DeepPot
assert sys.prefix != sys.base_prefix, sys.prefix
import deepmd_toy.descriptor as d
assert d.__file__.startswith(sys.prefix), d.__file__
e, f, v = DeepPot(sys.argv[1]).eval(np.arange(9.0).reshape(3, 3) ** 0.5, None, [0, 1, 1])
assert np.isfinite(e).all() and abs(f).max() > 0
print("evaluated", e.shape)
"""
NUMBERS = """
import sys, numpy as np
from deepmd.infer import DeepPot
import deepmd_board
assert deepmd_board.__file__.startswith(sys.prefix), deepmd_board.__file__
models = [DeepPot(name) for name in sys.argv[1:]]
system = np.arange(9.0).reshape(3, 3) ** 0.5, 8 * np.eye(3), [0, 1, 1]
worst = max(abs(a - b).max() for a, b in zip(*(m.eval(*system) for m in models)))
assert abs(models[0].eval(*system)[1]).max() > 0
print(type(models[0].evaluator).__name__, worst)
"""


def run(*command: object, folder: Path) -> str:
    """Run a program without our own paths; return what it says."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    done = subprocess.run(
        [str(word) for word in command],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Python of a new environment; packages of this one lie behind its own."""
    if find_spec("setuptools") is None:
        pytest.skip("setuptools is not installed")
    folder = tmp_path_factory.mktemp("fresh")
    run(sys.executable, "-m", "venv", "--without-pip", folder / "venv", folder=folder)
    python = folder / "venv" / "bin" / "python"
    if not python.exists():
        pytest.skip("environments have another layout here")
    site = Path(sysconfig.get_path("purelib", vars={"base": str(folder / "venv")}))
    # This package as it is here, and the libraries beside it.
    behind = [str(ROOT), *(p for p in sys.path if p.endswith(("site-packages", "dist-packages")))]
    (site / "behind.pth").write_text("\n".join(behind) + "\n")
    return python


def install(python: Path, package: Path, folder: Path) -> None:
    """Install a copy of a package, without a network."""
    source = folder / f"{package.name}-source"
    shutil.copytree(package, source)
    words = ["install", "--quiet", "--no-deps", "--no-index", "--no-build-isolation", source]
    run(python, "-m", "pip", *words, folder=folder)


@pytest.fixture(scope="module")
def python(fresh: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Python of the new environment with the plugin for PyTorch."""
    pytest.importorskip("torch")
    install(fresh, HERE / "toy", tmp_path_factory.mktemp("toy"))
    return fresh


def test_train_and_evaluate(python: Path, tmp_path: Path):
    """Two steps, a checkpoint, an evaluation; the list of plugins has its name and version."""
    work = Workspace(tmp_path)
    config = work.config(numb_steps=2, save_freq=2, disp_freq=1, validation_data=None)
    fitting = {"neuron": [4], "seed": 1}
    config["model"] = {
        "type_map": ["A", "B"],
        "descriptor": {"type": "some", "rcut": 3.5},
        "fitting_net": fitting,
    }
    (tmp_path / "input.json").write_text(json.dumps(config))
    run(python, "-W", "ignore", "-m", "deepmd", "--pt", "train", "input.json", folder=tmp_path)
    assert "evaluated (1, 1)" in run(
        python, "-W", "ignore", "-c", EVALUATION, "model.ckpt-2.pt", folder=tmp_path
    )
    assert "deepmd-toy 1.2: toy_model" in run(
        python, "-m", "deepmd", "plugin", "list", folder=tmp_path
    )


def test_backend(fresh: Path, tmp_path: Path):
    """The backend of another package: chosen by its suffix, it converts and evaluates."""
    install(fresh, HERE / "board", tmp_path)
    given = section("se_e2_a", tmp_path)
    model = randomize(build_model(given))
    write_model(tmp_path / "model.dp", model_file_dict(model, given, None, "NumPy"))
    words = ["-m", "deepmd", "convert-backend", "model.dp", "model.board"]
    run(fresh, "-W", "ignore", *words, folder=tmp_path)
    said = run(fresh, "-W", "ignore", "-c", NUMBERS, "model.board", "model.dp", folder=tmp_path)
    kind, difference = said.split()
    assert kind == "BoardEvaluator"
    assert float(difference) < 1e-11


def test_new_package(fresh: Path, tmp_path: Path):
    """The package of ``dp plugin new``, installed there, passes its tests."""
    run(fresh, "-m", "deepmd", "plugin", "new", "my-rings", folder=tmp_path)
    install(fresh, tmp_path / "my-rings", tmp_path)
    words = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "my-rings/tests", "-k", "round_trip"]
    said = run(fresh, *words, folder=tmp_path)
    assert " passed" in said
    listed = run(fresh, "-m", "deepmd", "plugin", "list", folder=tmp_path)
    assert 'my-rings 0.1.0 provides descriptor "my_rings"' in listed
