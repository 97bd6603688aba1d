# SPDX-License-Identifier: LGPL-3.0-or-later
"""HDF5 files that are written piece by piece: what is in them, memory, and a full disk."""

import errno
import io
import tempfile

import numpy as np
import pytest

from deepmd.base import hdf5_output
from deepmd.base.errors import OutputError
from deepmd.base.hdf5_output import write_hdf5

h5py = pytest.importorskip("h5py")


def fill(handle, pieces=20):
    data = handle.create_dataset("x", shape=(pieces * 100, 100), dtype=np.float64)
    for k in range(pieces):
        data[100 * k : 100 * (k + 1)] = float(k)


def test_content(tmp_path):
    write_hdf5(tmp_path / "a/b.hdf5", fill)
    with h5py.File(tmp_path / "a/b.hdf5") as handle:
        np.testing.assert_array_equal(handle["x"][:, 0], np.repeat(np.arange(20.0), 100))
    assert [p.name for p in (tmp_path / "a").iterdir()] == ["b.hdf5"]


class Full(io.RawIOBase):
    """A file on a disk with little room."""

    def __init__(self, room):
        super().__init__()
        self.memory, self.room = io.BytesIO(), room

    def write(self, data):
        if self.memory.tell() + len(data) > self.room:
            raise OSError(errno.ENOSPC, "No space left on device")
        return self.memory.write(data)

    def __getattribute__(self, name):
        if name in ("seek", "tell", "read", "truncate"):
            return getattr(self.memory, name)
        return super().__getattribute__(name)


@pytest.mark.parametrize("room", [0, 100, 5000, 1_000_000])
def test_a_full_disk_is_one_line(tmp_path, monkeypatch, room):
    """The library survives it, and nothing is left."""
    monkeypatch.setattr(hdf5_output.tempfile, "TemporaryFile", lambda **_: Full(room))
    with pytest.raises(OutputError, match="No space left"):
        write_hdf5(tmp_path / "b.hdf5", fill)
    assert not list(tmp_path.iterdir())


def test_errors_of_the_filling_come_through(tmp_path):
    def wrong(handle):
        fill(handle)
        raise ValueError("number 7")

    with pytest.raises(ValueError, match="number 7"):
        write_hdf5(tmp_path / "b.hdf5", wrong)
    assert not list(tmp_path.iterdir())


def test_the_memory_is_that_of_a_piece(tmp_path, monkeypatch):
    """Pieces reach the file one after the other, not at the end."""
    seen = []
    made = tempfile.TemporaryFile

    def spy(**options):
        file = made(**options)
        seen.append(file)
        return file

    monkeypatch.setattr(hdf5_output.tempfile, "TemporaryFile", spy)
    sizes = []

    def watched(handle):
        data = handle.create_dataset("x", shape=(50, 100_000), dtype=np.float64)
        for k in range(50):
            data[k] = 1.0
            handle.flush()
            sizes.append(seen[0].seek(0, 2))

    write_hdf5(tmp_path / "b.hdf5", watched)
    assert sizes[10] > 8 * 100_000 * 10
