# SPDX-License-Identifier: LGPL-3.0-or-later
"""Log lines of the command line: on stderr, and in a file if asked."""

import contextlib
import logging
import os
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TextIO, TypeVar

from deepmd.base.files import append_text
from deepmd.base.launcher import processes

log = logging.getLogger(__name__)
T = TypeVar("T")

LEVELS = {"DEBUG": 10, "3": 10, "INFO": 20, "2": 20, "WARNING": 30, "1": 30, "ERROR": 40, "0": 40}


class _StderrHandler(logging.StreamHandler[TextIO]):
    """Writes to what sys.stderr is at that moment."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> TextIO:  # type: ignore[override]
        """Standard error."""
        return sys.stderr


def set_up_logging(
    level: str = "INFO", path: str | os.PathLike[str] | None = None, mpi_log: str = "master"
) -> None:
    """Send log lines of this package to stderr and to a file.

    Parameters
    ----------
    level : str
        DEBUG, INFO, WARNING, ERROR or 3, 2, 1, 0.
    path : path, optional
        A file that gets the lines too.
    mpi_log : {"master", "collect", "workers"}
        With several processes: only the first writes; all write to one file; each to its own file.

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    logger = logging.getLogger("deepmd")
    clear_logging()
    started = processes()
    rank = started.rank
    prefix = f"[{rank}] " if started.size > 1 else ""
    logger.setLevel(LEVELS[level.upper()])
    handlers: list[logging.Handler] = []
    if rank == 0 or mpi_log != "master":
        handlers.append(_StderrHandler())
        if path is not None:
            handlers.append(_file_handler(Path(path), rank if mpi_log == "workers" else None))
    else:
        handlers.append(logging.NullHandler())
    form = logging.Formatter(f"{prefix}[%(asctime)s] DEEPMD %(levelname)-7s %(message)s")
    for handler in handlers:
        handler.setFormatter(form)
        logger.addHandler(handler)


def with_progress(items: Sequence[T], what: str, seconds: float = 5.0) -> Iterator[T]:
    """Iterate over items, and log now and then how many are done: ``opened 400 of 2000 systems``.

    Parameters
    ----------
    items : sequence
    what : str
        Text with ``%d`` for both numbers.
    seconds : float
        Time before the first line; the later ones come ever more slowly.
    """
    last = time.monotonic()
    for number, item in enumerate(items):
        yield item
        if time.monotonic() - last >= seconds and number + 1 < len(items):
            last, seconds = time.monotonic(), min(1.5 * seconds, 60.0)
            log.info(what, number + 1, len(items))


def clear_logging() -> None:
    """Take the handlers away again."""
    logger = logging.getLogger("deepmd")
    for handler in list(logger.handlers):
        logger.removeHandler(handler)
        handler.close()


def _file_handler(path: Path, rank: int | None) -> logging.Handler:
    if rank is not None:
        path = path.with_name(f"{path.stem}_{rank}{path.suffix}")
    append_text(path, "")  # its errors have the common form
    return _LogFile(path, encoding="utf-8")


class _LogFile(logging.FileHandler):
    """Log file; a full disk ends it with one line on stderr, and not the program."""

    def handleError(self, record: logging.LogRecord) -> None:
        """Give up the file after an error of the system; anything else is a defect."""
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            super().handleError(record)
            return
        logger = logging.getLogger("deepmd")
        logger.removeHandler(self)
        self.close()
        logger.warning(
            "%s: cannot be written: %s; the log goes on here only",
            self.baseFilename,
            error.strerror,
        )

    def close(self) -> None:
        """Close the file; what could not be written is lost."""
        with contextlib.suppress(OSError):
            super().close()
