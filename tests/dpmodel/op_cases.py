# SPDX-License-Identifier: LGPL-3.0-or-later
"""Calls of every operation, for the packages of arrays that have forms of their own."""

import autograd
import numpy as np

from deepmd.dpmodel import ops

RNG = np.random.default_rng(5)
INDEX = np.array([[0, 3, -1], [2, 2, -1]])
SEGMENT = np.array([2, 0, 0, 3])
ORDER = np.array([3, 0, 5, 1])
W, B = RNG.normal(size=(3, 2)), RNG.normal(size=2)
G = RNG.normal(size=(2, 4, 5))

# name: (function of x and of a converter of constants, shape of x)
CASES = {
    "take": (lambda x, c: ops.take(x, c(INDEX)), (4, 3)),
    "segment_sum": (lambda x, c: ops.segment_sum(x, c(SEGMENT), 5), (4, 3)),
    "scatter_rows": (lambda x, c: ops.scatter_rows(x, c(ORDER), 6), (4, 2)),
    "linear": (lambda x, c: ops.linear(x, c(W), c(B)), (2, 4, 3)),
    "linear without bias": (lambda x, c: ops.linear(x, c(W)), (4, 3)),
    "split": (lambda x, c: ops.xp(x).concat([*ops.split(x * x, 2)][::-1], axis=-1), (2, 3, 4)),
    "add_twice": (lambda x, c: ops.add_twice(c(G[0][:, :4]), x), (4, 2)),
    "add_twice, left": (lambda x, c: ops.add_twice(x, c(G[:, :, :2])), (2, 4, 4)),
    "matrix_transpose": (lambda x, c: ops.matrix_transpose(x), (2, 4, 3)),
    "contract": (lambda x, c: ops.contract(c(G), x), (2, 4, 3)),
    "contract, left": (lambda x, c: ops.contract(x, c(G)), (2, 4, 3)),
    "softmax": (lambda x, c: ops.softmax(x), (2, 5)),
    "amax": (lambda x, c: ops.amax(x), (3, 5)),
    "layer_norm": (lambda x, c: ops.layer_norm(x, c(G[0, 0]), c(G[1, 0]), 1e-5), (4, 5)),
    "cast": (lambda x, c: ops.cast(x, "float64"), (3,)),
    "shape": (lambda x, c: ops.xp(x).reshape(x, (ops.shape(x)[0] * 2,)), (3, 2)),
    "stop_gradient": (lambda x, c: x * ops.stop_gradient(x), (3,)),
    "times": (lambda x, c: ops.times(x, ops.shape(x)[0] - 5), (3, 2)),
    "row_numbers": (lambda x, c: x * ops.row_numbers(x), (3,)),
    "like": (lambda x, c: x * ops.like([[2.0, 3.0]], x), (3, 2)),
}


def slopes(name, weights):
    """Return a function of x, a converter of constants and ``grad``; see :func:`reference`."""
    function, _ = CASES[name]
    weight, second = weights

    def total(convert, x):
        y = function(x, convert)
        return ops.xp(y).sum(weight * y * y)

    def slope(grad, convert, x):
        g = grad(lambda v: total(convert, v))(x)
        return ops.xp(x).sum(second * g * g)

    return function, total, slope


def reference(name):
    """Return an argument, weights, and value, first and second derivatives of a case by NumPy."""
    function, shape = CASES[name]
    rng = np.random.default_rng([5, *name.encode()])  # whichever cases were asked for before
    x = rng.normal(size=shape)
    weights = rng.normal(size=np.shape(function(x, np.asarray))), rng.normal(size=shape)
    function, total, slope = slopes(name, weights)
    first = autograd.grad(lambda v: total(np.asarray, v))
    second = autograd.grad(lambda v: slope(autograd.grad, np.asarray, v))
    return x, weights, (function(x, np.asarray), first(x), second(x))
