# SPDX-License-Identifier: LGPL-3.0-or-later
"""The door through which every model file and checkpoint is read.

Readers work inside of :func:`opening`, the door of model files (see :mod:`deepmd.base.reading`), and
check sizes before they take memory.
"""

import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from deepmd.base.errors import InputError, ModelFileError
from deepmd.base.reading import MAX_DEPTH, reading

AGAIN = "copy or freeze it again"
#: Bytes that a small file may unpack to; larger ones may grow by the factor.
UNPACKED, GROWTH = 1 << 26, 20
#: Models of a file that may have arrays in common.
MODELS = 128
#: Entries of the trees of small files; others have at most one per byte.
ENTRIES = 1 << 20


@contextlib.contextmanager
def opening(path: str | os.PathLike[str], fix: str = AGAIN) -> Iterator[None]:
    """Turn whatever is raised while a model file is read into a ModelFileError that names it.

    Parameters
    ----------
    path : path
    fix : str
        Advice for files that are incomplete, damaged or of another kind.

    Raises
    ------
    ModelFileError
        In place of every other exception. Input errors keep their class and get the path.
    """
    try:
        with reading(path, ModelFileError, fix=fix, noun="model file", absent="not found"):
            yield
    except InputError as error:
        inside = error.where is not None and os.fspath(error.where) != os.fspath(path)
        what = f"{error.where}: {error.what}" if inside else error.what
        raise type(error)(what, where=path, fix=error.fix) from error.__cause__


def regular_size(path: str | os.PathLike[str]) -> int:
    """Return the size of a file [bytes]; raise ModelFileError for pipes and devices."""
    path = Path(path)
    if not path.is_file():
        if path.is_dir():
            raise IsADirectoryError(path)
        if path.exists():
            raise ModelFileError("is no regular file", where=path)
        raise FileNotFoundError(path)
    return path.stat().st_size


class Allowance:
    """Bytes that the arrays of a file may take in memory, in proportion to its size.

    Parameters
    ----------
    size : int
        Of the file [bytes].
    models : int
        Models in it, which may refer to the same arrays.
    """

    def __init__(self, size: int, models: int = 1) -> None:
        self.left = max(UNPACKED, (GROWTH + min(models, MODELS)) * size)

    def take(self, amount: int, what: str) -> None:
        """Count bytes that are about to be read; raise ModelFileError if they are too many."""
        self.left -= amount
        if self.left < 0:
            raise ModelFileError(
                f"{what} claims {amount:,} bytes, which the file cannot hold", fix=AGAIN
            )


def check_model_tree(tree: Any, size: int) -> None:
    """Raise ModelFileError for a tree that is nested too deeply, or has too many entries.

    Parts that are referred to repeatedly count as often. ``size`` is that of the file [bytes].
    """
    limit, count = max(ENTRIES, size), 0
    todo = [(tree, 0)]
    while todo:
        node, depth = todo.pop()
        if isinstance(node, Mapping):
            parts: Any = node.values()
        elif isinstance(node, (list, tuple)):
            parts = node
        else:
            continue
        count += len(parts)
        if depth >= MAX_DEPTH:
            raise ModelFileError("is nested too deeply", fix=AGAIN)
        if count > limit:
            raise ModelFileError("repeats its parts too often", fix=AGAIN)
        todo += [(part, depth + 1) for part in parts]
