# SPDX-License-Identifier: LGPL-3.0-or-later
"""Errors a user can cause, and how they are worded.

The command line prints an :class:`InputError` on one line, without a traceback, and exits with 1.
Anything else that is raised is a defect of this program and keeps its traceback.
"""

import contextlib
import difflib
from collections.abc import Iterable, Iterator
from os import PathLike


class InputError(ValueError):
    """Something the user gave is wrong.

    Parameters
    ----------
    what : str
        What was found and what was expected.
    where : str or path, optional
        The file, JSON path or option it was found in.
    fix : str, optional
        How to mend it.
    """

    def __init__(
        self, what: str, *, where: str | PathLike[str] | None = None, fix: str | None = None
    ) -> None:
        self.what, self.where, self.fix = what, where, fix
        text = what if where is None else f"{where}: {what}"
        super().__init__(text if fix is None else f"{text}; {fix}")


class DataError(InputError):
    """Training or test data are missing, mis-shaped or not finite."""


class ModelFileError(InputError):
    """A model file or checkpoint cannot be used."""


class NotAvailableError(InputError):
    """A command, backend or component is not built or not installed here."""


class OutputError(OSError, InputError):
    """A file cannot be written; an error of the system, too, with its number."""

    def __init__(
        self, what: str, *, where: str | PathLike[str] | None = None, fix: str | None = None
    ) -> None:
        InputError.__init__(self, what, where=where, fix=fix)

    @classmethod
    def of(cls, error: OSError, path: str | PathLike[str], fix: str | None = None) -> "OutputError":
        """Return an error of the system as one that names the file that was asked for."""
        reason = error.strerror or " ".join(str(error).split())
        made = cls(f"cannot be written: {reason}", where=path, fix=fix)
        made.errno = error.errno
        return made


class TrainingDivergedError(InputError):
    """A loss or a parameter became NaN or infinite."""


@contextlib.contextmanager
def located(where: str | PathLike[str]) -> Iterator[None]:
    """Say of the input errors of a block where they were found."""
    try:
        yield
    except InputError as error:
        raise type(error)(error.what, where=where, fix=error.fix) from None


def closest_name(name: str, known: Iterable[str]) -> str | None:
    """Return the known name most like ``name``, or None when none is close."""
    match = difflib.get_close_matches(name, [str(k) for k in known], n=1, cutoff=0.6)
    return match[0] if match else None


def did_you_mean(name: str, known: Iterable[str]) -> str | None:
    """Return ``did you mean "x"?`` for the nearest known name, or a list of what there is."""
    known = sorted({str(k) for k in known})
    match = closest_name(name, known)
    if match is not None:
        return f'did you mean "{match}"?'
    return f"known: {', '.join(known)}" if known else None
