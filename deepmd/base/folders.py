# SPDX-License-Identifier: LGPL-3.0-or-later
"""Folders appear whole or not at all: written beside the target, flushed to disk, exchanged.

As :mod:`deepmd.base.files` has it for files. The folder beside the target is locked while its
process lives; what a killed process left is used again by the next one.
"""

import contextlib
import itertools
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from deepmd.base import files as system
from deepmd.base.errors import InputError, OutputError
from deepmd.base.files import (
    Output,
    errors_name,
    make_folder,
    renamed,
    temporary_name,
    try_lock,
)


@contextlib.contextmanager
def replacing_folder(
    path: str | os.PathLike[str], files: Mapping[str, bytes], mark: str
) -> Iterator[Path]:
    """Write a folder beside ``path``, and put it in the place of ``path`` at the end.

    When the block, which checks the folder, raises, it is removed and ``path`` stays as it was.

    Parameters
    ----------
    path : path
    files : dict of str to bytes
        Contents by their paths in the folder.
    mark : str
        File that folders of this kind have; a folder without it is not replaced.

    Raises
    ------
    OutputError
        If the folder cannot be written. This and other input errors of the block name ``path``.
    """
    path = Path(path)
    with errors_name(path):
        make_folder(path.parent)
        _check_target(path, mark)
        folder, lock = _beside(path)
    try:
        try:
            for name, data in files.items():
                _write(folder / name, data, path)
            yield folder
        except InputError as error:
            raise renamed(error, folder, path) from error.__cause__
        with errors_name(path):
            system.calls.write_done(folder)
            for inner in (*sorted(p for p in folder.rglob("*") if p.is_dir()), folder):
                system.calls.fsync(inner)
            _put_in_place(folder, path)
            system.calls.fsync(path.parent)
    finally:
        # What was in its place, or what was not finished.
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def _check_target(path: Path, mark: str) -> None:
    """Raise OutputError if there is something else than a folder of this kind."""
    if os.path.lexists(path) and not path.is_dir():
        raise OutputError(
            "is a file; a folder would take its place", where=path, fix="name another output"
        )
    if path.is_dir() and any(path.iterdir()) and not (path / mark).is_file():
        raise OutputError(
            f"is a folder without {mark}, which would be lost",
            where=path,
            fix="name another output",
        )


def _beside(path: Path) -> tuple[Path, int]:
    """Make the folder beside ``path``, empty and locked, and return it with its handle."""
    for number in itertools.count():
        folder = temporary_name(path, number)
        folder.mkdir(exist_ok=True)
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        # A name that was renamed in the meantime is somebody's target.
        if try_lock(handle) is not False:
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.stat(folder, follow_symlinks=False), os.fstat(handle)):
                    for left in folder.iterdir():
                        shutil.rmtree(left) if left.is_dir() else left.unlink()
                    return folder, handle
        os.close(handle)
    raise AssertionError


def _write(path: Path, data: bytes, target: Path) -> None:
    """Write one file of the folder, to disk."""
    with writing(path, target) as file:
        file.write(data)


@contextlib.contextmanager
def writing(path: Path, target: str | os.PathLike[str]) -> Iterator[Output]:
    """Give a file of the folder of :func:`replacing_folder`, flushed to disk at the end.

    Parameters
    ----------
    path : path
    target : path
        Name in errors.
    """
    target = Path(target)
    with errors_name(target):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
    with contextlib.closing(Output(handle, path, target)) as file:
        yield file
        with errors_name(target):
            system.calls.fsync(path)


def _put_in_place(folder: Path, path: Path) -> None:
    """Give a folder the name ``path``; what had it gets the name of the folder."""
    if not path.exists():
        system.calls.rename(folder, path)
        return
    if system.calls.exchange(folder, path):
        return
    # Elsewhere there is a moment without a folder of this name.
    old = temporary_name(path, 0xFFFFFFFF)
    shutil.rmtree(old, ignore_errors=True)
    system.calls.rename(path, old)
    try:
        system.calls.rename(folder, path)
    except OSError:
        system.calls.rename(old, path)
        raise
    shutil.rmtree(old, ignore_errors=True)
