# SPDX-License-Identifier: LGPL-3.0-or-later
"""Files appear whole or not at all: write beside the target, flush to disk, rename."""

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path


class SystemCalls:
    """The few calls that make a file durable; tests replace them to inject faults."""

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


calls = SystemCalls()


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a temporary path in the folder of ``path`` and rename it over ``path`` at the end.

    The suffix is kept, since writers look at it. When the block raises, the temporary file is
    removed and ``path`` stays as it was.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{secrets.token_hex(4)}.tmp{path.suffix}")
    try:
        yield temporary
        calls.write_done(temporary)
        calls.fsync(temporary)
        calls.rename(temporary, path)
        calls.fsync(path.parent)
    finally:
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write a text file atomically, UTF-8."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def link_or_copy(source: str | os.PathLike[str], target: str | os.PathLike[str]) -> None:
    """Make ``target`` a symbolic link to ``source`` of the same folder, by rename; copy if links fail."""
    source, target = Path(source), Path(target)
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
    try:
        try:
            os.symlink(os.path.relpath(source, target.parent), temporary)
        except OSError:
            temporary.write_bytes(source.read_bytes())
            calls.fsync(temporary)
        calls.rename(temporary, target)
        calls.fsync(target.parent)
    finally:
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()
