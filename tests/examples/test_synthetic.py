# SPDX-License-Identifier: LGPL-3.0-or-later
"""What the small scripts of the water examples write is what is there."""

import runpy
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "water"
SYSTEMS = ("train", "valid")


def arrays(system: str) -> dict[str, np.ndarray]:
    """Read the arrays of one system with synthetic labels."""
    folder = EXAMPLE / "synthetic" / system / "set.000"
    return {path.stem: np.load(path) for path in folder.glob("*.npy")}


def test_data_are_those_of_the_script(tmp_path, monkeypatch):
    script = EXAMPLE / "make_synthetic.py"
    monkeypatch.setattr(sys, "argv", [str(script), "--target", str(tmp_path)])
    runpy.run_path(str(script), run_name="__main__")
    there = EXAMPLE / "synthetic"
    files = {p.relative_to(there) for p in there.rglob("*") if p.is_file()}
    assert files == {p.relative_to(tmp_path) for p in tmp_path.rglob("*") if p.is_file()}
    for file in files:
        if file.suffix == ".npy":
            made, stored = np.load(tmp_path / file), np.load(there / file)
            np.testing.assert_allclose(stored, made, rtol=1e-12, atol=1e-12, err_msg=str(file))
        else:
            assert (there / file).read_text() == (tmp_path / file).read_text()


@pytest.mark.parametrize("system", SYSTEMS)
def test_labels_turn_with_the_frame(system):
    """A dipole turns as a vector, a polarizability as a tensor, the rest stays."""
    labels = runpy.run_path(str(EXAMPLE / "make_synthetic.py"))["labels"]
    coord = arrays(system)["coord"]
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    before = labels(coord)
    after = labels((coord.reshape(-1, 3) @ turn.T).reshape(coord.shape))
    tensor = before["polarizability"].reshape(-1, 3, 3)
    np.testing.assert_allclose(after["dipole"], before["dipole"] @ turn.T, atol=1e-10)
    turned = (turn @ tensor @ turn.T).reshape(-1, 9)
    np.testing.assert_allclose(after["polarizability"], turned, atol=1e-10)
    for name in ("dos", "geometry", "atomic_population"):
        np.testing.assert_allclose(after[name], before[name], atol=1e-9)


def test_springs_have_their_derivatives():
    springs = runpy.run_path(str(EXAMPLE / "make_synthetic.py"))["springs"]
    coord = arrays("molecules_valid")["coord"][:2]
    there, step = springs(coord), 1e-5
    for k in range(9):
        ends = [springs(coord + sign * step * np.eye(9)[k]) for sign in (1, -1)]
        slope = (ends[0]["energy"] - ends[1]["energy"]) / (2 * step)
        np.testing.assert_allclose(there["force"][:, k], -slope, atol=1e-6)
        row = (ends[1]["force"] - ends[0]["force"]) / (2 * step)
        np.testing.assert_allclose(there["hessian"].reshape(2, 9, 9)[:, k], row, atol=1e-4)


@pytest.mark.parametrize("system", SYSTEMS)
def test_clusters_are_clusters(system):
    """Four whole molecules, the first with hydrogen bonds to others."""
    molecules = arrays(system)["coord"].reshape(-1, 4, 3, 3)
    bonds = np.linalg.norm(molecules[:, :, 1:] - molecules[:, :, :1], axis=-1)
    assert 0.75 < bonds.min() < bonds.max() < 1.35
    apart = np.linalg.norm(molecules[:, 1:, 0] - molecules[:, :1, 0], axis=-1)
    assert 2.2 < apart.min() < apart.max() < 4.0


def test_synthetic_data_are_small():
    files = [p for p in (EXAMPLE / "synthetic").rglob("*") if p.is_file()]
    assert sum(p.stat().st_size for p in files) < 185_000


@pytest.mark.parametrize(
    ("folder", "table"), [("zbl", "zbl.txt"), ("linear_ener", "dispersion.txt")]
)
def test_tables_are_those_of_the_scripts(folder, table, tmp_path):
    script = shutil.copy(EXAMPLE / folder / "make_table.py", tmp_path)
    runpy.run_path(str(script))
    made, stored = np.loadtxt(tmp_path / table), np.loadtxt(EXAMPLE / folder / table)
    np.testing.assert_allclose(stored, made, rtol=1e-7)
    assert stored.shape[1] == 4
