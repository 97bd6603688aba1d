# SPDX-License-Identifier: LGPL-3.0-or-later
"""Array-API names over TensorFlow, and TensorFlow's forms of the operations.

Sizes of a traced array that are not known are scalar tensors; see :func:`deepmd.dpmodel.ops.shape`.
"""

import types
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from deepmd.dpmodel.ops import register, register_package, shape

#: More gradients than this (of Hessians) are taken in a loop, or tracing would take minutes.
_UNROLLED = 9


def _asarray(value: Any, dtype: Any = None) -> Any:
    """Numbers as NumPy makes an array of them: float64 and int64."""
    return tf.convert_to_tensor(np.asarray(value) if not tf.is_tensor(value) else value, dtype)


def _clip(x: Any, low: Any, high: Any) -> Any:
    if low is not None:
        x = tf.maximum(x, tf.cast(low, x.dtype))
    return x if high is None else tf.minimum(x, tf.cast(high, x.dtype))


def _matmul(a: Any, b: Any) -> Any:
    return tf.linalg.matmul(a, b)


def _argsort(x: Any, axis: int = -1, stable: bool = True) -> Any:
    # Its order is that of top_k, which prefers lower indices among equals.
    return tf.cast(tf.argsort(x, axis=axis, stable=stable), tf.int64)


class _Namespace(types.ModuleType):
    """Array-API names over ``tensorflow``."""

    abs, exp, floor, sqrt, tanh, log, sign = (
        staticmethod(f) for f in (tf.abs, tf.exp, tf.floor, tf.sqrt, tf.tanh, tf.math.log, tf.sign)
    )
    log1p, maximum, minimum = (staticmethod(f) for f in (tf.math.log1p, tf.maximum, tf.minimum))
    float32, float64, int64 = tf.float32, tf.float64, tf.int64
    asarray, clip, matmul, argsort = (staticmethod(f) for f in (_asarray, _clip, _matmul, _argsort))
    astype, arange, where = (staticmethod(f) for f in (tf.cast, tf.range, tf.where))

    def __init__(self) -> None:
        super().__init__("tensorflow_namespace")

    @staticmethod
    def concat(arrays: Sequence[Any], axis: int = 0) -> Any:
        return tf.concat(list(arrays), axis)

    @staticmethod
    def stack(arrays: Sequence[Any], axis: int = 0) -> Any:
        return tf.stack(list(arrays), axis)

    @staticmethod
    def expand_dims(x: Any, axis: int = 0) -> Any:
        return tf.expand_dims(x, axis)

    @staticmethod
    def permute_dims(x: Any, axes: Sequence[int]) -> Any:
        return tf.transpose(x, axes)

    @staticmethod
    def reshape(x: Any, shape: Any) -> Any:
        return tf.reshape(x, shape)

    @staticmethod
    def broadcast_to(x: Any, shape: Any) -> Any:
        return tf.broadcast_to(x, shape)

    @staticmethod
    def sum(x: Any, axis: Any = None, keepdims: bool = False) -> Any:
        return tf.reduce_sum(x, axis, keepdims)

    @staticmethod
    def max(x: Any, axis: Any = None, keepdims: bool = False) -> Any:
        return tf.reduce_max(x, axis, keepdims)

    @staticmethod
    def take_along_axis(x: Any, indices: Any, axis: int = -1) -> Any:
        if axis not in (-1, x.ndim - 1):
            raise NotImplementedError("along the last axis only")
        return tf.gather(x, indices, axis=-1, batch_dims=x.ndim - 1)

    @staticmethod
    def zeros(shape: Any, dtype: Any = tf.float64) -> Any:
        return tf.zeros(shape, dtype)

    @staticmethod
    def ones(shape: Any, dtype: Any = tf.float64) -> Any:
        return tf.ones(shape, dtype)


def _device(x: Any) -> str | None:
    """Kind of device of an array; a traced function may run on several."""
    kind = (getattr(x, "device", None) or "").rpartition("device:")[2].partition(":")[0].lower()
    return "cuda" if kind == "gpu" else kind or None


register_package("tensorflow", "tensorflow", _Namespace(), device=_device)


@register("_like", "tensorflow")
def _(x: Any, value: Any) -> Any:
    return _asarray(value)


@register("shape", "tensorflow")
def _(x: Any) -> tuple:
    known = x.shape.as_list()
    if None not in known:
        return tuple(known)
    found = tf.shape(x)
    return tuple(found[k] if size is None else size for k, size in enumerate(known))


@register("row_numbers", "tensorflow")
def _(x: Any) -> Any:
    return tf.range(tf.cast(tf.shape(x)[0], tf.float64))


@register("times", "tensorflow")
def _(x: Any, n: Any) -> Any:
    return tf.cast(n, x.dtype) * x


@register("take", "tensorflow")
def _(x: Any, index: Any) -> Any:
    # Indices are ours: never outside, but -1 means the last row.
    rows = tf.shape(x, out_type=index.dtype)[0]
    return _take(x, tf.where(index < 0, index + rows, index), rows)


def _take(x: Any, index: Any, rows: Any) -> Any:
    """Rows of x, with a gradient that is a plain array, not a list of slices."""

    @tf.custom_gradient
    def function(x: Any) -> Any:
        return tf.gather(x, index), lambda g: _put(g, index, rows)

    return function(x) if x.dtype.is_floating else tf.gather(x, index)


def _put(x: Any, index: Any, rows: Any) -> Any:
    """Transpose of :func:`_take`, and the sum over segments."""

    @tf.custom_gradient
    def function(x: Any) -> Any:
        return tf.math.unsorted_segment_sum(x, index, rows), lambda g: _take(g, index, rows)

    return function(x)


@register("segment_sum", "tensorflow")
def _(x: Any, segment: Any, n: Any) -> Any:
    return _put(x, segment, tf.cast(n, segment.dtype))


@register("scatter_rows", "tensorflow")
def _(x: Any, index: Any, n: Any) -> Any:
    return _put(x, index, tf.cast(n, index.dtype))


@register("linear", "tensorflow")
def _(x: Any, w: Any, b: Any = None) -> Any:
    # A product of two matrices is faster, and so is its gradient by w, than one of many.
    if x.ndim > 2:
        flat = tf.reshape(x, (-1, w.shape[0]))
        y = tf.linalg.matmul(flat, w)
        y = y if b is None else tf.nn.bias_add(y, b)
        return tf.reshape(y, (*shape(x)[:-1], w.shape[1]))
    y = tf.linalg.matmul(x, w)
    return y if b is None else y + b


@register("split", "tensorflow")
def _(x: Any, n: int) -> Any:
    # The derivative of one operation is one array, those of slices are added up.
    return tf.split(x, n, axis=-1)


@register("add_twice", "tensorflow")
def _(y: Any, x: Any) -> Any:
    # The derivatives of a concatenation are slices, and those of these copy them into zeros.
    wide = shape(y)
    pairs = tf.reshape(y, (*wide[:-1], 2, x.shape[-1]))
    return tf.reshape(pairs + x[..., None, :], wide)


@register("matrix_transpose", "tensorflow")
def _(x: Any) -> Any:
    return tf.linalg.matrix_transpose(x)


@register("contract", "tensorflow")
def _(g: Any, r: Any) -> Any:
    return tf.linalg.matmul(g, r, transpose_a=True)


@register("stop_gradient", "tensorflow")
def _(x: Any) -> Any:
    return tf.stop_gradient(x)


@register("edge_gradient", "tensorflow")
def _(vec: Any, energy: Callable, *, order: int = 1) -> Any:
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(vec)
        outputs, scalars = energy(vec)
        total = tf.stack(scalars) if len(scalars) > _UNROLLED else None
    if total is not None:
        rows = tape.jacobian(total, vec, unconnected_gradients="zero", experimental_use_pfor=False)
        return outputs, tf.unstack(rows)
    return outputs, [tape.gradient(s, vec, unconnected_gradients="zero") for s in scalars]
