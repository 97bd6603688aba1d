"""Arrays with a namespace of their own, as a third party adds them."""

import operator

import numpy as np

from deepmd.dpmodel import ops


class Array:
    """NumPy array (or one that autograd records) that NumPy does not take for one of its own."""

    __array_ufunc__ = None
    __module__ = "tiny_arrays.core"

    def __init__(self, value, device="board"):
        self.value, self.device = value, device

    shape = property(lambda self: self.value.shape)
    ndim = property(lambda self: self.value.ndim)
    dtype = property(lambda self: self.value.dtype)

    def __getitem__(self, index):
        return Array(self.value[_inner(index)])


def _inner(x):
    if isinstance(x, Array):
        return x.value
    if isinstance(x, (list, tuple)):
        return type(x)(_inner(part) for part in x)
    return x


def _lifted(function):
    def call(*args, **kwargs):
        return Array(function(*map(_inner, args), **kwargs))

    return call


Array.__neg__ = _lifted(operator.neg)
for _name in (
    "add",
    "sub",
    "mul",
    "truediv",
    "floordiv",
    "mod",
    "pow",
    "lt",
    "le",
    "gt",
    "ge",
    "eq",
    "ne",
    "and_",
    "or_",
):
    _function = getattr(operator, _name)
    setattr(Array, f"__{_name.rstrip('_')}__", _lifted(_function))
    setattr(Array, f"__r{_name.rstrip('_')}__", _lifted(lambda a, b, f=_function: f(b, a)))


class _Namespace:
    float32, float64, int64 = np.float32, np.float64, np.int64
    asarray = staticmethod(_lifted(np.asarray))

    def __getattr__(self, name):
        return _lifted(getattr(ops.xp(np.zeros(0)), name))


ops.register_package("tiny_arrays", "tiny", _Namespace(), device=lambda x: x.device)


# The tests may import this file under two names.
@ops.register("segment_sum", "tiny", override=True)
def _(x, segment, n):
    return Array(ops.segment_sum(x.value, segment.value, n))


@ops.register("edge_gradient", "tiny", override=True)
def _(vec, energy, *, order=1):
    def inner(v):
        outputs, totals = energy(Array(v))
        return {k: x.value for k, x in outputs.items()}, [x.value for x in totals]

    outputs, gradients = ops.edge_gradient(vec.value, inner, order=order)
    return {k: Array(x) for k, x in outputs.items()}, [Array(g) for g in gradients]


@ops.register("amax", "tiny", override=True)
def _(x):
    return Array(ops.amax(x.value))
