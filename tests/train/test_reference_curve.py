# SPDX-License-Identifier: LGPL-3.0-or-later
"""A real training ends where DeePMD-kit's trainings with three seeds end.

Slow because it takes 1500 steps on 192 atoms, a minute or two; fewer say nothing about the end.
"""

import json

import numpy as np
import pytest

from deepmd.main import main

pytestmark = pytest.mark.slow
COLUMNS = ["rmse_val", "rmse_trn", "rmse_e_val", "rmse_e_trn", "rmse_f_val", "rmse_f_trn"]


def _window(rows, first, last):
    """Mean of a part of a learning curve, steps from first to last."""
    part = rows[(rows[:, 0] >= first) & (rows[:, 0] <= last), 1 : 1 + len(COLUMNS)]
    return dict(zip(COLUMNS, part.mean(axis=0), strict=True))


def test_water(reference, tmp_path, monkeypatch):
    pytest.importorskip("torch")
    folder = reference / "train/water_se_e2_a"
    data = json.loads((folder / "input.json").read_text())
    for part in ("training_data", "validation_data"):
        section = data["training"][part]
        section["systems"] = [str((folder / s).resolve()) for s in section["systems"]]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "input.json").write_text(json.dumps(data))
    main(["--pt", "train", "input.json", "--skip-neighbor-stat"])
    mine = np.loadtxt(tmp_path / "lcurve.out")
    seeds = [np.loadtxt(folder / f"lcurve_seed{k}.out") for k in (1, 2, 3)]
    for first, last, wide in ((300, 500, 1.5), (1300, 1500, 1.5)):
        got = _window(mine, first, last)
        known = [_window(rows, first, last) for rows in seeds]
        for name in ("rmse_f_val", "rmse_f_trn"):
            worst = max(k[name] for k in known)
            assert got[name] <= wide * worst, (first, name, got[name], worst)
        # Energies of single batches scatter much more than forces.
        assert got["rmse_e_val"] <= 4 * max(k["rmse_e_val"] for k in known)
