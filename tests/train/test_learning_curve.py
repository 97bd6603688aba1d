# SPDX-License-Identifier: LGPL-3.0-or-later
"""The format of the learning curve and what a restart keeps of it."""

import math

import numpy as np
import pytest

from deepmd.train.learning_curve import LearningCurve
from deepmd.train.metrics import StepFigures, nan_mean

NAMES = {"Default": ["rmse", "rmse_e", "rmse_f"]}


def figures(*values):
    return dict(zip(NAMES["Default"], values, strict=True))


def test_reference_file_is_reproduced(reference, tmp_path):
    expected = (reference / "checkpoints/pt_single.lcurve.out").read_text()
    curve = LearningCurve(tmp_path / "l", NAMES)
    for row in np.loadtxt(expected.splitlines()):
        curve.write(int(row[0]), {"Default": figures(*row[1:4])}, {}, row[4])
    assert (tmp_path / "l").read_text() == expected


def test_reference_file_with_validation(reference, tmp_path):
    expected = (reference / "train/water_se_e2_a/lcurve_seed1.out").read_text()
    curve = LearningCurve(tmp_path / "l", NAMES, validated=["Default"])
    for row in np.loadtxt(expected.splitlines()):
        valid, trained = ({"Default": figures(*row[k:7:2])} for k in (1, 2))
        curve.write(int(row[0]), trained, valid, row[7])
    assert (tmp_path / "l").read_text() == expected


def test_branches_have_their_own_columns(tmp_path):
    names = {"one": ["rmse"], "two": ["rmse", "rmse_e"]}
    curve = LearningCurve(tmp_path / "l", names, validated=["two"])
    head = (tmp_path / "l").read_text().splitlines()[0].split()
    assert head == [
        "#",
        "step",
        "rmse_trn_one",
        "rmse_val_two",
        "rmse_trn_two",
        "rmse_e_val_two",
        "rmse_e_trn_two",
        "lr",
    ]
    row = {"one": {"rmse": 1.0}, "two": {"rmse": 3.0, "rmse_e": 5.0}}
    curve.write(3, row, {"two": {"rmse": 2.0, "rmse_e": math.nan}}, 1e-3)
    np.testing.assert_array_equal(np.loadtxt(tmp_path / "l"), [3, 1, 2, 3, math.nan, 5, 1e-3])


def write_rows(path, steps, **options):
    curve = LearningCurve(path, NAMES, **options)
    for step in steps:
        curve.write(step, {"Default": figures(step, 0.5, math.nan)}, {}, 1e-3)


@pytest.mark.parametrize("tail", ["", "     40      4.0", "     40   1 2 3 4 5 6\n", "rubbish\n"])
def test_restart_removes_later_and_broken_rows(tmp_path, tail):
    path = tmp_path / "l"
    write_rows(path, [1, 10, 20, 30])
    with path.open("a") as file:
        file.write(tail)
    write_rows(path, [21, 31], step=20)
    assert np.loadtxt(path)[:, 0].tolist() == [1, 10, 20, 21, 31]


def test_a_new_run_begins_a_new_file(tmp_path):
    write_rows(tmp_path / "l", [1, 10])
    write_rows(tmp_path / "l", [1])
    assert np.loadtxt(tmp_path / "l", ndmin=2)[:, 0].tolist() == [1]


def test_rows_with_other_columns_are_kept_aside(tmp_path, caplog):
    path = tmp_path / "l"
    write_rows(path, [1, 10])
    before = path.read_text()
    LearningCurve(path, NAMES, validated=["Default"], step=10)
    assert (tmp_path / "l.before-step-10").read_text() == before
    assert "other columns" in caplog.text


def test_rows_can_be_read_while_the_file_is_open(tmp_path):
    curve = LearningCurve(tmp_path / "l", NAMES)
    curve.write(1, {"Default": figures(1, 2, 3)}, {}, 1e-3)
    assert np.loadtxt(tmp_path / "l").shape == (5,)


def test_means_skip_what_is_absent():
    assert nan_mean([{"a": 1.0}, {"a": math.nan}, {"a": 3.0}], ["a"]) == {"a": 2.0}
    assert math.isnan(nan_mean([{"a": math.nan}], ["a"])["a"])


def test_average_over_an_interval_survives_a_restart():
    shown = StepFigures({"t": ["rmse"]}, average=True)
    for value in (1.0, 2.0):
        shown.add("t", {"rmse": value, "loss": 9.0})
    again = StepFigures({"t": ["rmse"]}, average=True)
    again.load_state(shown.state())
    again.add("t", {"rmse": 6.0})
    assert again.row() == {"t": {"rmse": 3.0}}
    assert math.isnan(again.row()["t"]["rmse"])
