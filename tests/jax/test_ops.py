# SPDX-License-Identifier: LGPL-3.0-or-later
"""Every operation on JAX arrays against NumPy: values, first and second derivatives."""

import numpy as np
import pytest

from deepmd.dpmodel import ops

jax = pytest.importorskip("jax")
import autograd  # noqa: E402
import jax.numpy as jnp  # noqa: E402

import deepmd.jax  # noqa: E402, F401

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
    "matrix_transpose": (lambda x, c: ops.matrix_transpose(x), (2, 4, 3)),
    "contract": (lambda x, c: ops.contract(c(G), x), (2, 4, 3)),
    "contract, left": (lambda x, c: ops.contract(x, c(G)), (2, 4, 3)),
    "softmax": (lambda x, c: ops.softmax(x), (2, 5)),
    "amax": (lambda x, c: ops.amax(x), (3, 5)),
    "layer_norm": (lambda x, c: ops.layer_norm(x, c(W[0]), c(B), 1e-5), (4, 2)),
    "cast": (lambda x, c: ops.cast(x, "float64"), (3,)),
    "shape": (lambda x, c: ops.xp(x).reshape(x, (ops.shape(x)[0] * 2,)), (3, 2)),
    "stop_gradient": (lambda x, c: x * ops.stop_gradient(x), (3,)),
    "like": (lambda x, c: x * ops.like([[2.0, 3.0]], x), (3, 2)),
}


def test_every_form_is_tested():
    names = {name.split(",")[0].split(" ")[0] for name in CASES}
    here = {name for name, backend in ops.registered() if backend == "jax"}
    assert here - names == {"_like", "edge_gradient"}


@pytest.mark.parametrize("name", CASES)
def test_values_and_derivatives(name):
    function, shape = CASES[name]
    x = RNG.normal(size=shape)
    weight = RNG.normal(size=np.shape(function(x, np.asarray)))
    second = RNG.normal(size=shape)

    def total(convert, x):
        y = function(x, convert)
        return ops.xp(y).sum(weight * y * y)

    def slope(grad, convert, x):
        g = grad(lambda v: total(convert, v))(x)
        return ops.xp(x).sum(second * g * g)

    mine = jnp.asarray(x)
    for reference, value in (
        (function(x, np.asarray), function(mine, jnp.asarray)),
        (
            autograd.grad(lambda v: total(np.asarray, v))(x),
            jax.grad(lambda v: total(jnp.asarray, v))(mine),
        ),
        (
            autograd.grad(lambda v: slope(autograd.grad, np.asarray, v))(x),
            jax.jit(jax.grad(lambda v: slope(jax.grad, jnp.asarray, v)))(mine),
        ),
    ):
        assert value.dtype == reference.dtype
        np.testing.assert_allclose(value, reference, rtol=1e-12, atol=1e-13)


def test_empty_arrays():
    assert ops.take(jnp.ones((1, 3)), jnp.zeros((0, 2), int)).shape == (0, 2, 3)
    assert (ops.segment_sum(jnp.ones((0, 3)), jnp.zeros(0, int), 2) == jnp.zeros((2, 3))).all()
    assert ops.segment_sum(jnp.ones((0, 3)), jnp.zeros(0, int), 0).shape == (0, 3)


def test_edge_gradient():
    vec = RNG.normal(size=(4, 3))

    def energy(v):
        space = ops.xp(v)
        e = space.sum(v * v * v, axis=-1)
        return {"e": e, "square": v * v}, [space.sum(e), space.sum(v * v)]

    reference, gradients = ops.edge_gradient(vec, energy)
    outputs, mine = ops.edge_gradient(jnp.asarray(vec), energy)
    for key, value in reference.items():
        np.testing.assert_allclose(outputs[key], value, rtol=1e-13)
    for a, b in zip(mine, gradients, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-13)
    assert ops.edge_gradient(jnp.asarray(vec), lambda v: ({"e": v}, []))[1] == []

    def again(v):
        g = ops.edge_gradient(v, energy, order=3)[1][0]
        return ops.xp(v).sum(g * g)

    np.testing.assert_allclose(
        jax.grad(again)(jnp.asarray(vec)), autograd.grad(again)(vec), rtol=1e-12
    )


def test_products_keep_single_precision():
    # On accelerators the default would round the factors to 10 bits.
    x = jnp.ones((2, 3), jnp.float32)
    text = jax.jit(lambda a: ops.linear(a, jnp.ones((3, 2), jnp.float32))).lower(x).as_text()
    assert "HIGHEST" in text
    text = jax.jit(lambda a: ops.xp(a).matmul(a, a.T)).lower(x).as_text()
    assert "HIGHEST" in text
