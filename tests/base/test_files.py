# SPDX-License-Identifier: LGPL-3.0-or-later
"""Files appear whole or not at all, whatever the system says, and errors name what was asked for."""

import errno
import io
import os
import stat
import subprocess
import sys

import numpy as np
import pytest

from deepmd.base import files
from deepmd.base.errors import InputError, ModelFileError, OutputError
from deepmd.base.files import (
    append_text,
    appending,
    hdf5_bytes,
    link_or_copy,
    remove_fragments,
    replacing,
    temporary_name,
    write_text,
)


class Failing(files.SystemCalls):
    """Write ``room`` bytes, then raise an error of the system."""

    def __init__(self, number=errno.ENOSPC, room=0):
        self.number, self.room = number, room

    def write(self, handle, data):
        if not self.room:
            raise OSError(self.number, os.strerror(self.number))
        done = super().write(handle, data[: self.room])
        self.room -= done
        return done


@pytest.fixture
def full(monkeypatch):
    """Fill the disk, or let it fail otherwise."""

    def fill(**options):
        monkeypatch.setattr(files, "calls", Failing(**options))

    return fill


@pytest.mark.parametrize("room", [0, 1, 10])
@pytest.mark.parametrize(
    ("number", "fix"),
    [
        (errno.ENOSPC, "free space there, or choose another folder"),
        (errno.EDQUOT, "free space there, or choose another folder"),
        (errno.EROFS, "choose a folder that you may write to"),
        (errno.EFBIG, "raise the limit of file sizes (ulimit -f)"),
        (errno.EIO, None),
    ],
)
def test_errors_name_the_file_asked_for_and_leave_the_old_one(tmp_path, full, number, fix, room):
    path = tmp_path / "a.txt"
    path.write_text("before")
    full(number=number, room=room)
    with pytest.raises(OutputError) as caught:
        write_text(path, 20 * "x")
    text = f"{path}: cannot be written: {os.strerror(number)}"
    assert str(caught.value) == (text if fix is None else f"{text}; {fix}")
    assert caught.value.errno == number
    assert path.read_text() == "before"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_an_output_error_is_an_error_of_the_user_and_of_the_system():
    assert issubclass(OutputError, InputError)
    assert issubclass(OutputError, OSError)


def test_places_where_no_file_can_be(tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "d.dp").mkdir()
    wrong = {
        tmp_path / "file" / "x": "Not a directory; a file is in the place of its folder",
        tmp_path / "d.dp": "Is a directory; name a file",
        tmp_path / (256 * "x"): "File name too long; choose a shorter name",
        tmp_path / "new" / (256 * "x"): "File name too long; choose a shorter name",
    }
    for path, message in wrong.items():
        for write in (write_text, append_text):
            with pytest.raises(OutputError) as caught:
                write(path, "x")
            assert str(caught.value).startswith(f"{path}: cannot be written: {message}")
    assert not [p for p in tmp_path.rglob("*") if p.is_file() and p.name != "file"]


def test_a_folder_that_may_not_be_written_to(tmp_path):
    folder = tmp_path / "closed"
    folder.mkdir(mode=0o500)
    if os.access(folder, os.W_OK):
        pytest.skip("root may write everywhere")
    with pytest.raises(OutputError, match="Permission denied; choose a folder that you may"):
        write_text(folder / "x", "x")


@pytest.mark.parametrize("name", ["é" * 120 + ".dp", "x" * 255, "x." + "y" * 250, ".hidden"])
def test_the_longest_names_can_be_written(tmp_path, name):
    write_text(tmp_path / name, "x")
    write_text(tmp_path / name, "y")
    assert os.listdir(tmp_path) == [name]
    assert (tmp_path / name).read_text() == "y"
    assert len(os.fsencode(temporary_name(tmp_path / name).name)) <= 255


def test_devices_are_written_and_stay(tmp_path):
    write_text("/dev/null", "x")
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)
    if os.path.exists("/dev/full"):
        for write in (write_text, append_text):
            with pytest.raises(OutputError, match="/dev/full: cannot be written: No space left"):
                write("/dev/full", "x")
        assert stat.S_ISCHR(os.stat("/dev/full").st_mode)


def test_errors_of_the_block_name_the_target(tmp_path):
    path = tmp_path / "m.dp"
    with pytest.raises(ModelFileError) as caught, replacing(path) as file:
        raise ModelFileError(f"{file.path.name} is bad", where=file.path, fix="f")
    assert str(caught.value) == f"{path}: m.dp is bad; f"
    with pytest.raises(ModelFileError) as caught, replacing(path):
        raise ModelFileError("is bad", where="other")
    assert str(caught.value) == "other: is bad"
    assert not os.listdir(tmp_path)


def test_text_and_arrays_go_through_the_same_file(tmp_path, full):
    with replacing(tmp_path / "t") as file, file.text() as lines:
        np.savetxt(lines, np.eye(2), header="Å", fmt="%d")
    assert (tmp_path / "t").read_text(encoding="utf-8") == "# Å\n1 0\n0 1\n"
    array = np.asfortranarray(np.random.default_rng(0).normal(size=(70, 500)))
    with replacing(tmp_path / "a.npy") as file:
        np.save(file, array)
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), array)
    for room in (0, 200):
        full(room=room)
        with (
            pytest.raises(OutputError, match=r"a\.npy: cannot be written: No space left"),
            replacing(tmp_path / "a.npy") as file,
        ):
            np.save(file, array)
        with (
            pytest.raises(OutputError, match=r"t: cannot be written: No space left"),
            replacing(tmp_path / "t") as file,
            file.text() as lines,
        ):
            np.savetxt(lines, array)
    assert sorted(os.listdir(tmp_path)) == ["a.npy", "t"]
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), array)


def test_hdf5_in_memory_is_made_and_changed():
    import h5py

    first = hdf5_bytes(lambda handle: handle.create_dataset("a", data=np.arange(3)))
    assert first == hdf5_bytes(lambda handle: handle.create_dataset("a", data=np.arange(3)))
    second = hdf5_bytes(lambda handle: handle.create_dataset("b", data=1.5), first)
    with h5py.File(io.BytesIO(second)) as handle:
        assert handle["a"][()].tolist() == [0, 1, 2]
        assert handle["b"][()] == 1.5


# -- appending ------------------------------------------------------------------------------------


@pytest.mark.parametrize("room", [0, 3])
def test_half_a_row_is_taken_back(tmp_path, full, room):
    path = tmp_path / "rows"
    append_text(path, "1\n")
    full(room=room)
    with pytest.raises(OutputError, match="rows: cannot be written: No space left on device"):
        append_text(path, "second\n")
    with pytest.raises(OutputError):
        append_text(tmp_path / "new", "second\n")
    assert os.listdir(tmp_path) == ["rows"]
    assert path.read_text() == "1\n"


def test_rows_of_others_are_never_taken_back(tmp_path):
    path = tmp_path / "rows"
    path.touch()

    def write():
        with appending(path) as file:
            file.write(b"mine\n")
            with open(path, "a") as other:
                other.write("other\n")
            raise KeyError

    with pytest.raises(KeyError):
        write()
    assert path.read_text() == "mine\nother\n"


# -- fragments ------------------------------------------------------------------------------------

KILLED = """
import os, signal, sys
from deepmd.base import files

class Kill(files.SystemCalls):
    def write(self, handle, data):
        os.write(handle, data[: len(data) // 2])
        os.kill(os.getpid(), signal.SIGKILL)

files.calls = Kill()
files.write_text(sys.argv[1], 1000 * "x")
"""


def test_the_fragment_of_a_killed_process_goes_with_the_next_write(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("before")
    done = subprocess.run([sys.executable, "-c", KILLED, str(path)], check=False)
    assert done.returncode == -9
    assert path.read_text() == "before"
    assert temporary_name(path).stat().st_size == 500
    write_text(path, "after")
    assert path.read_text() == "after"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_further_fragments_go_too(tmp_path):
    path = tmp_path / "a.txt"
    for number in range(3):
        temporary_name(path, number).write_text("old")
    others = [tmp_path / ".b.00000000.tmp.txt", tmp_path / ".a.00000000.tmp.dp"]
    for other in others:
        other.touch()
    write_text(path, "x")
    assert sorted(tmp_path.iterdir()) == sorted([*others, path])
    assert path.read_text() == "x"


def test_living_writers_of_one_file_do_not_disturb_each_other(tmp_path):
    path = tmp_path / "a.txt"
    with replacing(path) as first:
        first.write(b"first ")
        with replacing(path) as second:
            assert second.path != first.path
            second.write(b"second")
        assert path.read_text() == "second"
        remove_fragments(tmp_path, "a", ".txt")  # not a fragment: its writer lives
        assert first.path.exists()
        first.write(b"whole")
    assert path.read_text() == "first whole"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_without_locks_no_fragment_is_taken_over(tmp_path, monkeypatch):
    def flock(handle, flags):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(files.fcntl, "flock", flock)
    path = tmp_path / "a.txt"
    temporary_name(path).write_text("somebody's")
    write_text(path, "x")
    assert path.read_text() == "x"
    assert temporary_name(path).read_text() == "somebody's"
    os.utime(temporary_name(path), (0, 0))
    remove_fragments(tmp_path, "a", ".txt")
    assert os.listdir(tmp_path) == ["a.txt"]


def test_a_planted_link_is_not_written_through(tmp_path):
    victim, path = tmp_path / "victim", tmp_path / "a.txt"
    victim.write_text("mine")
    temporary_name(path).symlink_to(victim)
    write_text(path, "x")
    assert victim.read_text() == "mine"
    assert path.read_text() == "x"


def test_a_link_is_made_by_rename_and_copied_where_links_fail(tmp_path, monkeypatch):
    write_text(tmp_path / "a-1", "1")
    link_or_copy(tmp_path / "a-1", tmp_path / "a")
    assert os.readlink(tmp_path / "a") == "a-1"

    def symlink(*args, **options):
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(files.os, "symlink", symlink)
    link_or_copy(tmp_path / "a-1", tmp_path / "a")
    assert not (tmp_path / "a").is_symlink()
    assert (tmp_path / "a").read_text() == "1"
    assert sorted(os.listdir(tmp_path)) == ["a", "a-1"]
