# SPDX-License-Identifier: LGPL-3.0-or-later
"""The activated sums in blocks against their reference, through two derivatives."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import deepmd.pt.ops  # noqa: E402, F401
from deepmd.dpmodel.nn.activation import activation  # noqa: E402
from deepmd.dpmodel.nn.updates import activated_sum  # noqa: E402
from deepmd.dpmodel.ops import segment_sum, take  # noqa: E402
from deepmd.pt.fused import blocks  # noqa: E402
from deepmd.pt.fused.smooth import smooth  # noqa: E402


def _tensor(*shape):
    rng = np.random.default_rng(shape)
    return torch.tensor(2.0 * rng.normal(size=shape), requires_grad=True)


@pytest.mark.parametrize("name", ["tanh", "silu", "silut:1.0"])
def test_derivatives_of_activations(name):
    z = _tensor(50)
    value = activation(name)(z)
    (slope,) = torch.autograd.grad(value.sum(), z, create_graph=True)
    (bend,) = torch.autograd.grad(slope.sum(), z)
    for order in range(3):
        found = smooth(name)(z.detach(), order)
        assert len(found) == order + 1
        for got, want in zip(found, (value, slope, bend), strict=False):
            torch.testing.assert_close(got, want.detach(), rtol=1e-13, atol=1e-14)


def test_no_fast_form_of_others():
    assert smooth("gelu") is None
    given = _tensor(7, 5), _tensor(7), SEGMENT, 4, 2, "gelu"
    assert activated_sum.form(*given, order=2) is activated_sum.reference


SEGMENT = torch.tensor([0, 0, 1, 1, 1, 3, 3])


def _training(apply, theta, vec, width, name):
    """Loss of energy and force, and its gradient by theta."""
    vec = vec.detach().requires_grad_()
    z, w = torch.sin(vec[:, :1]) * theta + vec[:, 1:2] * theta**2, torch.exp(-(vec[:, 2] ** 2))
    sums, others = apply(z, w, SEGMENT, 4, width, name, order=2)
    energy = (sums**2).sum() + torch.sin(others).sum()
    (force,) = torch.autograd.grad(energy, vec, create_graph=True)
    alone = torch.autograd.grad(energy, theta, retain_graph=True)
    loss = (force * torch.arange(3.0)).pow(2).sum() + 0.7 * energy
    return force.detach(), *torch.autograd.grad(loss, theta), *alone


@pytest.mark.parametrize("name", ["tanh", "silu", "silut:1.0"])
@pytest.mark.parametrize("width", [0, 2, 5])
@pytest.mark.parametrize("block", [5, 1 << 16])
def test_two_derivatives(name, width, block, form, monkeypatch):
    monkeypatch.setattr(blocks, "BLOCK", block)
    z, w = _tensor(7, 5), _tensor(7)

    def f(z, w, order=1):
        return activated_sum(z, w, SEGMENT, 4, width, name, order=order)

    assert activated_sum.form(z, w, SEGMENT, 4, width, name, order=1) is not activated_sum.reference
    for got, want in zip(
        f(z, w), activated_sum.reference(z, w, SEGMENT, 4, width, name), strict=True
    ):
        torch.testing.assert_close(got, want, rtol=1e-13, atol=1e-14)
    assert torch.autograd.gradcheck(f, (z, w))
    assert torch.autograd.gradgradcheck(lambda x: f(x, w.detach(), 2), (z,))
    given = (_tensor(5), _tensor(7, 3), width, name)
    expected = _training(activated_sum.reference, *given)
    for got, want in zip(_training(activated_sum, *given), expected, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_many_rows_and_threads(dtype, form, monkeypatch):
    rng = np.random.default_rng(5)
    dtype = getattr(torch, dtype)
    z, w = (torch.tensor(rng.normal(size=n), dtype=dtype) for n in ((9000, 5), (9000,)))
    segment = torch.tensor(np.sort(rng.integers(0, 40, 9000)))

    def gradients(run, order):
        x, v = z.clone().requires_grad_(), w.clone().requires_grad_()
        theta = torch.ones((), dtype=dtype, requires_grad=True)
        sums, others = run(x * theta, v, segment, 40, 3, "silut:0.5", order=order)
        energy = (sums**2).sum() + torch.sin(others).sum()
        g = torch.autograd.grad(energy, (x, v), create_graph=True)
        total = g[0].pow(2).sum() + g[1].sum() + energy
        return [sums, others, *g, *torch.autograd.grad(total, theta)]

    found = gradients(activated_sum, 2)
    tolerance = 1e-11 if dtype == torch.float64 else 1e-4
    for got, want in zip(found, gradients(activated_sum.reference, 3), strict=True):
        torch.testing.assert_close(got, want, rtol=tolerance, atol=tolerance)
    if form == "kernels":
        threads = torch.get_num_threads()
        monkeypatch.setattr(torch, "get_num_threads", lambda: 3 if threads == 1 else 1)
        again = gradients(activated_sum, 2)
        assert all(torch.equal(a, b) for a, b in zip(again[:4], found[:4], strict=True))


def test_segments_out_of_order_take_the_blocks(form):
    z, w = _tensor(7, 5), _tensor(7)
    turned = SEGMENT.flip(0)
    given = z, w, turned, 4, 2, "tanh"
    assert activated_sum.form(*given, order=2) is not activated_sum.reference
    for got, want in zip(
        activated_sum(*given, order=2), activated_sum.reference(*given), strict=True
    ):
        torch.testing.assert_close(got, want, rtol=1e-13, atol=1e-14)


@pytest.mark.parametrize(("k", "c"), [(1, 1), (7, 3), (5, 9)])
def test_rows_by_index_and_their_sums(k, c, form):
    index = torch.arange(k).mul(5).remainder(4)
    rows, table = _tensor(k, c), _tensor(4, c)
    for f, x in ((lambda x: segment_sum(x, index, 4), rows), (lambda x: take(x, index), table)):
        assert torch.autograd.gradcheck(f, (x,))
        assert torch.autograd.gradgradcheck(f, (x,))
    nothing = take(table, index[:0])
    assert nothing.shape == (0, c)
    (g,) = torch.autograd.grad(nothing.sum(), table)
    assert not g.any()
