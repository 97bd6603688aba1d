# SPDX-License-Identifier: LGPL-3.0-or-later
"""Attention in blocks against its reference: values, forces, and gradients of a loss of both."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import deepmd.pt.ops  # noqa: E402, F401
from deepmd.dpmodel.nn.attention import (  # noqa: E402
    GatedAttentionLayer,
    NeighborSlots,
    attention_layer,
    gated_softmax,
)
from deepmd.pt.fused import blocks, kernel_attention  # noqa: E402
from deepmd.pt.lift import convert  # noqa: E402
from tests.pt.closeness import assert_close  # noqa: E402


def _tensor(*shape, grad=True):
    rng = np.random.default_rng(shape)
    return torch.tensor(rng.normal(size=shape), requires_grad=grad)


@pytest.fixture(params=[3, 1 << 18])
def block(request, monkeypatch):
    monkeypatch.setattr(blocks, "BLOCK", request.param)


@pytest.mark.usefixtures("block")
@pytest.mark.parametrize("heads", [1, 2])
def test_gated_softmax(heads):
    pair = torch.rand((3, 1, 2, 2), generator=torch.manual_seed(1), dtype=torch.float64)
    arguments = _tensor(3, heads, 2, 2), _tensor(3, 1, 2, 2)

    def f(s, gate):
        return gated_softmax(s, pair, gate, 3, 0.4, order=2)

    want = gated_softmax.reference(arguments[0], pair, arguments[1], 3, 0.4)
    assert gated_softmax.form(*arguments, pair, 3, 0.4, order=2) is not gated_softmax.reference
    torch.testing.assert_close(f(*arguments), want, rtol=1e-13, atol=1e-14)
    assert torch.autograd.gradcheck(f, arguments)
    assert torch.autograd.gradgradcheck(f, arguments)
    s, gate = (x.detach() for x in arguments)
    assert torch.autograd.gradcheck(
        lambda p: gated_softmax(s, p, gate, 3, 0.4, order=1), (pair.requires_grad_(),)
    )


def _training(apply, layer, vec, mask, more):
    """Loss of energy and force of an attention layer, its parameters' gradients, and the force."""
    space = torch.tensor([[0.3, -0.7, 0.2, 0.9]], dtype=vec.dtype)
    vec = vec.detach().requires_grad_()
    square = (vec * vec).sum(-1, keepdim=True)
    g = torch.sin(square * space + vec[..., :1]) * mask[..., None] + 0.3
    sw = torch.exp(-square[..., 0]) * mask
    direction = vec / square.sqrt() * mask[..., None]
    slots = NeighborSlots(mask, sw, direction, more)
    y = apply(g, slots, layer.arrays, layer.options, order=2)
    energy = (torch.tanh(y * space + vec[..., :1]) ** 2).sum()
    (force,) = torch.autograd.grad(energy, vec, create_graph=True)
    loss = (force * torch.arange(3.0)).pow(2).sum() + 0.7 * energy
    wanted = list(layer.parameters())
    only_energy = torch.autograd.grad(energy, wanted, retain_graph=True)
    return energy.detach(), force.detach(), *torch.autograd.grad(loss, wanted), *only_energy


def _layer(precision="float64", **settings):
    layer = GatedAttentionLayer(5, 4, 6, precision=precision, seed=3, **settings)
    rng = np.random.default_rng(4)
    for norm in (layer.attn_layer_norm,):
        norm.w = norm.w + 0.3 * rng.normal(size=4).astype(precision)
        norm.b = norm.b + 0.3 * rng.normal(size=4).astype(precision)
    return convert(layer)


def _slots(n, precision):
    mask = np.ones((n, 3))
    mask[:1, 1:] = 0.0
    mask[1:2] = 0.0  # an atom without neighbors
    vec = torch.tensor(np.random.default_rng(5).normal(size=(n, 3, 3)))
    return (x.to(getattr(torch, precision)) for x in (vec, torch.tensor(mask)))


@pytest.mark.usefixtures("block", "form")
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"smooth": False},
        {"smooth": False, "dotr": False, "temperature": 0.8},
        {"dotr": False},
        {"normalize": False, "scaling_factor": 2.0},
        {"bias": False},
        {"precision": "float32"},
    ],
    ids=str,
)
def test_a_layer(settings):
    precision = settings.get("precision", "float64")
    layer = _layer(**settings)
    vec, mask = _slots(4, precision)
    found = _training(attention_layer, layer, vec, mask, 2)
    expected = _training(attention_layer.reference, layer, vec, mask, 2)
    tolerance = 1e-12 if precision == "float64" else 2e-5
    assert_close(found, expected, tolerance)


def _neighbors(n, k, seed=6):
    """Vectors to k neighbors of n atoms, the last ones of some of them missing."""
    rng = np.random.default_rng(seed)
    filled = rng.integers(0, k + 1, n)
    filled[-1] = k
    mask = np.arange(k)[None, :] < filled[:, None]
    return torch.tensor(rng.normal(size=(n, k, 3))), torch.tensor(mask * 1.0)


@pytest.mark.parametrize(("n", "k"), [(1, 1), (5, 9), (40, 6), (2, 33)])
def test_numbers_of_neighbors(n, k, form):
    layer = _layer()
    found = _training(attention_layer, layer, *_neighbors(n, k), 1)
    expected = _training(attention_layer.reference, layer, *_neighbors(n, k), 1)
    for got, want in zip(found, expected, strict=True):
        assert float((got - want).abs().max()) <= 1e-12 * max(float(want.abs().max()), 1.0)


def test_threads_change_nothing(form, monkeypatch):
    layer, found = _layer(), []
    for threads in (1, 3):
        monkeypatch.setattr(kernel_attention, "threads", lambda n=threads: n)
        found.append(_training(attention_layer, layer, *_neighbors(40, 7), 2))
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_derivatives_are_right(form):
    """First derivatives and those of the pair of value and vjp by the weights, against differences."""
    layer, (vec, mask) = _layer(), _neighbors(2, 3, seed=7)
    weights = [w.detach().requires_grad_(True) for w in layer.arrays]
    x = torch.tensor(np.random.default_rng(8).normal(size=(2, 3, 4)))

    def value(x, vec, *weights, order=1):
        square = (vec * vec).sum(-1)
        direction = vec / square.sqrt()[..., None] * mask[..., None]
        slots = NeighborSlots(mask, torch.exp(-square) * mask, direction, 2)
        return attention_layer(x, slots, type(layer.arrays)(*weights), layer.options, order=order)

    def both(x, *weights):
        moving = vec.clone().requires_grad_(True)
        y = value(x, moving, *weights, order=2)
        (force,) = torch.autograd.grad((y**2).sum(), moving, create_graph=True)
        return y, force

    fixed = [w.detach() for w in weights]
    first = x.clone().requires_grad_(True), vec.clone().requires_grad_(True)
    assert torch.autograd.gradcheck(lambda x, v: value(x, v, *fixed), first)
    assert torch.autograd.gradcheck(both, (first[0], *weights))


def test_numbers_that_are_none_stay_so(form):
    vec, mask = _neighbors(3, 4)
    vec[2, 1] = torch.nan
    _, force, *grads = _training(attention_layer, _layer(), vec, mask, 2)
    assert torch.isnan(force[2]).any() and not torch.isnan(force[:2]).any()
    assert all(torch.isnan(g).any() for g in grads)


def test_no_atoms():
    vec, mask = _slots(0, "float64")
    _, force, *grads = _training(attention_layer, _layer(), vec, mask, 2)
    assert force.shape == (0, 3, 3)
    assert all(not g.any() for g in grads)


def test_the_reference_serves_third_derivatives():
    assert blocks.in_blocks(torch.ones(3), 2)
    assert not blocks.in_blocks(torch.ones(3), 3)
    assert not blocks.in_blocks(torch.ones(0), 2)
