# SPDX-License-Identifier: LGPL-3.0-or-later
"""Operations on NumPy arrays through first and second derivatives, by differences."""

import threading
from concurrent.futures import ThreadPoolExecutor

import autograd.numpy as anp
import numpy as np
import pytest
from autograd import grad
from autograd.test_util import check_grads

from deepmd.dpmodel import ops

rng = np.random.default_rng(0)
INDEX = np.array([[0, -1, 2], [3, 3, -1]])
SEGMENT = np.array([0, 2, 2, 1])

CASES = {
    "take": (lambda x: ops.take(x, INDEX), (5, 3)),
    "segment_sum": (lambda x: ops.segment_sum(x, SEGMENT, 4), (4, 3)),
    "scatter_rows": (lambda x: ops.scatter_rows(x, np.array([3, 0, 1, 2]), 5), (4, 2)),
    "linear": (lambda x: ops.linear(x, anp.sin(x.T), x[0, :1]), (4, 3)),
    "matrix_transpose": (lambda x: ops.matrix_transpose(x) * 2.0, (2, 3, 4)),
    "contract": (lambda x: ops.contract(x, x[:, :, :2]), (2, 3, 4)),
    "softmax": (ops.softmax, (3, 4)),
    "layer_norm": (lambda x: ops.layer_norm(x, x[0], x[1], 1e-5), (3, 4)),
}


@pytest.mark.parametrize("name", CASES)
def test_derivatives(name):
    f, shape = CASES[name]
    check_grads(lambda x: anp.sin(f(x)), modes=["rev"], order=2)(rng.normal(size=shape))


def test_take_and_segment_sum_values():
    x = rng.normal(size=(4, 2))
    assert np.array_equal(ops.take(x, INDEX), x[INDEX])
    expected = np.zeros((3, 2))
    np.add.at(expected, SEGMENT, x)
    assert np.allclose(ops.segment_sum(x, SEGMENT, 3), expected, atol=1e-15)
    assert ops.segment_sum(np.zeros((0, 2)), np.zeros(0, int), 3).shape == (3, 2)


def test_edge_gradient_is_differentiable_again():
    vec = rng.normal(size=(5, 3))

    def objective(w):
        def energy(v):
            t = ops.xp(v).tanh(w * ops.take(v, INDEX))
            total = ops.xp(t).sum(t * t)
            return {"total": total}, [total, 2.0 * total]

        outputs, gradients = ops.edge_gradient(vec, energy, order=3)
        return outputs["total"] + anp.sum(gradients[0] * gradients[1])

    step = 1e-5
    slope = (objective(1.3 + step) - objective(1.3 - step)) / (2 * step)
    assert grad(objective)(1.3) == pytest.approx(slope, rel=1e-8)


def test_unknown_arrays_are_refused():
    with pytest.raises(TypeError, match="not an array"):
        ops.take([1.0, 2.0], np.array([0]))
    with pytest.raises(TypeError, match="not an array"):
        ops.xp(object())


def test_the_mathematics_uses_the_listed_names_only():
    """dpmodel takes nothing from a namespace that is not in ops.NAMES."""
    import ast
    from pathlib import Path

    import deepmd.dpmodel as package

    rooms = ("nn", "descriptor", "fitting", "atomic_model", "model", "loss")
    allowed = set(ops.NAMES) | {"asarray", "max"}
    for room in rooms:
        for path in (Path(package.__file__).parent / room).glob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if not isinstance(node, ast.Attribute):
                    continue
                owner = node.value
                called = isinstance(owner, ast.Call) and ast.unparse(owner.func).endswith("xp")
                if called or (isinstance(owner, ast.Name) and owner.id == "space"):
                    assert node.attr in allowed, f"{path.name}:{node.lineno} {node.attr}"


def test_threads_differentiate_at_once():
    """A training differentiates while the reader of its batches evaluates a dipole model."""
    begun, nested, x = threading.Event(), threading.Event(), np.array([1.0, 2.0, 3.0])

    def short(v):
        begun.set()
        nested.wait(0.2)
        return {}, [anp.sum(v**2)]

    def twice(v):
        # The other derivative ends between the beginnings of these two.
        nested.set()
        other.result()
        inner = ops.edge_gradient(v, lambda w: ({}, [anp.sum(v * w**2)]))[1][0]
        return {}, [anp.sum(inner)]

    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(ops.edge_gradient, x, short)
        begun.wait()
        second = ops.edge_gradient(x, twice)[1][0]
    assert np.array_equal(other.result()[1][0], 2 * x)
    assert np.array_equal(second, 4 * x)
