# SPDX-License-Identifier: LGPL-3.0-or-later
"""Trainings are repeated to the last bit, and differences are named."""

import json
import shutil

import numpy as np

from deepmd.insight.comparison import differences
from deepmd.main import main


def test_a_training_is_repeated(short_run, tmp_path, capsys):
    again = tmp_path / "again"
    assert main(["reproduce", str(short_run), "-o", str(again)]) == 0
    text = capsys.readouterr().err
    assert "learning curve equal byte for byte; model equal to the last bit" in text
    assert (again / "lcurve.out").read_bytes() == (short_run / "lcurve.out").read_bytes()
    assert main(["reproduce", str(short_run), "-o", str(again), "--log-level", "ERROR"]) == 1
    assert "is not empty" in capsys.readouterr().err


def test_versions_are_of_what_a_training_needs(short_run):
    """Not of what its process has loaded so far, or for another purpose."""
    found = json.loads((short_run / "run.json").read_text())["versions"]
    assert set(found) == {"deepmd-kit", "python", "numpy", "h5py", "vesin", "autograd"}


def test_changed_data_are_refused(short_run, tmp_path, capsys):
    copy = tmp_path / "copy"
    shutil.copytree(short_run, copy)
    [file] = (copy / "train").glob("*/set.000/energy.npy")
    np.save(file, np.load(file) + 1e-9)
    assert main(["reproduce", str(copy), "--log-level", "ERROR"]) == 1
    assert "the data have changed since the training" in capsys.readouterr().err
    assert not (tmp_path / "copy-again").exists()


def test_differences_are_named(short_run, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(short_run, copy)
    assert differences(short_run, copy) == []
    text = (copy / "out.json").read_text()
    (copy / "out.json").write_text(text.replace('"limit_pref_e": 1', '"limit_pref_e": 2'))
    assert "input/loss/limit_pref_e: 1 against 2" in differences(short_run, copy)
