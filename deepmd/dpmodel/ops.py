# SPDX-License-Identifier: LGPL-3.0-or-later
"""Operations on arrays of any framework: the only place where frameworks differ.

The mathematics uses the Array-API functions of :data:`NAMES`, taken from :func:`xp`, and the
operations below, nothing else. An operation has a reference body in Array-API terms; a backend may
:func:`register` a faster form for its arrays.

The NumPy namespace is that of the ``autograd`` package, whose functions record what is needed for
derivatives when one of their arguments is being differentiated.
"""

import functools
import types
from collections.abc import Callable
from typing import Any

import autograd.numpy as anp
import numpy as np
from autograd.core import make_vjp
from autograd.extend import defvjp, primitive
from autograd.tracer import isbox

from deepmd.utils.plugin import file_under

NAMES = (
    "abs arange argsort astype clip concat exp expand_dims floor log log1p matmul maximum minimum ones"
    " permute_dims reshape sign sqrt stack sum take_along_axis tanh where zeros broadcast_to float32"
    " float64 int64"
).split()

_PACKAGES = {"torch": "torch", "jax": "jax", "jaxlib": "jax", "tensorflow": "tensorflow"}


@primitive
def _tanh(x: np.ndarray) -> np.ndarray:
    return np.tanh(x)


# The package's own rule divides by cosh², which overflows where tanh has long been 1.
defvjp(_tanh, lambda ans, x: lambda g: g * (1.0 - ans * ans))


class _NumPyNamespace(types.ModuleType):
    """The Array-API names over ``autograd.numpy``."""

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


_NAMESPACES: dict[str, Any] = {"numpy": _NumPyNamespace()}
_TABLE: dict[tuple[str, str], Callable] = {}


@functools.cache
def _backend_of_type(kind: type) -> str:
    for base in kind.__mro__:
        package = base.__module__.split(".")[0]
        if package in _PACKAGES:
            return _PACKAGES[package]
        if package in ("numpy", "autograd"):
            return "numpy"
    raise TypeError(f"{kind.__module__}.{kind.__qualname__} is not an array of a known framework")


def backend_of(x: Any) -> str:
    """Return the name of the framework an array belongs to; raise TypeError if there is none."""
    kind: Any = type(x)
    return _backend_of_type(kind)


def register_namespace(backend: str, namespace: Any) -> None:
    """Give a framework its Array-API namespace; called once when a backend is imported."""
    _NAMESPACES[backend] = namespace


def xp(x: Any) -> Any:
    """Return the Array-API namespace of an array."""
    name = backend_of(x)
    try:
        return _NAMESPACES[name]
    except KeyError:
        raise TypeError(f"import the backend of {name} arrays before using them here") from None


def op(reference: Callable) -> Callable:
    """Declare an operation; the body is its reference form. Its first argument decides who runs it."""
    name = reference.__name__

    @functools.wraps(reference)
    def call(x: Any, *args: Any, **kwargs: Any) -> Any:
        return _TABLE.get((name, backend_of(x)), reference)(x, *args, **kwargs)

    call.reference = reference  # type: ignore[attr-defined]
    return call


def register(name: str, backend: str, *, override: bool = False) -> Callable[[Callable], Callable]:
    """Return a decorator that makes a function the form of operation ``name`` for one framework.

    A second form for the same framework is an error unless ``override`` is set.
    """

    def decorate(function: Callable) -> Callable:
        of = f"{name} of {backend}"
        key = (name, backend)
        file_under(_TABLE, key, function, kind="operation", override=override, name=of)
        return function

    return decorate


def registered() -> list[tuple[str, str]]:
    """Return (operation, framework) of every form there is beside the references."""
    return sorted(_TABLE)


def like(value: Any, x: Any) -> Any:
    """Return ``value`` (numbers or a NumPy array) as an array of the framework and device of ``x``."""
    return _like(x, value)


@op
def _like(x: Any, value: Any) -> Any:
    return value if isinstance(value, np.ndarray) else xp(x).asarray(value)


@register("_like", "numpy")
def _(x: Any, value: Any) -> Any:
    return value if hasattr(value, "dtype") else np.asarray(value)


@op
def cast(x: Any, precision: str) -> Any:
    """Return ``x`` in ``precision``, a name such as ``float32``."""
    space = xp(x)
    return space.astype(x, getattr(space, precision))


# -- indexing -------------------------------------------------------------------------------------


@op
def take(x: Any, index: Any) -> Any:
    """Return rows ``x[index]`` along the first axis; -1 is the last row."""
    return x[index]


@op
def scatter_rows(x: Any, index: Any, n: int) -> Any:
    """Return an array of ``n`` rows with ``x[k]`` in row ``index[k]``, zero elsewhere."""
    return segment_sum(x, index, n)


@op
def segment_sum(x: Any, segment: Any, n: int) -> Any:
    """Sum rows of the same segment: (k, ...), (k,) -> (n, ...). Empty segments are zero."""
    raise NotImplementedError(f"segment_sum is not registered for {backend_of(x)}")


@op
def sorted_rows(key: Any, table: Any) -> Any:
    """Sort each row of ``table`` (n, k) by ``key`` (n, k), ascending; equal keys keep their order."""
    space = xp(key)
    return space.take_along_axis(table, space.argsort(key, axis=-1, stable=True), axis=-1)


@op
def shape(x: Any) -> tuple:
    """Return the sizes of an array, symbolic ones included, fit for ``reshape``."""
    return x.shape


@op
def stop_gradient(x: Any) -> Any:
    """Return ``x`` as a constant."""
    return x


# -- algebra --------------------------------------------------------------------------------------


@op
def linear(x: Any, w: Any, b: Any = None) -> Any:
    """Return ``x @ w + b`` for x (..., n_in), w (n_in, n_out), b (n_out,) or None."""
    y = xp(x).matmul(x, w)
    return y if b is None else y + b


@op
def matrix_transpose(x: Any) -> Any:
    """Swap the last two axes."""
    order = (*range(x.ndim - 2), x.ndim - 1, x.ndim - 2)
    return xp(x).permute_dims(x, order)


@op
def contract(g: Any, r: Any) -> Any:
    """Sum over neighbours of an outer product: g (n, k, m), r (n, k, c) -> (n, m, c)."""
    return xp(g).matmul(matrix_transpose(g), r)


@op
def embed_contract(r: Any, network: Any, table: Any = None, index: Any = None) -> Any:
    """Sum over neighbours of ``network(s) ⊗ r``, s the first component of the row r.

    Parameters
    ----------
    r : (n, k, c)
    network : EmbeddingNetwork
        From one number to m; with a table, the other numbers of its input are in the table.
    table : (t, width of the first layer), optional
        What the first layer gets beside s, its bias included: a row per kind of neighbour.
    index : (n, k) int, optional
        Kind of every neighbour.

    Returns
    -------
    (n, m, c)
    """
    return contract(network.embed(r[..., :1], table, index), r)


@op
def softmax(x: Any) -> Any:
    """Return the softmax over the last axis."""
    space = xp(x)
    e = space.exp(x - stop_gradient(amax(x)))
    return e / space.sum(e, axis=-1, keepdims=True)


@op
def amax(x: Any) -> Any:
    """Return the largest value along the last axis, which stays with length 1."""
    return xp(x).max(x, axis=-1, keepdims=True)


@op
def layer_norm(x: Any, w: Any, b: Any, eps: float) -> Any:
    """Normalise the last axis to mean 0 and variance 1 (biased), then scale and shift."""
    space = xp(x)
    d = x - space.sum(x, axis=-1, keepdims=True) / x.shape[-1]
    v = space.sum(d * d, axis=-1, keepdims=True) / x.shape[-1]
    return d / space.sqrt(v + eps) * w + b


@op
def edge_gradient(vec: Any, energy: Callable, *, keep_graph: bool = False, count: int = 1) -> Any:
    """Evaluate ``energy(vec) -> (outputs, totals)`` and the gradients of the totals.

    Parameters
    ----------
    vec : (n_edges, 3) [Å]
    energy : function
        Returns a dictionary of arrays and a list of scalars.
    keep_graph : bool
        Whether the gradients will be differentiated again.
    count : int
        Number of scalars; fast forms that serve a single one are left out where there are more.

    Returns
    -------
    outputs : dict of arrays
        What the function returned first.
    gradients : list of (n_edges, 3), one per scalar
    """
    raise NotImplementedError(f"edge_gradient is not registered for {backend_of(vec)}")


# -- NumPy: what autograd lacks or does slowly ----------------------------------------------------


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
def _(vec: Any, energy: Callable, *, keep_graph: bool = False, count: int = 1) -> Any:
    held: dict[str, Any] = {}

    def totals(v: Any) -> Any:
        outputs, scalars = energy(v)
        # Outputs leave this function: take off the box of this derivative, keep those outside it.
        for name, value in outputs.items():
            inner = isbox(value) and value._trace == v._trace
            held[name] = value._value if inner else value
        return anp.stack(scalars) if scalars else anp.zeros(0)

    back, value = make_vjp(totals, vec)
    n = len(value._value if isbox(value) else value)
    return held, [back(row) for row in np.eye(n)]
