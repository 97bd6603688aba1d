# SPDX-License-Identifier: LGPL-3.0-or-later
"""The door through which all files are read: inputs, data and, by ``io.guard``, models.

Damaged, foreign and hostile files make libraries raise whatever they like, or take any amount of
memory. Readers work inside of :func:`reading`, which turns that into one line, and check sizes
before they take memory.
"""

import contextlib
import logging
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from deepmd.base.errors import DataError, InputError

log = logging.getLogger(__name__)

#: Largest text file that is read at once [bytes].
MAX_TEXT = 1 << 24
#: Levels of dictionaries and lists (model dictionaries have about 20), and entries of an input;
#: parts that are referred to repeatedly count as often.
MAX_DEPTH, MAX_ENTRIES = 64, 1_000_000
#: Longest key of an input.
MAX_KEY = 200


@contextlib.contextmanager
def reading(
    where: Any,
    error_class: type[InputError] = DataError,
    *,
    fix: str | None = "write or copy it again",
    noun: str = "file",
    absent: str = "is missing",
) -> Iterator[None]:
    """Turn whatever is raised while a file is read into an error that names it.

    Parameters
    ----------
    where : path
    error_class : type
        Of the error that is raised.
    fix : str, optional
        Advice for files that are incomplete, damaged or of another kind.
    noun : str
        What the file should be.
    absent : str
        What is said, behind the noun, of a file that is not there.

    Raises
    ------
    InputError
        Of the class, in place of every other exception; input errors stay as they are.
    """
    try:
        yield
    except InputError:
        raise
    except FileNotFoundError:
        raise error_class(f"{noun} {absent}", where=where) from None
    except IsADirectoryError:
        raise error_class(f"is a folder, a {noun} was expected", where=where) from None
    except PermissionError:
        raise error_class("may not be read", where=where, fix="change its permissions") from None
    except MemoryError as error:
        what = "takes more memory than there is: it is large, or damaged"
        raise error_class(what, where=where, fix=fix) from error
    except RecursionError as error:
        raise error_class("is nested too deeply", where=where, fix=fix) from error
    except Exception as error:
        log.debug("reading %s", where, exc_info=True)
        raise error_class(
            f"cannot be read, it is incomplete, damaged or of another kind ({reason(error)})",
            where=where,
            fix=fix,
        ) from error


def reason(error: BaseException) -> str:
    """Return the first line of what another library raised, short and without its quotes.

    The kind of the error comes before a text that is no sentence, such as the name of a key.
    """
    if isinstance(error, OSError) and error.errno and error.strerror:
        return error.strerror
    lines = str(error).strip("'\" \n").splitlines() or [""]
    text, name = shown(lines[0], 200), type(error).__name__
    sentence = isinstance(error, (OSError, RuntimeError, ValueError))
    return (text if sentence else f"{name}: {text}") if text else name


def shown(text: str, most: int = 40) -> str:
    """Return a text of a file as it can stand in a message."""
    line = " ".join(text[: 2 * most].split())
    line = "".join(c if c.isprintable() else "?" for c in line)
    return line if len(line) <= most and len(text) <= 2 * most else line[: most - 3] + "..."


def read_small_text(
    path: str | os.PathLike[str],
    error_class: type[InputError] = DataError,
    *,
    absent: str = "is missing",
) -> str:
    """Read a UTF-8 text file that the user named; ``absent`` as of :func:`reading`.

    Raises
    ------
    InputError
        Of the class, if it is missing, no text, or too large for what it should be.
    """
    path = Path(path)
    with reading(path, error_class, absent=absent):
        size = path.stat().st_size
        if size > MAX_TEXT:
            raise error_class(
                f"has {size:,} bytes, at most {MAX_TEXT:,} are read", where=path, fix="check it"
            )
        try:
            return path.read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise error_class(
                f"is not a text file (byte {error.start} is not UTF-8)",
                where=path,
                fix="write it as plain text",
            ) from None


def check_input_tree(tree: Any, where: Any) -> None:
    """Make sure that a tree is made of objects, lists, texts and finite numbers, and is no bomb.

    Raises
    ------
    InputError
        With the place, as a path of keys.
    """
    count = 0
    todo = [(tree, "", 0)]
    while todo:
        node, place, depth = todo.pop()
        count += len(node) if isinstance(node, (dict, list)) else 0
        if count > MAX_ENTRIES:
            raise InputError(f"has more than {MAX_ENTRIES:,} entries", where=where)
        if isinstance(node, dict):
            parts = [(v, f"{place}/{k}" if place else str(k)) for k, v in node.items()]
            for key in node:
                if isinstance(key, str) and len(key) > MAX_KEY:
                    raise InputError(f'key "{shown(key)}" is no name', where=where)
                _check_leaf(key, place, where)
        elif isinstance(node, list):
            parts = [(v, f"{place}[{k}]") for k, v in enumerate(node)]
        else:
            _check_leaf(node, place, where)
            continue
        if depth >= MAX_DEPTH:
            raise InputError("is nested too deeply", where=where)
        todo += [(v, p, depth + 1) for v, p in reversed(parts)]


def _check_leaf(value: Any, place: str, where: Any) -> None:
    what = None
    if isinstance(value, str):
        if "\0" in value or not _can_be_written(value):
            what = f'"{shown(value)}" holds characters that no text file can'
    elif isinstance(value, float):
        if not math.isfinite(value):
            what = f"{value} is not a number that can be used"
    elif isinstance(value, int):
        if abs(value) >= 1 << 64:
            what = "found an integer beyond 64 bits"
    elif value is not None:
        what = f"a value of the kind {type(value).__name__} is not understood"
    if what is not None:
        raise InputError(what, where=f"{where}: {shown(place, 80)}" if place else where)


def _can_be_written(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
