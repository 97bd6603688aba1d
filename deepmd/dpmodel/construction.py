# SPDX-License-Identifier: LGPL-3.0-or-later
"""Building modules from dictionaries that may hold anything.

A dictionary comes out of a file, which may be damaged or hostile: values of other types, missing
parts, or settings from which a constructor would make larger arrays than the file holds.
"""

import contextlib
import math
import types
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from typing import Any, Union, get_args, get_origin

import numpy as np

from deepmd.base.errors import InputError, ModelFileError

#: What reading a dictionary of another form raises in the middle of a constructor.
FOREIGN = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    MemoryError,
    RecursionError,
    TypeError,
    ValueError,
)
#: Numbers that constructors may make for a small file, and beyond that per byte in the file: each
#: array is made by its own module, and by those around it.
_FLOOR, _TIMES = 1 << 22, 4
#: Numbers that a module counts for beside those of its arrays.
_MODULE = 1000
_left: ContextVar[list[float] | None] = ContextVar("numbers left", default=None)
_complete: ContextVar[bool] = ContextVar("all arrays are in the dictionary", default=False)


@contextlib.contextmanager
def constructing(data: Any, *, complete: bool = False) -> Iterator[None]:
    """Bound what constructors make, and turn their exceptions into ModelFileError.

    Parameters
    ----------
    data : dict
        Of the model. Inside of another block this one adds nothing.
    complete : bool
        Whether every array is read from the dictionary, so that constructors need not draw random
        numbers for it.

    Raises
    ------
    ModelFileError
        In place of exceptions from a dictionary of another form.
    """
    if _left.get() is not None:
        yield
        return
    token = _left.set([_FLOOR + _TIMES * numbers_in(data)])
    whole = _complete.set(complete)
    try:
        with np.errstate(all="ignore"):
            yield
    except ModelFileError:
        raise
    except InputError as error:
        where = "" if error.where is None else f"{error.where}: "
        raise ModelFileError(f"{where}{error.what}", fix=error.fix) from error
    except FOREIGN as error:
        text = " ".join(str(error).split())[:200]
        raise ModelFileError(
            f"holds no model of a known form ({type(error).__name__}: {text})",
            fix="the file is damaged or was made by another program: convert it again",
        ) from error
    finally:
        _left.reset(token)
        _complete.reset(whole)


def is_replaced() -> bool:
    """Whether the arrays that constructors make will be replaced by those of a dictionary."""
    return _complete.get()


def numbers_in(data: Any) -> int:
    """Return how many bytes the arrays of a dictionary hold, and what its modules count for."""
    count, todo = 0, [data]
    while todo:
        node = todo.pop()
        if hasattr(node, "nbytes"):  # of any framework
            count += int(node.nbytes)
        elif isinstance(node, Mapping):
            count += _MODULE
            todo += node.values()
        elif isinstance(node, (list, tuple)):
            todo += node
    return count


def claim(*shape: int) -> None:
    """Count an array that a constructor is about to make.

    Raises
    ------
    ModelFileError
        While a file is read that cannot hold so many numbers.
    """
    left = _left.get()
    if left is None:
        return
    left[0] -= math.prod(shape)
    if min(shape, default=0) < 0 or left[0] < 0:
        raise ModelFileError("the settings of the model describe larger arrays than the file holds")


def claim_module() -> None:
    """Count a module that was made."""
    claim(_MODULE)


def fits(value: Any, annotation: Any) -> bool:
    """Whether a value read from a file has the type of a setting; integers do as floats."""
    kind = get_origin(annotation)
    if kind in (types.UnionType, Union):
        return any(fits(value, a) for a in get_args(annotation))
    if kind in (list, tuple):
        inner = [a for a in get_args(annotation) if a is not ...]
        return isinstance(value, (list, tuple)) and all(
            any(fits(v, a) for a in inner or [Any]) for v in value
        )
    if annotation in (None, types.NoneType):
        return value is None
    if annotation is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if annotation is int:
        return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 1 << 53
    plain = isinstance(annotation, type) and kind is None and annotation is not Any
    return not plain or isinstance(value, annotation)


def check_same(made: Any, read: Any, where: str) -> None:
    """Raise ModelFileError if a child that was read is not of the form that the settings describe.

    Children that the constructor did not make are accepted.
    """
    if made is None or (isinstance(made, (list, tuple)) and not made):
        return
    if read is None:
        raise ModelFileError(f"{where} is null")
    if isinstance(made, Mapping) or isinstance(read, Mapping):
        return
    if isinstance(made, (list, tuple)):
        if not isinstance(read, (list, tuple)) or len(made) != len(read):
            raise ModelFileError(f"{where} has {_length(read)} parts, expected {len(made)}")
        for k, (a, b) in enumerate(zip(made, read, strict=True)):
            check_same(a, b, f"{where}, {k}")
        return
    if type(made) is not type(read):
        raise ModelFileError(
            f"{where} is of class {type(read).__name__}, expected {type(made).__name__}"
        )
    for name in made.serial.arrays:
        a, b = getattr(made, name), getattr(read, name)
        if isinstance(a, np.ndarray) and isinstance(b, np.ndarray) and a.shape != b.shape:
            raise ModelFileError(f"{name} of {where} has shape {b.shape}, expected {a.shape}")
    for name in made.serial.children:
        check_same(getattr(made, name), getattr(read, name), f"{name} of {where}")


def _length(value: Any) -> int:
    return len(value) if isinstance(value, (list, tuple)) else 1
