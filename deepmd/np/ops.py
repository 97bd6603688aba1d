# SPDX-License-Identifier: LGPL-3.0-or-later
"""Array-API names over NumPy, and NumPy's forms of the operations.

The namespace is that of the ``autograd`` package, whose functions record what is needed for
derivatives when one of their arguments is being differentiated. What the package lacks or does
slowly is added here.
"""

import functools
import threading
import types
from collections.abc import Callable
from typing import Any

import autograd.numpy as anp
import numpy as np
from autograd.core import make_vjp
from autograd.extend import defvjp, primitive
from autograd.tracer import isbox

from deepmd.dpmodel.ops import NAMES, register, register_package

# The package numbers the derivatives under way with one counter for the whole process; two threads
# that differentiate at once, a training and the reader of its batches, would share a number and
# lose their gradient. A thread holds this lock while it records a function.
RECORDING = threading.RLock()


@primitive
def _tanh(x: np.ndarray) -> np.ndarray:
    return np.tanh(x)


# The package's own rule divides by cosh², which overflows where tanh has long been 1.
defvjp(_tanh, lambda ans, x: lambda g: g * (1.0 - ans * ans))


class _NumPyNamespace(types.ModuleType):
    """Array-API names over ``autograd.numpy``."""

    def __init__(self) -> None:
        super().__init__("numpy_namespace")
        for name in NAMES:
            if hasattr(anp, name):
                setattr(self, name, getattr(anp, name))
        self.tanh = _tanh
        self.concat = anp.concatenate
        self.permute_dims = anp.transpose
        self.astype = lambda x, dtype: x.astype(dtype) if x.dtype != dtype else x
        self.float32, self.float64, self.int64 = np.float32, np.float64, np.int64


for _prefix in ("numpy", "autograd"):
    register_package(_prefix, "numpy", _NumPyNamespace())


def _sum_rows(x: np.ndarray, index: np.ndarray, n: int) -> np.ndarray:
    """Sum rows of ``x`` by index, (k, ...) -> (n, ...), in float64 by counting, exact order."""
    index = index.reshape(-1)
    if not n or not x.size:
        return np.zeros((n, *x.shape[1:]), x.dtype)
    flat = x.reshape(len(index), -1)
    columns = [np.bincount(index, weights=flat[:, c], minlength=n) for c in range(flat.shape[1])]
    return np.stack(columns, axis=1).astype(x.dtype, copy=False).reshape(n, *x.shape[1:])


@primitive
def _segment_sum(x: np.ndarray, segment: np.ndarray, n: int) -> np.ndarray:
    return _sum_rows(x, segment, n)


@primitive
def _take(x: np.ndarray, index: np.ndarray) -> np.ndarray:
    return x[index]


@primitive
def _put(g: np.ndarray, index: np.ndarray, n: int) -> np.ndarray:
    """Transpose of :func:`_take`."""
    rest = g.shape[index.ndim :]
    return _sum_rows(g.reshape(-1, *rest), index % n, n)


defvjp(_take, lambda ans, x, index: functools.partial(_put, index=index, n=x.shape[0]))
defvjp(_put, lambda ans, g, index, n: functools.partial(_take, index=index))
defvjp(_segment_sum, lambda ans, x, segment, n: functools.partial(_take, index=segment))


@register("_like", "numpy")
def _(x: Any, value: Any) -> Any:
    return value if hasattr(value, "dtype") else np.asarray(value)


register("take", "numpy")(_take)
register("segment_sum", "numpy")(lambda x, segment, n: _segment_sum(x, segment, n))


@register("amax", "numpy")
def _(x: Any) -> Any:
    return anp.max(x, axis=-1, keepdims=True)


@register("stop_gradient", "numpy")
def _(x: Any) -> Any:
    while hasattr(x, "_value"):
        x = x._value
    return x


@register("edge_gradient", "numpy")
def _(vec: Any, energy: Callable, *, order: int = 1) -> Any:
    held: dict[str, Any] = {}

    def totals(v: Any) -> Any:
        outputs, scalars = energy(v)
        # Outputs leave this function: take off the box of this derivative, keep those outside it.
        for name, value in outputs.items():
            inner = isbox(value) and value._trace == v._trace
            held[name] = value._value if inner else value
        return anp.stack(scalars) if scalars else anp.zeros(0)

    with RECORDING:
        back, value = make_vjp(totals, vec)
    n = len(value._value if isbox(value) else value)
    return held, [back(row) for row in np.eye(n)]
