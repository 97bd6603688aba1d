# SPDX-License-Identifier: LGPL-3.0-or-later
"""Frames in a temporary folder are those that were put there, and one file at a time is in memory."""

import shutil

import numpy as np
import pytest

from deepmd.base.errors import OutputError
from deepmd.data.frames import Frames
from deepmd.data.search import open_systems
from deepmd.data.spool import Spool
from deepmd.data.writers import write_frames
from deepmd.dpmodel.label import Label


def spool():
    """Return three files of four, one and two frames, and all of their coordinates."""
    rng, out, coords = np.random.default_rng(0), Spool(), []
    for k, (count, natoms) in enumerate([(4, 3), (1, 2), (2, 3)]):
        coord = rng.normal(size=(count, natoms, 3))
        cell = None if k == 1 else np.tile(9 * np.eye(3), (count, 1, 1))
        labels = {"energy": coord.sum(axis=(1, 2)), "force": -coord}
        out.add(np.arange(natoms) % 2, coord, cell, labels, f"file{k}")
        coords += list(coord)
    return out, coords


def test_frames():
    out, coords = spool()
    assert len(out) == 7
    assert [f.number for f in out] == [0, 1, 2, 3, 0, 0, 1]
    assert [f.source for f in out[3:6]] == ["file0", "file1", "file2"]
    for frame, coord in zip(out, coords, strict=True):
        np.testing.assert_array_equal(frame.coord, coord)
        np.testing.assert_array_equal(frame.labels["force"], -coord.ravel())
        assert frame.labels["energy"].shape == (1,)
        assert (frame.cell is None) == (frame.source == "file1")
    assert out[-1].source == "file2"
    with pytest.raises(IndexError):
        out[7]


def test_files_are_written_from_it(tmp_path):
    out, _ = spool()
    labels = {"energy": Label("energy", 1, False), "force": Label("force", 3, True)}
    for kind in ("hdf5", "npy", "lmdb"):
        path = tmp_path / f"a.{kind}"
        write_frames(Frames(["A", "B"], labels, out), path, kind)
        assert sum(s.nframes for s in open_systems([str(path)])) == 7


def test_a_folder_that_cannot_be_written_is_one_line():
    out, _ = spool()
    shutil.rmtree(out.folder)
    with pytest.raises(OutputError):
        out.add(np.zeros(1, int), np.zeros((1, 1, 3)), None, {}, "file")
