# SPDX-License-Identifier: LGPL-3.0-or-later
"""Every operation on torch: values against NumPy, first and second derivatives against differences."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from torch.fx.experimental.proxy_tensor import make_fx  # noqa: E402

import deepmd.pt.ops  # noqa: E402, F401
from deepmd.dpmodel import ops  # noqa: E402
from deepmd.dpmodel.model import build_model, prepare  # noqa: E402
from deepmd.dpmodel.nn.activation import NAMES, activation  # noqa: E402
from deepmd.dpmodel.nn.environment import environment_matrix  # noqa: E402
from deepmd.dpmodel.nn.layers import (  # noqa: E402
    DenseArrays,
    EmbeddingNetwork,
    embed_contract,
)
from deepmd.pt.fused import blocks  # noqa: E402
from deepmd.pt.lift import convert  # noqa: E402
from tests.members import section  # noqa: E402
from tests.pt.models import batch  # noqa: E402

RNG = np.random.default_rng(7)
TABLE = np.array([[0, 2, -1], [3, -1, -1], [1, 0, 4]])
SEGMENT = np.array([2, 0, 2, 2, 5])
ROWS = np.array([3, 0, 6, 1, 2])


def _n(*shape):
    return RNG.normal(size=shape)


CASES = {
    "take_table": (lambda x: ops.take(x, ops.like(TABLE, x)), [_n(5, 3)]),
    "take_rows": (lambda x: ops.take(x, ops.like(SEGMENT[:3], x)), [_n(5, 2)]),
    "segment_sum": (lambda x: ops.segment_sum(x, ops.like(SEGMENT, x), 6), [_n(5, 3)]),
    "scatter_rows": (lambda x: ops.scatter_rows(x, ops.like(ROWS, x), 7), [_n(5, 2)]),
    "linear": (lambda x, w, b: ops.linear(x, w, b), [_n(2, 3, 4), _n(4, 5), _n(5)]),
    "linear_2d": (lambda x, w, b: ops.linear(x, w, b), [_n(3, 4), _n(4, 5), _n(5)]),
    "linear_no_bias": (lambda x, w: ops.linear(x, w), [_n(2, 3, 4), _n(4, 5)]),
    "matrix_transpose": (lambda x: ops.matrix_transpose(x) * 2.0, [_n(2, 3, 4)]),
    "contract": (lambda g, r: ops.contract(g, r), [_n(2, 3, 4), _n(2, 3, 5)]),
    "softmax": (lambda x: ops.softmax(x), [_n(2, 4)]),
    "amax": (lambda x: ops.amax(x), [_n(3, 4)]),
    "layer_norm": (lambda x, w, b: ops.layer_norm(x, w, b, 1e-5), [_n(2, 4), _n(4), _n(4)]),
    "cast": (lambda x: ops.cast(x, "float64") * x, [_n(4)]),
    "environment": (lambda d: environment_matrix(d, 4.0, 0.5, 0.01), [_n(3, 2, 3)]),
    "environment_radial": (lambda d: environment_matrix(d, 4.0, 0.5, radial=True), [_n(3, 3)]),
    **{f"activation_{name}": (activation(name), [_n(3, 4)]) for name in NAMES if name != "none"},
}


@pytest.mark.parametrize("name", CASES)
def test_values_and_two_derivatives(name):
    f, arrays = CASES[name]
    tensors = [torch.tensor(a, requires_grad=True) for a in arrays]
    expected = f(*arrays)
    result = f(*tensors).detach().numpy()
    assert result.shape == expected.shape
    np.testing.assert_allclose(result, expected, rtol=1e-13, atol=1e-14)
    assert torch.autograd.gradcheck(f, tensors)
    assert torch.autograd.gradgradcheck(f, tensors)


@pytest.mark.parametrize("name", CASES)
def test_the_faster_form_keeps_float32(name):
    f, arrays = CASES[name]
    result = f(*[torch.tensor(a, dtype=torch.float32) for a in arrays])
    if name != "cast":
        assert result.dtype == torch.float32
    np.testing.assert_allclose(result.numpy(), f(*arrays), rtol=1e-4, atol=1e-4)


def test_take_of_nothing():
    x = torch.zeros((1, 3), dtype=torch.float64)
    assert ops.take(x, torch.zeros((0, 4), dtype=torch.int64)).shape == (0, 4, 3)
    assert ops.segment_sum(x[:0], torch.zeros(0, dtype=torch.int64), 2).shape == (2, 3)


def test_numbers_become_float64():
    x = torch.zeros(3, dtype=torch.float32)
    assert ops.like([[1.5, 2.0]], x).dtype == torch.float64
    assert ops.like([1, 2], x).dtype == torch.int64
    assert ops.stop_gradient(torch.ones(2, requires_grad=True)).requires_grad is False


def _energy(vec):
    total = ops.xp(vec).sum(vec * vec * vec)
    return {"value": vec * 2.0}, [total, ops.xp(vec).sum(vec[:, 0] * vec[:, 1])]


def test_edge_gradient_agrees_with_numpy_and_can_be_kept():
    vec = _n(4, 3)
    _, expected = ops.edge_gradient(vec, _energy)
    values, found = ops.edge_gradient(torch.tensor(vec), _energy)
    assert not values["value"].requires_grad and not found[0].requires_grad
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a.numpy(), b, rtol=1e-14)

    scale = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)
    _, (g,) = ops.edge_gradient(
        torch.tensor(vec),
        lambda v: ({}, [(scale * v * v).sum()]),
        order=2,
    )
    (slope,) = torch.autograd.grad(g.sum(), scale)
    np.testing.assert_allclose(slope.item(), 2 * vec.sum(), rtol=1e-13)


def test_edge_gradient_refuses_derivatives_that_its_order_excludes():
    vec = torch.tensor(_n(4, 3))
    with pytest.raises(ValueError, match="several gradients"):
        ops.edge_gradient(vec, _energy, order=2)
    with pytest.raises(ValueError, match="order=3"):
        ops.edge_gradient(vec.requires_grad_(), _energy, order=2)


def test_forms_for_processors_and_for_traces():
    layers = EmbeddingNetwork(1, [2, 4], seed=1).layers
    r = torch.ones((2, 3, 4), dtype=torch.float64)
    arrays = [DenseArrays(*map(torch.tensor, x.arrays[:2])) for x in layers]
    given = arrays, [x.options for x in layers]
    assert embed_contract.form(r, *given, order=2) is not embed_contract.reference
    assert embed_contract.form(r.to("meta"), *given, order=2) is embed_contract.reference
    chosen = []

    def traced(r):
        chosen.extend(embed_contract.form(r, *given, order=k) for k in (1, 2))
        return r

    make_fx(traced, tracing_mode="symbolic")(r)
    assert chosen[0] not in (embed_contract.reference, embed_contract.form(r, *given, order=1))
    assert chosen[1] is embed_contract.reference


@pytest.mark.parametrize("name", ["se_e2_a", "se_e3", "se_atten", "dpa2", "dpa3", "linear_ener"])
def test_models_hand_the_order_to_their_operations(name, monkeypatch, tmp_path):
    orders, call = [], blocks.Fused.__call__
    monkeypatch.setattr(
        blocks.Fused, "__call__", lambda self, *x: orders.append(self.order) or call(self, *x)
    )
    lifted, b = convert(build_model(section(name, tmp_path))), batch()
    inputs = prepare(b, lifted.packings()).map(torch.tensor)
    for order in (1, 2, 3):
        lifted.predict(inputs, b.n_frames, order=order)
        assert set(orders) == ({order} if order < 3 else set())
        orders.clear()


def test_edge_gradient_of_a_constant_is_zero():
    vec = torch.tensor(_n(4, 3))
    _, (g,) = ops.edge_gradient(vec, lambda v: ({}, [torch.zeros((), dtype=torch.float64)]))
    assert g.shape == (4, 3) and not g.any()


@pytest.mark.parametrize("count", [1, 2])
def test_edge_gradient_evaluates_once(count):
    calls = []

    def energy(vec):
        calls.append(1)
        values, totals = _energy(vec)
        return values, totals[:count]

    vec = torch.tensor(_n(4, 3))
    _, gradients = ops.edge_gradient(vec, energy, order=1 + count)
    assert (len(calls), len(gradients)) == (1, count)
    if count == 2:
        with pytest.raises(ValueError, match="several gradients"):
            ops.edge_gradient(vec, energy, order=2)


def test_rows_and_sums_by_index_are_transposes():
    """Rows by index and sums over segments, through second derivatives, in every order of rows."""
    index = torch.tensor([3, 0, 3, 1, -1])
    x, y = (torch.tensor(_n(k, 2, 3), requires_grad=True) for k in (4, 5))
    assert torch.autograd.gradcheck(lambda v: ops.take(v, index), (x,))
    assert torch.autograd.gradgradcheck(lambda v: ops.take(v, index) ** 2, (x,))
    rows = index % 4
    assert torch.autograd.gradcheck(lambda v: ops.segment_sum(v, rows, 6), (y,))
    assert torch.autograd.gradgradcheck(lambda v: ops.segment_sum(v, rows, 6) ** 2, (y,))
    many, where = torch.tensor(_n(3000, 17)), torch.arange(3000) * 7 % 11
    expected = torch.zeros((11, 17), dtype=many.dtype).index_add(0, where, many)
    torch.testing.assert_close(ops.segment_sum(many, where, 11), expected, rtol=1e-13, atol=1e-13)
    with pytest.raises((IndexError, RuntimeError)):
        ops.segment_sum(many, where, 5)
