# SPDX-License-Identifier: LGPL-3.0-or-later
"""Files appear whole or not at all: write beside the target, flush to disk, rename.

Every writer goes through :func:`replacing` or :func:`appending`. Libraries make their bytes in
memory or write into a :class:`Sink`: those that stream into a file themselves end the process when
the disk is full.

The file beside the target is locked while its process lives. What a killed process left is not
locked any more; the next one that writes the same target uses it again.
"""

import contextlib
import ctypes
import errno
import fcntl
import io
import itertools
import os
import re
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TextIO

from deepmd.base.errors import InputError, OutputError

_LONGEST_NAME = 255
#: How to mend errors of the system.
_FIXES = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), "free space there, or choose another folder"),
    **dict.fromkeys(
        (errno.EACCES, errno.EPERM, errno.EROFS), "choose a folder that you may write to"
    ),
    errno.EISDIR: "name a file",
    errno.ENOTDIR: "a file is in the place of its folder",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.EFBIG: "raise the limit of file sizes (ulimit -f)",
}


#: Of Linux's ``renameat2``: paths relative to the working folder; both names are exchanged.
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2


class SystemCalls:
    """The few calls that make a file durable; tests replace them to inject faults."""

    def write(self, handle: int, data: memoryview) -> int:
        """Write the beginning of ``data``, and return the number of its bytes."""
        return os.write(handle, data)

    def write_done(self, path: Path) -> None:
        """Follow the last write to ``path``, before it is flushed."""

    def fsync(self, path: Path) -> None:
        """Force the contents of a file, or the entries of a folder, to disk."""
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)

    def rename(self, source: Path, target: Path) -> None:
        """Put ``source`` in the place of ``target`` in one step."""
        os.replace(source, target)

    def exchange(self, first: Path, second: Path) -> bool:
        """Exchange two names in one step; return False where the system cannot."""
        function = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
        if function is None:
            return False
        names = os.fsencode(first), os.fsencode(second)
        if function(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _RENAME_EXCHANGE) == 0:
            return True
        error = ctypes.get_errno()
        if error in (errno.ENOSYS, errno.EINVAL):
            return False
        raise OSError(error, os.strerror(error))


calls = SystemCalls()


class Output(io.RawIOBase):
    """File that is being written.

    Parameters
    ----------
    handle : int
    path : Path
        Where the bytes lie before the end, for reading them back.
    target : Path
        The file that was asked for, which errors name.
    """

    def __init__(self, handle: int, path: Path, target: Path) -> None:
        super().__init__()
        self.handle, self.path, self.target = handle, path, target
        self.written = 0

    def writable(self) -> bool:
        """Whether this file takes bytes: it does."""
        return True

    def write(self, data: "bytes | bytearray | memoryview") -> int:  # type: ignore[override]
        """Write all of ``data``, and return the number of its bytes."""
        rest = memoryview(data).cast("B")
        count = len(rest)
        with errors_name(self.target):
            while rest:
                done = calls.write(self.handle, rest)
                self.written += done
                rest = rest[done:]
        return count

    @contextlib.contextmanager
    def text(self) -> Iterator[TextIO]:
        """Give a text file, UTF-8, whose lines go into this one."""
        lines = io.TextIOWrapper(self, encoding="utf-8", newline="\n")  # type: ignore[type-var]
        try:
            yield lines
            lines.flush()
        finally:
            with contextlib.suppress(OutputError):  # after a failed write, it fails again
                lines.detach()

    @contextlib.contextmanager
    def sink(self) -> Iterator["Sink"]:
        """Give a file for libraries that do not survive an error; it is raised at the end."""
        sink = Sink(self)
        yield sink
        if sink.error is not None:
            raise sink.error

    def close(self) -> None:
        """Close the file, and give up its lock."""
        if not self.closed:
            super().close()
            os.close(self.handle)


class Sink:
    """Bytes for an :class:`Output`; after the first error, which is kept, they are dropped."""

    def __init__(self, file: Output) -> None:
        self.file = file
        self.error: OutputError | None = None

    def write(self, data: "bytes | bytearray | memoryview") -> int:
        """Write all of ``data``, or drop it; return the number of its bytes."""
        if self.error is None:
            try:
                self.file.write(data)
            except OutputError as error:
                self.error = error
        return memoryview(data).nbytes

    def flush(self) -> None:
        """Do nothing: every write is complete."""


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Output]:
    """Give a file beside ``path`` and rename it over ``path`` at the end.

    It has the suffix of ``path``, since readers look at it. When the block raises, the file is
    removed and ``path`` stays as it was. Devices and pipes are written directly.

    Raises
    ------
    OutputError
        If the file cannot be written. This and other input errors of the block name ``path``.
    """
    path = Path(path)
    with errors_name(path):
        make_folder(path.parent)
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        direct = path.exists() and not path.is_file()
        file = Output(os.open(path, os.O_WRONLY), path, path) if direct else _beside(path)
    try:
        try:
            yield file
        except InputError as error:
            raise renamed(error, file.path, path) from error.__cause__
        if not direct:
            with errors_name(path):
                calls.write_done(file.path)
                calls.fsync(file.path)
                calls.rename(file.path, path)
                calls.fsync(path.parent)
            _remove_fragments_of(path)
    finally:
        if not direct:
            _unlink_own(file)
        file.close()


@contextlib.contextmanager
def appending(path: str | os.PathLike[str]) -> Iterator[Output]:
    """Give the end of a file to write at; when the block raises, the file is as it was.

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    path = Path(path)
    with errors_name(path):
        make_folder(path.parent)
        new = not path.exists()
        file = Output(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666), path, path)
    size = os.fstat(file.handle).st_size
    try:
        yield file
    except BaseException:
        with contextlib.suppress(OSError):  # as far as it goes: the first error counts
            if new:
                path.unlink()
            elif os.fstat(file.handle).st_size == size + file.written > size:
                os.ftruncate(file.handle, size)
        raise
    finally:
        file.close()


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write a text file atomically, UTF-8."""
    with replacing(path) as file:
        file.write(text.encode())


def append_text(path: str | os.PathLike[str], text: str) -> None:
    """Append to a text file, UTF-8: everything or nothing."""
    with appending(path) as file:
        file.write(text.encode())


def hdf5_bytes(fill: Callable[[Any], object], start: bytes = b"") -> bytes:
    """Return an HDF5 file that is made in memory.

    The HDF5 library does not survive a full disk: it ends the process when it closes the file.

    Parameters
    ----------
    fill : function
        Stores something in the open file.
    start : bytes
        File that is changed; by default there is none, and the file is empty.
    """
    import h5py  # heavy, and needed for HDF5 files only

    memory = io.BytesIO(start)
    with h5py.File(memory, "a" if start else "w") as handle:
        fill(handle)
    return memory.getvalue()


def link_or_copy(source: str | os.PathLike[str], target: str | os.PathLike[str]) -> None:
    """Make ``target`` a symbolic link to ``source`` of the same folder, by rename; copy if links fail."""
    source, target = Path(source), Path(target)
    temporary = target.with_name(f".{target.name}.{os.getpid() & 0xFFFFFFFF:08x}.tmp")
    try:
        with errors_name(target):
            temporary.unlink(missing_ok=True)
            os.symlink(os.path.relpath(source, target.parent), temporary)
    except OutputError:
        with replacing(target) as file:
            file.write(source.read_bytes())
        return
    try:
        with errors_name(target):
            calls.rename(temporary, target)
            calls.fsync(target.parent)
    finally:
        temporary.unlink(missing_ok=True)


def make_folder(path: Path) -> None:
    """Make a folder and those that it lies in."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR)) from None


# -- errors ---------------------------------------------------------------------------------------


@contextlib.contextmanager
def errors_name(path: Path) -> Iterator[None]:
    """Turn errors of the system into one that names the file that was asked for."""
    try:
        yield
    except OutputError:
        raise
    except OSError as error:
        raise OutputError.of(error, path, _FIXES.get(error.errno or 0)) from error


def renamed(error: InputError, temporary: Path, path: Path) -> InputError:
    """Return an error that names ``path`` where it named the file beside it."""
    if temporary == path:
        return error
    what = error.what.replace(str(temporary), str(path)).replace(temporary.name, path.name)
    mine = error.where is not None and os.fspath(error.where) == str(temporary)
    if what == error.what and not mine:
        return error
    return type(error)(what, where=path if mine else error.where, fix=error.fix)


# -- the file beside the target, and what is left of it -------------------------------------------


def temporary_name(path: Path, number: int = 0) -> Path:
    """Return the path of the file that is written before it is called ``path``."""
    tail = f".{number:08x}.tmp{path.suffix}"
    room = _LONGEST_NAME - 1 - len(os.fsencode(tail))
    if room < 1:  # no suffix of ours is that long
        tail = f".{number:08x}.tmp"
        room = _LONGEST_NAME - 1 - len(tail)
    stem = os.fsencode(path.stem)[:room].decode(errors="ignore")
    return path.with_name(f".{stem}{tail}")


def _beside(path: Path) -> Output:
    """Open the file beside ``path``, empty; with another number if a living process has it."""
    for number in itertools.count():
        temporary = temporary_name(path, number)
        handle = _claim(temporary)
        if handle is not None:
            return Output(handle, temporary, path)
    raise AssertionError


def _claim(path: Path) -> int | None:
    """Open a file for this process alone; return None if it belongs to another one."""
    while True:
        created = True
        try:
            handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        except FileExistsError:
            created = False
            try:
                handle = os.open(path, os.O_RDWR | os.O_NOFOLLOW)
            except FileNotFoundError:
                continue
            except OSError:  # of another user, or no file
                return None
        locked = try_lock(handle)
        if locked or (created and locked is None):
            # Its last owner may have renamed it in the meantime: then it is somebody's target.
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.stat(path, follow_symlinks=False), os.fstat(handle)):
                    os.ftruncate(handle, 0)
                    return handle
            os.close(handle)
            continue
        os.close(handle)
        return None


def try_lock(handle: int) -> bool | None:
    """Lock an open file; return whether it could be, or None where there are no locks."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # some file systems of networks
        return None
    return True


def _unlink_own(file: Output) -> None:
    """Remove the file beside the target, if it is still there; called with its lock held."""
    with contextlib.suppress(OSError):
        if os.path.samestat(os.stat(file.path), os.fstat(file.handle)):
            file.path.unlink()


def _remove_fragments_of(path: Path) -> None:
    """Remove what further killed processes left of ``path``."""
    for number in itertools.count(1):
        fragment = temporary_name(path, number)
        if not os.path.lexists(fragment):
            return
        _remove_if_abandoned(fragment)


def remove_fragments(folder: Path, stem: str, suffix: str) -> None:
    """Remove what :func:`replacing` and :func:`link_or_copy` leave when they are killed.

    Parameters
    ----------
    folder : path
    stem : str
        Regular expression for the name of the target without suffix.
    suffix : str
    """
    pattern = re.compile(rf"\.{stem}\.[0-9a-f]{{8}}\.tmp{re.escape(suffix)}")
    for path in folder.glob(".*") if folder.is_dir() else ():
        if pattern.fullmatch(path.name):
            _remove_if_abandoned(path)


def _remove_if_abandoned(path: Path) -> None:
    """Remove a fragment unless a living process writes it."""
    with contextlib.suppress(OSError):  # gone, or not ours: it does no harm
        if stat.S_ISLNK(os.lstat(path).st_mode):
            path.unlink()
            return
        handle = os.open(path, os.O_RDWR | os.O_NOFOLLOW)
        try:
            locked = try_lock(handle)
            old = time.time() - os.fstat(handle).st_mtime > 3600.0
            if locked or (locked is None and old):
                path.unlink()
        finally:
            os.close(handle)
