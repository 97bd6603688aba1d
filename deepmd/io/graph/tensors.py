# SPDX-License-Identifier: LGPL-3.0-or-later
"""Constant tensors of TensorFlow as NumPy arrays."""

import math
from typing import Any

import numpy as np

from deepmd.base.errors import ModelFileError
from deepmd.io.graph.messages import DATA_TYPES
from deepmd.io.guard import AGAIN, Allowance

#: NumPy's name of a data type, and the field of a tensor that has its values one by one.
KINDS = {
    "FLOAT": ("<f4", "float_val"),
    "DOUBLE": ("<f8", "double_val"),
    "HALF": ("<f2", "half_val"),
    "INT32": ("<i4", "int_val"),
    "INT16": ("<i2", "int_val"),
    "INT8": ("i1", "int_val"),
    "UINT16": ("<u2", "int_val"),
    "UINT8": ("u1", "int_val"),
    "INT64": ("<i8", "int64_val"),
    "UINT32": ("<u4", "uint32_val"),
    "UINT64": ("<u8", "uint64_val"),
    "BOOL": ("?", "bool_val"),
}


def kind_of(number: int) -> str:
    """Return the name of a data type, ``DOUBLE``."""
    return DATA_TYPES[number] if 0 <= number < len(DATA_TYPES) else f"number {number}"


def shape_of(message: Any, where: str) -> tuple[int, ...]:
    """Return the shape of a TensorShapeProto; raise ModelFileError if it is not known in full."""
    shape = tuple(d.size for d in message.dim)
    if message.unknown_rank or any(n < 0 for n in shape):
        raise ModelFileError(f"{where} has no shape", fix=AGAIN)
    return shape


def dtype_of(number: int, where: str) -> np.dtype:
    """Return the NumPy data type of a number; raise ModelFileError if there is none."""
    kind = kind_of(number)
    if kind not in KINDS:
        raise ModelFileError(f"{where} holds values of the type {kind}, which no model needs")
    return np.dtype(KINDS[kind][0])


def array_of(tensor: Any, where: str, allowance: Allowance) -> np.ndarray:
    """Return a TensorProto as an array; one of texts holds ``bytes``.

    Parameters
    ----------
    tensor : message
    where : str
        Name of its node.
    allowance : Allowance
        Of memory.

    Raises
    ------
    ModelFileError
        If its values do not fill its shape.
    """
    shape = shape_of(tensor.tensor_shape, where)
    count = math.prod(shape)
    if kind_of(tensor.dtype) == "STRING":
        if count != len(tensor.string_val):
            raise _misfit(where, len(tensor.string_val), shape)
        made = np.empty(count, dtype=object)
        made[:] = list(tensor.string_val)
        return made.reshape(shape)
    dtype = dtype_of(tensor.dtype, where)
    allowance.take(count * dtype.itemsize, f'the constant "{where}"')
    if tensor.tensor_content:
        if len(tensor.tensor_content) != count * dtype.itemsize:
            raise _misfit(where, len(tensor.tensor_content) // dtype.itemsize, shape)
        flat = np.frombuffer(tensor.tensor_content, dtype).copy()
        return flat.astype(dtype.newbyteorder("=")).reshape(shape)
    values = getattr(tensor, KINDS[kind_of(tensor.dtype)][1])
    if len(values) > count:
        raise _misfit(where, len(values), shape)
    return _repeated(values, dtype, count).reshape(shape)


def _repeated(values: Any, dtype: np.dtype, count: int) -> np.ndarray:
    """Return listed values; the last stands for all that follow, none for zeros."""
    native = dtype.newbyteorder("=")
    if dtype.kind == "f" and dtype.itemsize == 2:  # as the bits of integers
        listed = np.array(values, dtype=np.int64).astype(np.uint16).view(np.float16)
    else:
        listed = np.array(values, dtype=np.float64 if dtype.kind == "f" else object)
        listed = listed.astype(native)
    made = np.zeros(count, dtype=native)
    made[: len(listed)] = listed
    if len(listed):
        made[len(listed) :] = listed[-1]
    return made


def _misfit(where: str, found: int, shape: tuple[int, ...]) -> ModelFileError:
    return ModelFileError(f'the constant "{where}" has {found} values, its shape is {shape}')
