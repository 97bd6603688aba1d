# SPDX-License-Identifier: LGPL-3.0-or-later
"""Functions of ``libdeepmd_training``, which take the addresses of arrays.

See ``source/training/training.h``. Where the library was not built, there are none.
"""

import ctypes
import functools
from collections.abc import Sequence
from typing import Any

import torch

from deepmd.base import native

Tensor = torch.Tensor

_NAMES = {torch.float64: "f64", torch.float32: "f32"}
_POINTER, _NUMBER, _INT = ctypes.c_void_p, ctypes.c_int64, ctypes.c_int32

#: Functions of both kinds of attention.
_ATTENTION: dict[str, tuple[Any, list[Any]]] = {
    "count": (None, [_POINTER, *[_NUMBER] * 2, *[_POINTER] * 3]),
    "value": (_INT, [_POINTER] * 3),
    "vjp": (_INT, [_POINTER] * 6),
    "jvp": (_INT, [_POINTER] * 6),
    "vjp_of_vjp": (_INT, [_POINTER] * 7),
}
#: Name -> type of the result, types of the arguments. Those with a status run :func:`checked`.
_TYPES: dict[str, tuple[Any, list[Any]]] = {
    "embedding_new": (_POINTER, [_NUMBER, *[_POINTER] * 4]),
    "embedding_free": (None, [_POINTER]),
    "embedding_state": (_NUMBER, [_POINTER]),
    "embedding_count": (None, [_NUMBER, _NUMBER, _POINTER, _POINTER]),
    "embedding_value": (_INT, [_POINTER] * 3),
    "embedding_vjp": (_INT, [_POINTER] * 4),
    "embedding_jvp": (_INT, [_POINTER] * 4),
    "embedding_vjp_of_vjp": (_INT, [_POINTER] * 7),
    "interpolated_new": (_POINTER, [_NUMBER, *[_POINTER] * 4, _NUMBER, _POINTER]),
    "interpolated_free": (None, [_POINTER]),
    "interpolated_value": (_INT, [_POINTER] * 3),
    "interpolated_vjp": (_INT, [_POINTER] * 4),
    "interpolated_jvp": (_INT, [_POINTER] * 4),
    "interpolated_vjp_of_vjp": (_INT, [_POINTER] * 7),
    "activated_value": (_INT, [_POINTER, _NUMBER, _INT, *[_POINTER] * 3]),
    "activated_vjp": (_INT, [_POINTER, _INT, *[_POINTER] * 5]),
    "activated_jvp": (_INT, [_POINTER, _NUMBER, _INT, *[_POINTER] * 5]),
    "activated_vjp_of_vjp": (_INT, [_POINTER, _INT, *[_POINTER] * 8]),
    **{
        f"{name}_{function}": types
        for name in ("attention", "pair_attention")
        for function, types in _ATTENTION.items()
    },
    "convolution_state": (_NUMBER, [_POINTER]),
    "convolution_value": (_INT, [_POINTER] * 3),
    "convolution_vjp": (_INT, [_POINTER] * 3),
    "convolution_jvp": (_INT, [_POINTER] * 4),
    "convolution_vjp_of_vjp": (_INT, [_POINTER] * 6),
    "scalar_value": (_INT, [_POINTER, *[_NUMBER] * 2, _POINTER, _INT, _POINTER]),
    "scalar_vjp": (_INT, [_POINTER, *[_NUMBER] * 2, *[_POINTER] * 2, _INT, _POINTER]),
    "scalar_jvp": (_INT, [_POINTER, *[_NUMBER] * 2, *[_POINTER] * 2, _INT, _POINTER]),
    "scalar_vjp_of_vjp": (_INT, [_POINTER, *[_NUMBER] * 2, *[_POINTER] * 4, _INT, *[_POINTER] * 2]),
    "segment_sum": (_INT, [*[_NUMBER] * 3, _POINTER, _POINTER, _INT, _POINTER]),
}


class Kernels:
    """Functions of one precision, by their names in ``training.h``."""

    def __init__(self, library: ctypes.CDLL, name: str) -> None:
        for function, (result, arguments) in _TYPES.items():
            found = getattr(library, f"deepmd_{function}_{name}")
            found.restype, found.argtypes = result, arguments
            setattr(self, function, checked(found) if result is _INT else found)


def checked(function: Any) -> Any:
    """Return a function that raises MemoryError in place of a status that is not 0."""

    def call(*args: Any) -> None:
        if function(*args):
            raise MemoryError("there is no memory for a batch")

    return call


@functools.cache
def _library() -> ctypes.CDLL | None:
    library = native.load("deepmd_training")
    if library is not None:
        library.deepmd_are_segments.argtypes = [_NUMBER, _POINTER, _NUMBER]
        library.deepmd_training_use_threads.argtypes = [_POINTER]
        library.deepmd_training_use_threads(_team())
    return library


def _team() -> Any:
    """Return the address by which work runs on PyTorch's own threads, or None if there is none.

    They wait for work in a loop for a while: threads beside them would share their processors.
    """
    try:
        return ctypes.cast(ctypes.CDLL(None).GOMP_parallel, _POINTER)
    except (AttributeError, OSError, TypeError):  # another OpenMP, or Windows
        return None


@functools.cache
def kernels(dtype: torch.dtype) -> Any:
    """Return the functions of a precision, or None if there are none."""
    library = _library() if dtype in _NAMES else None
    return None if library is None else Kernels(library, _NAMES[dtype])


def are_segments(segment: Tensor, n: int, *, ascending: bool) -> bool:
    """Whether (k,) are rows of an array of n; in ascending order, if this is asked for."""
    library = _library()
    if library is None or segment.dtype != torch.int64:
        return False
    order = library.deepmd_are_segments(len(segment), segment.contiguous().data_ptr(), int(n))
    return order >= (2 if ascending else 1)


def threads() -> int:
    """Return the number of threads that operations use."""
    return torch.get_num_threads()


def pointers(arrays: Sequence[Tensor]) -> Any:
    """Return the addresses of arrays, as an array."""
    return (_POINTER * len(arrays))(*(x.data_ptr() for x in arrays))
