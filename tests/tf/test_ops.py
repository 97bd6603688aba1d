# SPDX-License-Identifier: LGPL-3.0-or-later
"""Every operation on TensorFlow's arrays against NumPy: values, first and second derivatives."""

import numpy as np
import pytest

from deepmd.dpmodel import ops

tf = pytest.importorskip("tensorflow")
import autograd  # noqa: E402

import deepmd.tf  # noqa: E402, F401
from tests.dpmodel.op_cases import CASES, RNG, reference, slopes  # noqa: E402


def gradient(function):
    """Return the gradient of a scalar function."""

    def call(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            value = function(x)
        return tape.gradient(value, x, unconnected_gradients="zero")

    return call


def test_every_form_is_tested():
    names = {name.split(",")[0].split(" ")[0] for name in CASES}
    here = {name for name, backend in ops.registered() if backend == "tensorflow"}
    assert here - names == {"_like", "edge_gradient"}


@pytest.mark.parametrize("sizes", ["eager", "known", "unknown"])
@pytest.mark.parametrize("name", CASES)
def test_values_and_derivatives(name, sizes):
    x, weights, wanted = reference(name)
    function, total, slope = slopes(name, weights)

    def evaluate(v):
        return (
            function(v, tf.constant),
            gradient(lambda u: total(tf.constant, u))(v),
            gradient(lambda u: slope(gradient, tf.constant, u))(v),
        )

    if sizes != "eager":
        # Rows are many or few; columns are those of a model.
        shape = x.shape if sizes == "known" else (None, *x.shape[1:])
        evaluate = tf.function(evaluate, [tf.TensorSpec(shape, tf.float64)], autograph=False)
    for value, want in zip(evaluate(tf.constant(x)), wanted, strict=True):
        assert value.dtype.name == want.dtype
        np.testing.assert_allclose(value, want, rtol=1e-12, atol=1e-13)


def test_names_of_the_array_api():
    space, x = ops.xp(tf.constant(0.0)), RNG.normal(size=(3, 4))
    for name in ops.NAMES:
        assert hasattr(space, name), name
    assert space.zeros((2, 0, 3)).dtype == space.ones(2).dtype == tf.float64
    assert space.asarray([1, 2]).dtype == tf.int64 and space.asarray([1.0]).dtype == tf.float64
    np.testing.assert_array_equal(space.clip(tf.constant(x), -0.5, None), np.clip(x, -0.5, None))
    order = space.argsort(tf.constant([2.0, 1.0, 2.0, 1.0]), axis=-1, stable=True)
    np.testing.assert_array_equal(order, [1, 3, 0, 2])
    along = space.take_along_axis(tf.constant(x), tf.constant([[3, 0]] * 3), axis=-1)
    np.testing.assert_array_equal(along, x[:, [3, 0]])


def test_empty_arrays():
    def of(shape, dtype=tf.float64):
        return tf.zeros(shape, dtype)

    assert ops.take(of((1, 3)), of((0, 2), tf.int64)).shape == (0, 2, 3)
    assert not ops.segment_sum(of((0, 3)), of(0, tf.int64), 2).numpy().any()
    assert ops.segment_sum(of((0, 3)), of(0, tf.int64), 0).shape == (0, 3)


@pytest.mark.parametrize("many", [False, True])
def test_edge_gradient(many):
    vec = RNG.normal(size=(4, 3))

    def energy(v):
        space = ops.xp(v)
        e = space.sum(v * v * v, axis=-1)
        parts = [e[k] * e[0] for k in range(3)] * (4 if many else 1)
        return {"e": e, "square": v * v}, [space.sum(e), *parts]

    wanted, gradients = ops.edge_gradient(vec, energy)
    outputs, mine = ops.edge_gradient(tf.constant(vec), energy)
    for key, value in wanted.items():
        np.testing.assert_allclose(outputs[key], value, rtol=1e-13)
    assert len(mine) == len(gradients) == (13 if many else 4)
    for a, b in zip(mine, gradients, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-13)
    assert ops.edge_gradient(tf.constant(vec), lambda v: ({"e": v}, []))[1] == []

    def again(v):
        g = ops.edge_gradient(v, energy, order=3)[1][-1]
        return ops.xp(v).sum(g * g)

    np.testing.assert_allclose(
        gradient(again)(tf.constant(vec)), autograd.grad(again)(vec), rtol=1e-12
    )
