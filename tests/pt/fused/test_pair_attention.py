# SPDX-License-Identifier: LGPL-3.0-or-later
"""Attention between pairs by the compiled kernels against its reference: values, forces, gradients."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import deepmd.pt.ops  # noqa: E402, F401
from deepmd.dpmodel.nn.pair_attention import (  # noqa: E402
    PairAttentionApply,
    PairAttentionMap,
    Pairs,
    pair_attention,
)
from deepmd.pt.fused import kernel_attention  # noqa: E402
from deepmd.pt.fused.kernels import kernels  # noqa: E402
from deepmd.pt.lift import convert  # noqa: E402
from tests.pt.closeness import assert_close  # noqa: E402

pytestmark = pytest.mark.skipif(
    kernels(torch.float64) is None, reason="libdeepmd_training is not built"
)
WIDTH = 5


def _pairs(n, k, precision):
    """Vectors to k slots of n atoms: atoms without neighbors, a hole between neighbors."""
    rng = np.random.default_rng(6)
    filled = rng.integers(0, k + 1, n)
    filled[:2] = 0, k
    mask = np.arange(k)[None, :] < filled[:, None]
    mask[1, 1:2] = False
    dtype = getattr(torch, precision)
    return torch.tensor(rng.normal(size=(n, k, 3))).to(dtype), torch.tensor(mask * 1.0).to(dtype)


def _parts(precision="float64", heads=3, hidden=4, has_gate=True, **settings):
    given = {"input_dim": WIDTH, "head_num": heads, "precision": precision, "seed": 3}
    parts = (
        PairAttentionMap(hidden_dim=hidden, has_gate=has_gate, **settings, **given),
        PairAttentionApply(**given),
    )
    return [convert(part) for part in parts]


def _training(apply, parts, vec, mask, more):
    """Energy and force of an attention, gradients of a loss of both, and of the energy alone."""
    space = torch.linspace(-0.7, 0.9, WIDTH, dtype=vec.dtype)
    vec = vec.detach().requires_grad_()
    square = (vec * vec).sum(-1, keepdim=True)
    g2 = torch.sin(square * space + vec[..., :1])
    h2 = vec / (1.0 + square) * mask[..., None]
    pairs = Pairs(None, mask, torch.exp(-square[..., 0]) * mask, more, 9, 2)
    weights, mix = parts
    for part in parts:
        part.zero_grad()
    y = apply(g2, h2, pairs, mix.arrays(weights), weights.options, order=2)
    energy = (torch.tanh(y * space + vec[..., :1]) ** 2 * (0.5 + mask[..., None])).sum()
    (force,) = torch.autograd.grad(energy, vec, create_graph=True)
    loss = (force * torch.arange(3.0, dtype=vec.dtype)).pow(2).sum() + 0.7 * energy
    wanted = [p for part in parts for p in part.parameters()]
    only_energy = torch.autograd.grad(energy, wanted, retain_graph=True)
    return energy.detach(), force.detach(), *torch.autograd.grad(loss, wanted), *only_energy


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"has_gate": False},
        {"heads": 1},
        {"hidden": 9},
        {"precision": "float32"},
        {"precision": "float32", "has_gate": False},
    ],
    ids=str,
)
@pytest.mark.parametrize("k", [3, 17])
def test_kernel(settings, k):
    precision = settings.get("precision", "float64")
    vec, mask = _pairs(6, k, precision)
    parts = _parts(**settings)
    expected = _training(pair_attention.reference, parts, vec, mask, 2)
    found = _training(pair_attention, parts, vec, mask, 2)
    assert_close(found, expected, 1e-12 if precision == "float64" else 3e-5)
    assert float(found[1].abs().max()) > 0.1


@pytest.mark.parametrize(
    ("settings", "order", "fits"),
    [({}, 2, True), ({}, 3, False), ({"hidden": 2}, 2, False), ({"smooth": False}, 2, False)],
)
def test_choice(settings, order, fits):
    """The kernel serves smooth attention of heads that are not much narrower than the features."""
    weights, mix = _parts(**settings)
    vec, mask = _pairs(2, 3, "float64")
    pairs = Pairs(None, mask, mask, 0, 3, order)
    g2 = vec.new_zeros((2, 3, WIDTH))
    given = (g2, vec, pairs, mix.arrays(weights), weights.options)
    form = pair_attention.form(*given, order=order)
    assert (form is not pair_attention.reference) == fits


def test_threads_change_nothing(monkeypatch):
    vec, mask = _pairs(40, 4, "float64")
    parts, found = _parts(), []
    for threads in (1, 3):
        monkeypatch.setattr(kernel_attention, "threads", lambda n=threads: n)
        found.append(_training(pair_attention, parts, vec, mask, 2))
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))
