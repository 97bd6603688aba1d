# SPDX-License-Identifier: LGPL-3.0-or-later
"""Folders appear whole or not at all, and never take the place of something else."""

import os
import subprocess
import sys
import textwrap

import pytest

from deepmd.base import files
from deepmd.base.errors import ModelFileError, OutputError
from deepmd.base.folders import replacing_folder

OLD, NEW = {"mark": b"old", "left/over": b"1"}, {"mark": b"new", "in/side": b"2"}


def write(path, contents, check=lambda folder: None):
    with replacing_folder(path, contents, "mark") as folder:
        assert folder.parent == path.parent and folder.suffix == path.suffix
        check(folder)


def contents(path):
    found = (p for p in path.rglob("*") if p.is_file())
    return {str(p.relative_to(path)): p.read_bytes() for p in found}


@pytest.mark.parametrize("exchange", [True, False])
def test_a_folder_takes_the_place_of_the_one_before(tmp_path, monkeypatch, exchange):
    if not exchange:
        monkeypatch.setattr(files.calls, "exchange", lambda first, second: False)
    path = tmp_path / "deep" / "model.kind"
    for whole in (OLD, NEW):
        write(path, whole)
        assert contents(path) == whole
    assert os.listdir(path.parent) == [path.name]


def test_the_block_sees_the_folder_before_it_has_its_name(tmp_path):
    path, seen = tmp_path / "model.kind", []
    write(path, NEW, lambda folder: seen.append((contents(folder), path.exists())))
    assert seen == [(NEW, False)]


def test_an_error_of_the_block_names_the_target_and_leaves_the_old_one(tmp_path):
    path = tmp_path / "model.kind"
    write(path, OLD)

    def refuse(folder):
        raise ModelFileError("is wrong", where=folder)

    with pytest.raises(ModelFileError, match=r"/model\.kind: is wrong"):
        write(path, NEW, refuse)
    assert contents(path) == OLD
    assert os.listdir(tmp_path) == [path.name]


def test_a_full_disk_leaves_the_old_one(tmp_path, monkeypatch):
    path = tmp_path / "model.kind"
    write(path, OLD)

    def full(handle, data):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.calls, "write", full)
    with pytest.raises(OutputError, match=r"model\.kind: cannot be written: No space left"):
        write(path, NEW)
    monkeypatch.undo()
    assert contents(path) == OLD
    assert os.listdir(tmp_path) == [path.name]


def test_what_is_something_else_is_not_replaced(tmp_path):
    file, folder = tmp_path / "a.kind", tmp_path / "b.kind"
    file.write_text("text")
    folder.mkdir()
    (folder / "letters").write_text("dear")
    with pytest.raises(OutputError, match="is a file"):
        write(file, NEW)
    with pytest.raises(OutputError, match="is a folder without mark, which would be lost"):
        write(folder, NEW)
    assert file.read_text() == "text" and contents(folder) == {"letters": b"dear"}


def test_an_empty_folder_is_filled(tmp_path):
    (tmp_path / "model.kind").mkdir()
    write(tmp_path / "model.kind", NEW)
    assert contents(tmp_path / "model.kind") == NEW


def test_what_a_killed_process_left_is_used_again(tmp_path):
    path = tmp_path / "model.kind"
    left = files.temporary_name(path)
    (left / "half").mkdir(parents=True)
    (left / "mark").write_text("half")
    write(path, NEW)
    assert contents(path) == NEW
    assert os.listdir(tmp_path) == [path.name]


def test_two_writers_do_not_disturb_each_other(tmp_path):
    path = tmp_path / "model.kind"
    with (
        replacing_folder(path, OLD, "mark") as first,
        replacing_folder(path, NEW, "mark") as second,
    ):
        assert first != second
        assert contents(first) == OLD and contents(second) == NEW
    assert contents(path) == OLD  # the one that ended last
    assert os.listdir(tmp_path) == [path.name]


DEATHS = """
    import os
    from pathlib import Path
    from deepmd.base import files
    from deepmd.base.folders import replacing_folder

    class Dying(files.SystemCalls):
        def __init__(self, at):
            self.at = at

        def __getattribute__(self, name):
            call = super().__getattribute__(name)
            if not callable(call):
                return call

            def around(*given):
                for moment in ("before", "after"):
                    self.at -= 1
                    if not self.at:
                        os._exit(99)
                    done = call(*given) if moment == "before" else done
                return done

            return around

    def write(text):
        with replacing_folder("m.kind", {"mark": text, "in/side": text}, "mark"):
            pass

    found = []
    write(b"old")
    for at in range(1, 1000):
        pid = os.fork()
        if not pid:
            files.calls = Dying(at)
            write(b"new")
            os._exit(0)
        ended = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        whole = {p.read_bytes() for p in Path("m.kind").rglob("*") if p.is_file()}
        assert len(whole) == 1, whole
        found.append(*whole)
        write(b"old")
        assert os.listdir() == ["m.kind"], os.listdir()
        if not ended:
            break
    assert found == sorted(found, reverse=True) and len(set(found)) == 2, found
    print(at)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_death_at_any_moment_leaves_a_whole_folder(tmp_path):
    """The one before, or the new one; what else is left is gone after the next time."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(DEATHS)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, sys.path))},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 10
