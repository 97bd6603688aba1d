# SPDX-License-Identifier: LGPL-3.0-or-later
"""The activated sums in blocks against their reference, through two derivatives."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import deepmd.pt.ops  # noqa: E402, F401
from deepmd.dpmodel.nn.activation import activation  # noqa: E402
from deepmd.dpmodel.nn.updates import activated_sum  # noqa: E402
from deepmd.pt import activated_sum as blocks  # noqa: E402
from deepmd.pt.smooth import smooth  # noqa: E402


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


@pytest.mark.parametrize("name", ["tanh", "silut:1.0"])
@pytest.mark.parametrize("width", [0, 2, 5])
@pytest.mark.parametrize("block", [5, 1 << 16])
def test_two_derivatives(name, width, block, monkeypatch):
    monkeypatch.setattr(blocks, "BLOCK", block)
    z, w = _tensor(7, 5), _tensor(7)
    segment = torch.tensor([0, 0, 1, 1, 1, 3, 3])

    def f(z, w):
        return activated_sum(z, w, segment, 4, width, name)

    for got, want in zip(
        f(z, w), activated_sum.reference(z, w, segment, 4, width, name), strict=True
    ):
        torch.testing.assert_close(got, want, rtol=1e-13, atol=1e-14)
    assert torch.autograd.gradcheck(f, (z, w))
    assert torch.autograd.gradgradcheck(f, (z, w))
