# SPDX-License-Identifier: LGPL-3.0-or-later
"""The parts of attention in blocks against their references, through two derivatives."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import deepmd.pt.ops  # noqa: E402, F401
from deepmd.dpmodel.nn.attention import gated_softmax, unit_parts  # noqa: E402
from deepmd.pt import attention, embedding  # noqa: E402


def _tensor(*shape, grad=True):
    rng = np.random.default_rng(shape)
    return torch.tensor(rng.normal(size=shape), requires_grad=grad)


def _agree(f, reference, arguments):
    with embedding.allowed(True, parameters=True):
        for got, want in zip(f(*arguments), reference(*arguments), strict=True):
            torch.testing.assert_close(got, want, rtol=1e-13, atol=1e-14)
        assert torch.autograd.gradcheck(f, arguments)
        assert torch.autograd.gradgradcheck(f, arguments)


@pytest.mark.parametrize("block", [3, 1 << 16])
def test_unit_parts(block, monkeypatch):
    monkeypatch.setattr(attention, "BLOCK", block)
    _agree(
        lambda x: unit_parts(x, 3, unit=True),
        lambda x: unit_parts.reference(x, 3, unit=True),
        [_tensor(2, 3, 6)],
    )


@pytest.mark.parametrize("heads", [1, 2])
@pytest.mark.parametrize("block", [3, 1 << 16])
def test_gated_softmax(heads, block, monkeypatch):
    monkeypatch.setattr(attention, "BLOCK", block)
    pair = torch.rand((3, 1, 2, 2), generator=torch.manual_seed(1), dtype=torch.float64)
    _agree(
        lambda s, gate: [gated_softmax(s, pair, gate, 3, 0.4)],
        lambda s, gate: [gated_softmax.reference(s, pair, gate, 3, 0.4)],
        [_tensor(3, heads, 2, 2), _tensor(3, 1, 2, 2)],
    )
    s, gate = _tensor(3, heads, 2, 2, grad=False), _tensor(3, 1, 2, 2, grad=False)
    with embedding.allowed(True, parameters=True):
        assert torch.autograd.gradcheck(
            lambda p: gated_softmax(s, p, gate, 3, 0.4), (pair.requires_grad_(),)
        )


def test_the_reference_serves_elsewhere():
    assert not embedding.in_blocks(torch.ones(3))
