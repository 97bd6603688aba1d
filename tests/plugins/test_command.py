# SPDX-License-Identifier: LGPL-3.0-or-later
"""dp plugin: what is installed, and a package to begin with."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from deepmd.main import main
from tests.plugins.conftest import install, on_path

ROOT = Path(__file__).resolve().parents[2]


def test_list(toy: Path, capsys):
    """Every plugin with its package and components; one that fails is named, with the reason."""
    with on_path(toy):
        assert main(["plugin", "list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "deepmd-toy 1.2: toy_model (deepmd.pt, deepmd_toy.model)" in lines
    broken = lines.index("deepmd-toy 1.2: toy_broken (deepmd.pt, deepmd_toy.broken)")
    assert lines[broken + 1].startswith("  could not be loaded: ModuleNotFoundError: No module")
    assert 'descriptor "some_descrpt"' in lines[-1]
    assert 'model "some_model"' in lines[-1]


def test_new_package_passes_its_tests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["plugin", "new", "my-rings"]) == 0
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "my-rings/tests"]
    chosen = "round_trip or (numpy and (gradient or rotation or restart or few_atoms))"
    paths = os.pathsep.join([str(tmp_path / "my-rings"), str(ROOT)])
    done = subprocess.run(
        [*command, "-k", chosen],
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    with on_path(install(tmp_path / "my-rings", tmp_path / "site")):
        capsys.readouterr()
        assert main(["plugin", "list"]) == 0
        assert 'my-rings 0.1.0 provides descriptor "my_rings"' in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["new"], "dp plugin new: no name is given"),
        (["new", "1x"], 'dp plugin new: "1x" is no name of a package'),
        (["new", "here"], "here: is there already"),
        (["list", "x"], 'dp plugin list: "x" is one argument too many'),
    ],
)
def test_wrong_use(words, line, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here").mkdir()
    assert main(["plugin", *words]) == 1
    assert capsys.readouterr().err.splitlines()[-1].startswith(f"dp: {line}")
