# SPDX-License-Identifier: LGPL-3.0-or-later
"""Every operation on JAX arrays against NumPy: values, first and second derivatives."""

import numpy as np
import pytest

from deepmd.dpmodel import ops

jax = pytest.importorskip("jax")
import autograd  # noqa: E402
import jax.numpy as jnp  # noqa: E402

import deepmd.jax  # noqa: E402, F401
from tests.dpmodel.op_cases import CASES, RNG, reference, slopes  # noqa: E402


def test_every_form_is_tested():
    names = {name.split(",")[0].split(" ")[0] for name in CASES}
    here = {name for name, backend in ops.registered() if backend == "jax"}
    assert here - names == {"_like", "edge_gradient"}


@pytest.mark.parametrize("name", CASES)
def test_values_and_derivatives(name):
    x, weights, wanted = reference(name)
    function, total, slope = slopes(name, weights)
    mine = jnp.asarray(x)
    found = (
        function(mine, jnp.asarray),
        jax.grad(lambda v: total(jnp.asarray, v))(mine),
        jax.jit(jax.grad(lambda v: slope(jax.grad, jnp.asarray, v)))(mine),
    )
    for value, want in zip(found, wanted, strict=True):
        assert value.dtype == want.dtype
        np.testing.assert_allclose(value, want, rtol=1e-12, atol=1e-13)


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
