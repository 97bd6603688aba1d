# SPDX-License-Identifier: LGPL-3.0-or-later
"""A plugin that is installed in a fresh virtual environment, by its pyproject and entry points."""

import json
import os
import subprocess
import sys
import sysconfig
from importlib.util import find_spec
from pathlib import Path

import pytest
from train.helpers import Workspace

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
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Python of a new environment with the plugin; packages of this one lie behind its own."""
    pytest.importorskip("torch")
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
    source = folder / "source"
    run("cp", "-r", HERE / "toy", source, folder=folder)
    words = ["install", "--quiet", "--no-deps", "--no-index", "--no-build-isolation", source]
    run(python, "-m", "pip", *words, folder=folder)
    return python


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
