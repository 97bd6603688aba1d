# SPDX-License-Identifier: LGPL-3.0-or-later
"""Directories and HDF5 groups behave alike."""

from pathlib import Path

import numpy as np
import pytest

from deepmd.base.errors import DataError
from deepmd.data.path import DPH5Path, DPPath


@pytest.fixture(params=["dir", "file.h5", "file.hdf5#/base"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> DPPath:
    return DPPath(f"{tmp_path}/{request.param}", "a")


def test_both_kinds_do_the_same(root: DPPath) -> None:
    assert isinstance(root, DPPath)
    assert not root.exists()
    (root / "a").mkdir(parents=True)
    (root / "a").mkdir(exist_ok=True)
    with pytest.raises(FileExistsError):
        (root / "a").mkdir()
    (root / "a" / "x.npy").save_numpy(np.arange(6).reshape(2, 3))
    (root / "b" / "y.npy").save_numpy(np.ones(2))
    (root / "b" / "y.npy").save_numpy(np.zeros(2))
    assert (root / "a").is_dir()
    assert not (root / "a").is_file()
    assert (root / "a/x.npy").is_file()
    assert (root / "a" / "x.npy").load_numpy().tolist() == [[0, 1, 2], [3, 4, 5]]
    assert (root / "b/y.npy").load_numpy().tolist() == [0, 0]
    assert [p.name for p in root.glob("*")] == ["a", "b"]
    assert [p.name for p in root.rglob("*.npy")] == ["x.npy", "y.npy"]
    assert root.rglob("a/*.npy") == [root / "a/x.npy"]
    assert (root / "a/x.npy").parent == root / "a"
    assert DPPath(str(root / "a/x.npy")).load_numpy().shape == (2, 3)
    assert sorted([root / "b", root / "a"])[0] == root / "a"


def test_reading_only(root: DPPath) -> None:
    (root / "x").save_numpy(np.ones(1))
    reader = DPPath(str(root))
    with pytest.raises(DataError, match="reading only"):
        (reader / "x").save_numpy(np.ones(1))
    with pytest.raises(DataError, match="reading only"):
        (reader / "y").mkdir()
    with pytest.raises(DataError, match="missing"):
        (reader / "z").load_numpy()


def test_which_kind(tmp_path: Path) -> None:
    assert isinstance(DPPath("x.hdf5"), DPH5Path)
    assert isinstance(DPPath("x.h5#/g"), DPH5Path)
    assert str(DPPath("x.h5#g/h/")) == "x.h5#/g/h"
    assert type(DPPath("x")) is DPPath
    odd = tmp_path / "a#b.h5"
    odd.mkdir()
    assert type(DPPath(odd)) is DPPath
    assert DPPath(f"{tmp_path}/c#d/e.h5#/g").file == f"{tmp_path}/c#d/e.h5"


def test_text(tmp_path: Path) -> None:
    (tmp_path / "type.raw").write_text("0 1\n1\n 2\n")
    assert (DPPath(tmp_path) / "type.raw").load_txt(np.int64).tolist() == [0, 1, 1, 2]
    group = DPPath(tmp_path / "x.h5", "a")
    (group / "names").save_numpy(np.array([b"O", b"H"]))
    assert (group / "names").load_txt(str).tolist() == ["O", "H"]


def test_replaced_file_is_read_anew(root: DPPath) -> None:
    for k in range(3):
        (root / "x").save_numpy(np.full(2, k))
        assert (root / "x").load_numpy().tolist() == [k, k]


def test_failed_write_leaves_the_old_file(root: DPPath, monkeypatch: pytest.MonkeyPatch) -> None:
    from deepmd.base.files import calls

    (root / "x").save_numpy(np.ones(2))

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(calls, "fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        (root / "x").save_numpy(np.zeros(2))
    assert (root / "x").load_numpy().tolist() == [1, 1]
