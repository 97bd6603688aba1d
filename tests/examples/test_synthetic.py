# SPDX-License-Identifier: LGPL-3.0-or-later
"""What the small scripts of the water examples write is what is there."""

import runpy
import shutil
from pathlib import Path

import numpy as np
import pytest

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "water"
SYSTEMS = ("train", "valid")


def arrays(system: str) -> dict[str, np.ndarray]:
    """Read the arrays of one system with synthetic labels."""
    folder = EXAMPLE / "synthetic" / system / "set.000"
    return {path.stem: np.load(path) for path in folder.glob("*.npy")}


@pytest.mark.parametrize("system", SYSTEMS)
def test_labels_are_those_of_the_script(system):
    labels = runpy.run_path(str(EXAMPLE / "make_synthetic.py"))["labels"]
    stored = arrays(system)
    made = labels(stored["coord"])
    assert set(stored) == {"coord", "box", *made}
    for name, value in made.items():
        assert value.shape == stored[name].shape, name
        np.testing.assert_allclose(stored[name], value, rtol=1e-12, atol=1e-12, err_msg=name)


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
    for name in ("dos", "geometry"):
        np.testing.assert_allclose(after[name], before[name], atol=1e-9)


def test_frames_are_those_of_the_data():
    stored = np.concatenate([arrays(system)["coord"] for system in SYSTEMS])
    known = np.concatenate([np.load(p) for p in (EXAMPLE / "data").glob("*/set.000/coord.npy")])
    assert all((known == frame).all(axis=1).any() for frame in stored)


def test_synthetic_data_are_small():
    files = [p for p in (EXAMPLE / "synthetic").rglob("*") if p.is_file()]
    assert sum(p.stat().st_size for p in files) < 100_000


@pytest.mark.parametrize(
    ("folder", "table"), [("zbl", "zbl.txt"), ("linear_ener", "dispersion.txt")]
)
def test_tables_are_those_of_the_scripts(folder, table, tmp_path):
    script = shutil.copy(EXAMPLE / folder / "make_table.py", tmp_path)
    runpy.run_path(str(script))
    made, stored = np.loadtxt(tmp_path / table), np.loadtxt(EXAMPLE / folder / table)
    np.testing.assert_allclose(stored, made, rtol=1e-7)
    assert stored.shape[1] == 4
