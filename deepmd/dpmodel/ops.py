# SPDX-License-Identifier: LGPL-3.0-or-later
"""Operations on arrays of any package: the only place where array packages differ.

The mathematics uses the Array-API functions of :data:`NAMES`, taken from :func:`xp`, and the
operations below, nothing else. An operation takes arrays, lists of arrays and hashable options, never
modules. It has a reference body in Array-API terms; a backend may :func:`register` faster forms for
its arrays, and :func:`register_package` adds a package of arrays.

Operations whose fast forms have a limited number of derivatives take ``order``, the highest
derivative that will be asked for:

1. the gradient with respect to the edge vectors, as in evaluation;
2. gradients of the value and of that gradient with respect to parameters, as in training;
3. any derivative, second ones with respect to the edge vectors included, as in a Hessian.
"""

import functools
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any, NamedTuple, Protocol

import numpy as np

from deepmd.base.plugin import file_under

NAMES = (
    "abs arange argsort astype clip concat exp expand_dims floor log log1p matmul maximum minimum ones"
    " permute_dims reshape sign sqrt stack sum take_along_axis tanh where zeros broadcast_to float32"
    " float64 int64"
).split()


# -- packages of arrays ---------------------------------------------------------------------------


class Package(NamedTuple):
    """Package of arrays.

    Attributes
    ----------
    name : str
        Backend, the second argument of :func:`register`.
    namespace : object
        Its Array-API functions, those of :data:`NAMES`, ``asarray`` and ``max``.
    device : function
        Name of the device an array is on, or None where it is not known (yet).
    """

    name: str
    namespace: Any
    device: Callable[[Any], str | None]


_PACKAGES: dict[str, Package] = {}
#: Packages that need no backend, by the module that adds them: NumPy, whose arrays are the reference.
_ON_DEMAND = {"numpy": "deepmd.np.ops", "autograd": "deepmd.np.ops"}


def register_package(
    prefix: str,
    name: str,
    namespace: Any,
    *,
    device: Callable[[Any], str | None] = lambda x: "cpu",
) -> None:
    """Add a package of arrays.

    Parameters
    ----------
    prefix : str
        First part of the name of the module that defines the class of the arrays, or one of its
        bases.
    name, namespace, device
        See :class:`Package`. A package of several prefixes is added once for each.
    """
    _PACKAGES[prefix] = Package(name, namespace, device)
    _package_of_type.cache_clear()
    for operation in _OPERATIONS.values():
        operation.clear()


@functools.cache
def _package_of_type(array_type: type) -> Package:
    for base in array_type.__mro__:
        prefix = base.__module__.split(".")[0]
        if prefix in _ON_DEMAND and prefix not in _PACKAGES:
            import_module(_ON_DEMAND[prefix])
        package = _PACKAGES.get(prefix)
        if package is not None:
            return package
    raise TypeError(
        f"{array_type.__module__}.{array_type.__qualname__} is not an array of a known package "
        f"({', '.join(_PACKAGES)}); import the backend of its package first"
    )


def package_of(x: Any) -> Package:
    """Return the package an array belongs to; raise TypeError if there is none."""
    array_type: Any = type(x)
    return _package_of_type(array_type)


def backend_of(x: Any) -> str:
    """Return the name of the backend an array belongs to; raise TypeError if there is none."""
    return package_of(x).name


def xp(x: Any) -> Any:
    """Return the Array-API namespace of an array."""
    array_type: Any = type(x)
    return _package_of_type(array_type).namespace


# -- forms of operations --------------------------------------------------------------------------


class Form(NamedTuple):
    """Implementation of an operation, and where it applies; see :func:`register`."""

    function: Callable
    device: str | None = None
    when: Callable[..., bool] | None = None
    priority: int = 0


class Operation(Protocol):
    """Function that :func:`op` makes of a reference body.

    Attributes
    ----------
    reference : function
        Body in Array-API terms.
    form : function
        Called with the arguments of the operation, returns the form that would run.
    """

    reference: Callable[..., Any]
    form: Callable[..., Callable]

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Evaluate by the best form."""


class _Forms:
    """Forms of one operation.

    Attributes
    ----------
    of_type : dict
        The form of arrays of a class, where this does not depend on device or arguments.
    """

    def __init__(self, reference: Callable) -> None:
        self.reference = reference
        self.known: dict[str, list[Form]] = {}
        self.of_type: dict[type, Callable] = {}
        self._ordered: dict[tuple[str, str | None], list[Form]] = {}

    def clear(self) -> None:
        """Forget choices."""
        self.of_type.clear()
        self._ordered.clear()

    def choose(self, x: Any, *args: Any, **kwargs: Any) -> Callable:
        """Return the function that serves these arguments."""
        package = package_of(x)
        forms = self.known.get(package.name, ())
        device = package.device(x) if any(f.device for f in forms) else None
        ordered = self._ordered.get((package.name, device))
        if ordered is None:
            ordered = self._ordered[package.name, device] = self._order(forms, device)
        if not any(f.device or f.when for f in forms):
            self.of_type[type(x)] = ordered[0].function
        for form in ordered:
            if form.when is None or form.when(x, *args, **kwargs):
                return form.function
        return self.reference

    def _order(self, forms: Sequence[Form], device: str | None) -> list[Form]:
        """Sort the forms of a device, the best first, the reference last."""
        here = [f for f in forms if f.device in (None, device)]
        here.sort(key=lambda f: (-f.priority, f.device is None, f.when is None))
        return [*here, Form(self.reference)]


_OPERATIONS: dict[str, _Forms] = {}


def op(reference: Callable) -> Operation:
    """Declare an operation; the body is its reference form. Its first argument selects the form."""
    forms = _OPERATIONS[reference.__name__] = _Forms(reference)
    of_type, choose = forms.of_type, forms.choose

    @functools.wraps(reference)
    def call(x: Any, *args: Any, **kwargs: Any) -> Any:
        form = of_type.get(type(x))
        if form is None:
            form = choose(x, *args, **kwargs)
        return form(x, *args, **kwargs)

    operation: Any = call
    operation.reference, operation.form = reference, choose
    return operation


def register(
    name: str,
    backend: str,
    *,
    device: str | None = None,
    when: Callable[..., bool] | None = None,
    priority: int = 0,
    override: bool = False,
) -> Callable[[Callable], Callable]:
    """Return a decorator that makes a function a form of operation ``name`` for one backend.

    Of the forms that apply, that of highest priority runs; among equals, one for a device comes
    before one for all, and one with a condition before one without. The reference is the last.

    Parameters
    ----------
    name : str
        Of an operation that is declared.
    backend : str
        Of a package of arrays, see :func:`register_package`.
    device : str, optional
        Kind of device that the first argument must be on, such as ``cpu`` or ``cuda``.
    when : function, optional
        Called with the arguments of the operation, returns whether the form applies.
    priority : int
    override : bool
        Take the place of a form with the same conditions, which is otherwise an error.
    """
    if name not in _OPERATIONS:
        raise KeyError(f"no operation {name} is declared; import the module that does first")

    def decorate(function: Callable) -> Callable:
        forms = _OPERATIONS[name]
        known = forms.known.get(backend, [])
        table = {(f.device, f.when, f.priority): f.function for f in known}
        key, of = (device, when, priority), f"{name} of {backend}"
        file_under(table, key, function, kind="operation", override=override, name=of)
        forms.known[backend] = [Form(f, *conditions) for conditions, f in table.items()]
        forms.clear()
        return function

    return decorate


def registered() -> list[tuple[str, str]]:
    """Return (operation, backend) of every form there is beside the references."""
    return sorted((name, backend) for name, forms in _OPERATIONS.items() for backend in forms.known)


# -- arrays from numbers --------------------------------------------------------------------------


def like(value: Any, x: Any) -> Any:
    """Return ``value`` (numbers or a NumPy array) as an array of the package and device of ``x``."""
    return _like(x, value)


@op
def _like(x: Any, value: Any) -> Any:
    return xp(x).asarray(value)


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
def row_numbers(x: Any) -> Any:
    """Return 0, 1, … for the rows of ``x``, (n,) float64."""
    return like(np.arange(x.shape[0], dtype=np.float64), x)


@op
def times(x: Any, n: Any) -> Any:
    """Return ``n x`` for a number or a size, which may be symbolic."""
    return n * x


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
def split(x: Any, n: int) -> Sequence[Any]:
    """Cut the last axis into ``n`` parts of equal width."""
    width = x.shape[-1] // n
    return [x[..., k * width : (k + 1) * width] for k in range(n)]


@op
def add_twice(y: Any, x: Any) -> Any:
    """Return ``y + [x, x]``: y (..., 2 n), x (..., n)."""
    return y + xp(x).concat([x, x], axis=-1)


@op
def matrix_transpose(x: Any) -> Any:
    """Swap the last two axes."""
    order = (*range(x.ndim - 2), x.ndim - 1, x.ndim - 2)
    return xp(x).permute_dims(x, order)


@op
def contract(g: Any, r: Any) -> Any:
    """Sum over neighbors of an outer product: g (n, k, m), r (n, k, c) -> (n, m, c)."""
    return xp(g).matmul(matrix_transpose(g), r)


@op
def softmax(x: Any) -> Any:
    """Return the softmax over the last axis."""
    space = xp(x)
    e = space.exp(x - stop_gradient(amax(x)))
    return e * (1.0 / space.sum(e, axis=-1, keepdims=True))


@op
def amax(x: Any) -> Any:
    """Return the largest value along the last axis, which stays with length 1."""
    return xp(x).max(x, axis=-1, keepdims=True)


@op
def layer_norm(x: Any, w: Any, b: Any, eps: float) -> Any:
    """Normalize the last axis to mean 0 and variance 1 (biased), then scale and shift."""
    space = xp(x)
    d = x - space.sum(x, axis=-1, keepdims=True) / x.shape[-1]
    v = space.sum(d * d, axis=-1, keepdims=True) / x.shape[-1]
    return d * (1.0 / space.sqrt(v + eps)) * w + b


@op
def edge_gradient(vec: Any, energy: Callable, *, order: int = 1) -> Any:
    """Evaluate ``energy(vec) -> (outputs, totals)`` and the gradients of the totals.

    Parameters
    ----------
    vec : (n_edges, 3) [Å]
    energy : function
        Returns a dictionary of arrays and a list of scalars.
    order : int
        Highest derivative that will be asked for, see above; 1 is that of this function.

    Returns
    -------
    outputs : dict of arrays
        First result of the function.
    gradients : list of (n_edges, 3), one per scalar
    """
    raise NotImplementedError(f"edge_gradient is not registered for {backend_of(vec)}")
