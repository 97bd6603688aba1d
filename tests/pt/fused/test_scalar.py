# SPDX-License-Identifier: LGPL-3.0-or-later
"""Sums of s G(s) against their reference and against differences, at all sizes."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from deepmd.dpmodel.nn.layers import EmbeddingNetwork, embed_contract  # noqa: E402
from deepmd.pt.fused import kernel_scalar  # noqa: E402
from deepmd.pt.fused.kernels import kernels  # noqa: E402
from deepmd.pt.lift import convert  # noqa: E402


def _case(neuron, n, k, dtype=torch.float64):
    network = convert(EmbeddingNetwork(1, neuron, seed=1)).to(dtype)
    s = torch.tensor(np.random.default_rng(3).normal(size=(n, k, 1)), dtype=dtype)
    return network, s


def _module(network, s, order=2):
    layers, options = zip(*((x.arrays, x.options) for x in network.layers), strict=True)
    return embed_contract.form(s, layers, options=options, table=None, order=order).__module__


def _gradients(network, s, order):
    """Value and vjp, and the gradients of a loss of both."""
    s = s.clone().requires_grad_(True)
    t = network.contract(s, order=order)
    (g,) = torch.autograd.grad((torch.tanh(t) * 0.7).sum(), s, create_graph=True)
    loss = (g * torch.arange(1.0, s.shape[1] + 1.0, dtype=s.dtype)[:, None]).pow(2).sum() + t.sum()
    return [t, g, *torch.autograd.grad(loss, list(network.parameters()))]


@pytest.mark.parametrize(("n", "k"), [(1, 1), (2, 7), (3, 32), (70, 33), (2, 100)])
@pytest.mark.parametrize("neuron", [[1], [2, 4, 8], [5, 5, 10], [3, 7]])
def test_same_gradients(neuron, n, k, form):
    network, s = _case(neuron, n, k)
    for a, b in zip(_gradients(network, s, 2), _gradients(network, s, 3), strict=True):
        assert float((a - b).detach().abs().max()) <= 1e-12 * max(
            float(b.detach().abs().max()), 1.0
        )


def test_threads_change_nothing(form, monkeypatch):
    network, s = _case([2, 4, 8], 40, 19)
    found = []
    for threads in (1, 3):
        monkeypatch.setattr(kernel_scalar, "threads", lambda n=threads: n)
        found.append(_gradients(network, s, 2))
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_single_precision(form):
    network, s = _case([2, 4, 8], 5, 21, torch.float32)
    for a, b in zip(_gradients(network, s, 2), _gradients(network, s, 3), strict=True):
        torch.testing.assert_close(a, b, rtol=2e-4, atol=2e-4)


def test_derivatives_are_right(form):
    """First derivatives and those of the pair of sum and vjp by the weights, against differences."""
    network, s = _case([2, 4], 2, 3)
    arrays, options = zip(*((x.arrays, x.options) for x in network.layers), strict=True)
    weights = [w.detach().requires_grad_(True) for x in arrays for w in (x.w, x.b)]

    def sums(s, *w, order):
        pairs = zip(arrays, w[0::2], w[1::2], strict=True)
        layers = [x._replace(w=a, b=b) for x, a, b in pairs]
        return embed_contract(s, layers, options, order=order)

    def both(*w):
        moving = s.clone().requires_grad_(True)
        t = sums(moving, *w, order=2)
        (g,) = torch.autograd.grad((t**2).sum(), moving, create_graph=True)
        return g, t

    moving = s.clone().requires_grad_(True)
    fixed = [w.detach() for w in weights]
    assert torch.autograd.gradcheck(lambda x: sums(x, *fixed, order=1), (moving,))
    assert torch.autograd.gradcheck(both, tuple(weights))


def test_a_number_that_is_none_stays_so(form):
    network, s = _case([2, 4], 3, 5)
    s[1, 2] = torch.nan
    t, g, *grads = _gradients(network, s, 2)
    assert torch.isnan(t[1]).all() and not torch.isnan(t[[0, 2]]).any()
    assert all(torch.isnan(x).any() for x in (g, *grads))


def test_other_networks_take_another_form():
    if kernels(torch.float64) is None:
        pytest.skip("needs the compiled libraries")
    mine = _module(*_case([2, 4, 8], 2, 3))
    assert mine == kernel_scalar.__name__
    wide, empty, third = _case([40, 40], 2, 3), _case([2, 4], 0, 3), (*_case([2, 4], 2, 3), 3)
    assert mine not in [_module(*x) for x in (wide, empty, third)]
