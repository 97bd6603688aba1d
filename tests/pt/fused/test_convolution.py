# SPDX-License-Identifier: LGPL-3.0-or-later
"""Convolutions of DPA-2 by the compiled kernels against their reference."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import deepmd.pt.ops  # noqa: E402, F401
from deepmd.dpmodel.nn.updates import convolution  # noqa: E402
from deepmd.pt.fused import kernel_convolution  # noqa: E402
from deepmd.pt.fused.kernels import kernels  # noqa: E402
from tests.pt.closeness import assert_close  # noqa: E402

pytestmark = pytest.mark.skipif(
    kernels(torch.float64) is None, reason="libdeepmd_training is not built"
)


def _training(apply, n, k, a, c, dtype=torch.float64):
    """Energy, force, gradients of a loss of both, and of the energy alone.

    Atom features, pair features and directions depend on positions and on parameters.
    """
    rng = np.random.default_rng(8)
    vec, w, p, q = (
        torch.tensor(rng.normal(size=shape), dtype=dtype, requires_grad=True)
        for shape in ((n, k, 3), (a, c), (3, a), (3, c))
    )
    mask = torch.tensor(rng.random((n, k, 1)) > 0.3, dtype=dtype)
    weight = torch.exp(-vec.square().sum(-1, keepdim=True)) * mask
    turned = vec * weight * (1.0 + 0.1 * p.sum())
    sums, moments = apply(torch.sin(vec @ q), torch.tanh(vec @ p) * weight, turned, w, order=2)
    energy = torch.tanh(sums).square().sum() + (moments * moments).sum()
    (force,) = torch.autograd.grad(energy, vec, create_graph=True)
    loss = (force * torch.arange(3.0, dtype=dtype)).pow(2).sum() + 0.7 * energy
    only_energy = torch.autograd.grad(energy, (w, p, q), retain_graph=True)
    found = torch.autograd.grad(loss, (w, p, q))
    return energy.detach(), force.detach(), *found, *only_energy


@pytest.mark.parametrize(
    ("sizes", "dtype", "tolerance"),
    [
        ((5, 4, 3, 6), torch.float64, 1e-13),
        ((1, 1, 1, 1), torch.float64, 1e-13),
        ((40, 31, 9, 33), torch.float64, 1e-12),
        ((5, 7, 3, 16), torch.float32, 2e-5),
    ],
    ids=str,
)
def test_kernel(sizes, dtype, tolerance):
    expected = _training(convolution.reference, *sizes, dtype)
    assert_close(_training(convolution, *sizes, dtype), expected, tolerance)


def test_choice():
    given = [torch.zeros(shape, dtype=torch.float64) for shape in ((2, 3, 4), (2, 3, 5), (2, 3, 3))]
    w = torch.zeros((5, 4), dtype=torch.float64)
    mine = convolution.form(*given, w, order=2).__module__
    assert mine == kernel_convolution.__name__
    assert convolution.form(*given, w, order=3) is convolution.reference
    assert convolution.form(*given, w.float(), order=2) is convolution.reference


def test_threads_change_nothing(monkeypatch):
    found = []
    for threads in (1, 3):
        monkeypatch.setattr(kernel_convolution, "threads", lambda n=threads: n)
        found.append(_training(convolution, 40, 5, 4, 7))
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))
