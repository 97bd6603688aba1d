# SPDX-License-Identifier: LGPL-3.0-or-later
"""The fused embedding against its reference: values, forces, and gradients of a loss of both."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from deepmd.dpmodel import ops  # noqa: E402
from deepmd.dpmodel.model import prepare  # noqa: E402
from deepmd.dpmodel.nn.layers import (  # noqa: E402
    DenseArrays,
    DenseOptions,
    EmbeddingNetwork,
    embed_contract,
)
from deepmd.pt.fused import blocks, kernel_interpolation  # noqa: E402
from deepmd.pt.fused.kernels import kernels  # noqa: E402
from deepmd.pt.lift import convert  # noqa: E402
from tests.pt.models import batch, model  # noqa: E402


def _rows(vec, k):
    """Some rows (n, k, 4) that depend on vec smoothly."""
    space = ops.xp(vec)
    r = space.reshape(vec, (-1, k, 3))
    return space.concat([space.sum(r * r, axis=-1, keepdims=True) * 0.3, r], axis=-1)


def _gradients(network, vec, k, mix, order):
    """Loss of energy and force; gradients for the network and for what comes after it."""

    def energy(v):
        t = network.contract(_rows(v, k), order=order)
        return {"t": t}, [(torch.tanh(t * mix) ** 2).sum()]

    values, (g,) = ops.edge_gradient(vec, energy, order=2)
    loss = (g * torch.arange(3.0)).pow(2).sum() + 0.7 * values["t"].sum()
    wanted = [p for p in network.parameters() if p.requires_grad]
    grads = torch.autograd.grad(loss, [mix, *wanted])
    return [x.detach() for x in (values["t"], g, *grads)]


@pytest.mark.parametrize("neuron", [[3], [4, 8, 16], [5, 5, 10], [3, 7]])
@pytest.mark.parametrize("block", [1, 64, 100_000])
def test_same_gradients(neuron, block, form, monkeypatch):
    monkeypatch.setattr(blocks, "BLOCK", block)
    rng = np.random.default_rng(2)
    network = convert(EmbeddingNetwork(1, neuron, seed=1))
    vec = torch.tensor(rng.normal(size=(5 * 3, 3)))
    mix = torch.tensor(rng.normal(size=(1, neuron[-1], 4)), requires_grad=True)
    expected = _gradients(network, vec, 3, mix, order=3)
    found = _gradients(network, vec, 3, mix, order=2)
    assert _is_fused(_rows(vec, 3), network, order=2)
    for a, b in zip(found, expected, strict=True):
        scale = float(b.abs().max())
        assert float((a - b).abs().max()) <= 1e-13 * max(scale, 1.0)


def test_equal_rows_and_threads(monkeypatch):
    """Empty slots, equal rows at the end, are evaluated once; threads change nothing."""
    rng = np.random.default_rng(4)
    network = convert(EmbeddingNetwork(1, [4, 8], seed=1))
    r = torch.tensor(rng.normal(size=(70, 6, 4)))
    for i, empty in enumerate(rng.integers(0, 7, 70)):
        r[i, 6 - empty :] = torch.tensor([-0.3, 0.0, 0.1, 0.0])
    mix = torch.tensor(rng.normal(size=(8, 4)))

    def gradients(order):
        rows = r.clone().requires_grad_(True)
        t = network.contract(rows, order=order)
        (g,) = torch.autograd.grad((torch.tanh(t) * mix).sum(), rows, create_graph=True)
        loss = (g * torch.arange(6.0)[:, None]).pow(2).sum() + t.sum()
        return [t, g, *torch.autograd.grad(loss, list(network.parameters()))]

    expected, found = gradients(3), gradients(2)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-13)
    threads = torch.get_num_threads()
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3 if threads == 1 else 1)
    assert all(torch.equal(a, b) for a, b in zip(gradients(2), found, strict=True))


@pytest.mark.parametrize(("n", "k"), [(1, 1), (2, 3)])
def test_derivatives_are_right(n, k, form):
    """First derivatives and those of the pair of sum and vjp by the weights, against differences."""
    network = convert(EmbeddingNetwork(1, [2, 4], seed=1))
    arrays, options = zip(*((x.arrays, x.options) for x in network.layers), strict=True)
    weights = [w.detach().requires_grad_(True) for x in arrays for w in (x.w, x.b)]
    r = torch.tensor(np.random.default_rng(6).normal(size=(n, k, 4)))

    def sums(r, *w, order):
        pairs = zip(arrays, w[0::2], w[1::2], strict=True)
        layers = [x._replace(w=a, b=b) for x, a, b in pairs]
        return embed_contract(r, layers, options, order=order)

    def both(*w):
        moving = r.clone().requires_grad_(True)
        t = sums(moving, *w, order=2)
        (g,) = torch.autograd.grad((t**2).sum(), moving, create_graph=True)
        return g, t

    fixed, moving = [w.detach() for w in weights], r.clone().requires_grad_(True)
    assert torch.autograd.gradcheck(lambda x: sums(x, *fixed, order=1), (moving,))
    assert torch.autograd.gradcheck(both, tuple(weights))


def test_numbers_that_are_none_stay_so(form):
    network = convert(EmbeddingNetwork(1, [2, 4], seed=1))
    r = torch.tensor(np.random.default_rng(7).normal(size=(3, 4, 4)))
    r[1, 2, 0] = torch.nan
    r.requires_grad_(True)
    t = network.contract(r, order=2)
    (g,) = torch.autograd.grad((t**2).sum(), r, create_graph=True)
    grads = torch.autograd.grad((g**2).sum(), list(network.parameters()))
    assert torch.isnan(t[1]).all() and not torch.isnan(t[[0, 2]]).any()
    assert all(torch.isnan(x).any() for x in (g, *grads))


@pytest.mark.parametrize("block", [64, 100_000])
def test_types_in_the_first_layer(block, monkeypatch):
    monkeypatch.setattr(blocks, "BLOCK", block)
    rng = np.random.default_rng(3)
    network = convert(EmbeddingNetwork(4, [5, 10], seed=1))
    vec = torch.tensor(rng.normal(size=(5 * 3, 3)))
    table = torch.tensor(rng.normal(size=(3, 5)), requires_grad=True)
    index = torch.tensor(rng.integers(-1, 3, (5, 3)))

    def gradients(order):
        def energy(v):
            t = network.contract(_rows(v, 3), table, index, order=order)
            return {"t": t}, [(torch.tanh(t) ** 2).sum()]

        values, (g,) = ops.edge_gradient(vec, energy, order=2)
        loss = (g * torch.arange(3.0)).pow(2).sum() + 0.7 * values["t"].sum()
        wanted = [table, *(p for layer in network.layers for p in (layer.w, layer.b))]
        grads = torch.autograd.grad(loss, wanted, allow_unused=True)
        return [values["t"], g, *(x for x in grads if x is not None)]

    for a, b in zip(gradients(2), gradients(3), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-13)


# -- by interpolation -------------------------------------------------------------------------------


def _counted(monkeypatch):
    """Evaluations by interpolation from now on: for each, whether there was a series."""
    found, of = [], kernel_interpolation._Series.of

    def counting(*args):
        found.append(of(*args))
        return found[-1]

    monkeypatch.setattr(kernel_interpolation._Series, "of", counting)
    return found


def _with_types(network, rows, table, index, order):
    """Gradients of a loss of sums and their vjp, for the table and the layers."""
    t = network.contract(rows, table, index, order=order)
    (g,) = torch.autograd.grad((torch.tanh(t) ** 2).sum(), rows, create_graph=True)
    loss = (g * torch.arange(float(rows.shape[1]))[:, None]).pow(2).sum() + t.sum()
    wanted = [p for layer in network.layers for p in (layer.w, layer.b)]
    wanted = wanted if table is None else [*wanted, table]
    grads = torch.autograd.grad(loss, wanted, allow_unused=True)
    return [t, g, *(x for x in grads if x is not None)]


@pytest.mark.parametrize("types", [0, 4])
@pytest.mark.parametrize("precision", ["float64", "float32"])
def test_interpolation(types, precision, monkeypatch):
    """Series in place of networks give the digits of the reference, on any number of threads."""
    if kernels(torch.float64) is None:
        pytest.skip("needs the compiled libraries")
    rng, dtype = np.random.default_rng(3), getattr(torch, precision)
    network = convert(EmbeddingNetwork(1 + types, [20, 40, 20], seed=1, precision=precision))
    rows = torch.tensor(rng.normal(size=(30, 50, 4)), dtype=dtype, requires_grad=True)
    table = index = None
    if types:
        table = torch.tensor(rng.normal(size=(types, 20)), dtype=dtype, requires_grad=True)
        index = torch.tensor(rng.integers(-1, 2, (30, 50)))  # type 2 does not occur
    found = _counted(monkeypatch)
    fast = _with_types(network, rows, table, index, 2)
    assert len(found) == 1 and found[0] is not None
    limit = 1e-12 if precision == "float64" else 2e-5
    for a, b in zip(fast, _with_types(network, rows, table, index, 3), strict=True):
        torch.testing.assert_close(a, b, rtol=0.0, atol=limit * float(b.detach().abs().max()))
    threads = torch.get_num_threads()
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3 if threads == 1 else 1)
    again = _with_types(network, rows, table, index, 2)
    assert all(torch.equal(a, b) for a, b in zip(again, fast, strict=True))


def test_derivatives_by_interpolation_are_right(monkeypatch):
    if kernels(torch.float64) is None:
        pytest.skip("needs the compiled libraries")
    network = convert(EmbeddingNetwork(1, [16, 32, 16], seed=1))
    arrays, options = zip(*((x.arrays, x.options) for x in network.layers), strict=True)
    r = torch.tensor(np.random.default_rng(6).normal(size=(4, 150, 4)))
    bias = arrays[0].b.detach().requires_grad_(True)
    found = _counted(monkeypatch)

    def both(b):
        moving = r.clone().requires_grad_(True)
        layers = [arrays[0]._replace(b=b), *arrays[1:]]
        t = embed_contract(moving, layers, options, order=2)
        (g,) = torch.autograd.grad((t**2).sum(), moving, create_graph=True)
        return g[:, :3], t

    assert torch.autograd.gradcheck(both, (bias,), atol=1e-4)
    assert found and all(x is not None for x in found)


@pytest.mark.parametrize("types", [0, 2])
def test_no_series_of_a_steep_network(types, monkeypatch):
    """Functions without a short series are evaluated for every row."""
    network = convert(EmbeddingNetwork(1 + types, [12, 24], seed=1))
    with torch.no_grad():
        network.layers[0].w *= 1000.0
    rng = np.random.default_rng(6)
    rows = torch.tensor(rng.normal(size=(20, 20, 4)), requires_grad=True)
    table = torch.tensor(rng.normal(size=(2, 12)), requires_grad=True) if types else None
    index = torch.tensor(rng.integers(0, 2, (20, 20))) if types else None
    found = _counted(monkeypatch)
    fast = _with_types(network, rows, table, index, 2)
    assert not any(found)
    for a, b in zip(fast, _with_types(network, rows, table, index, 3), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-11 * float(b.detach().abs().max()))


def test_other_networks_take_the_reference():
    r = torch.ones((2, 3, 4), dtype=torch.float64)
    assert _is_fused(r, EmbeddingNetwork(1, [2, 4]))
    assert not _is_fused(r, EmbeddingNetwork(1, [2, 4], resnet_dt=True))
    assert not _is_fused(r, EmbeddingNetwork(1, [2, 4], bias=False))
    assert not _is_fused(r, EmbeddingNetwork(1, [2, 4], activation_function="gelu"))
    assert not _is_fused(r[:0], EmbeddingNetwork(1, [2, 4]))
    assert not _is_fused(r, EmbeddingNetwork(1, [2, 4]), order=3)


def _is_fused(r, network, order=2):
    layers, options = zip(*((x.arrays, x.options) for x in network.layers), strict=True)
    form = embed_contract.form(r, layers, options=options, table=None, order=order)
    return form is not embed_contract.reference


def _training_gradients(lifted, inputs, n, order=2):
    pred = lifted.predict(inputs, n, order=order)
    loss = pred["force"].pow(2).sum() + pred["energy"].pow(2).sum() + pred["virial"].sum()
    return torch.autograd.grad(loss, list(lifted.parameters()))


@pytest.mark.parametrize("one_sided", [True, False])
def test_whole_models(one_sided):
    lifted = convert(model(type_one_side=one_sided))
    b = batch()
    inputs = prepare(b, lifted.packings()).map(torch.tensor)
    found = _training_gradients(lifted, inputs, b.n_frames)
    for a, e in zip(found, _training_gradients(lifted, inputs, b.n_frames, order=3), strict=True):
        torch.testing.assert_close(a, e, rtol=1e-11, atol=1e-12)


def test_second_derivatives_by_position_are_right():
    lifted = convert(model())
    b = batch((4,), periodic=(False,))
    inputs = prepare(b, lifted.packings()).map(torch.tensor)

    def force(vec):
        raw = lifted.forward_edges(inputs._replace(vec=vec), order=3)
        return raw["energy_grad"]

    vec = inputs.vec.clone().requires_grad_(True)
    assert torch.autograd.gradcheck(force, (vec,), atol=1e-7)


def test_frozen_embedding_still_gives_gradients_of_the_rest():
    neutral = model()
    neutral.atomic_model.descriptor.trainable = False
    lifted = convert(neutral)
    b = batch()
    inputs = prepare(b, lifted.packings()).map(torch.tensor)
    whole = convert(model())
    names = [k for k, _ in whole.named_parameters()]
    every = dict(zip(names, _training_gradients(whole, inputs, b.n_frames), strict=True))
    some = _training_gradients(lifted, inputs, b.n_frames)
    for (name, _), g in zip(lifted.named_parameters(), some, strict=True):
        torch.testing.assert_close(g, every[name], rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize(("width", "slope"), [(0.02, 2000.0), (0.005, 8000.0), (0.05, 800.0)])
@pytest.mark.parametrize("place", [0.37, 1.31])
def test_a_narrow_step_of_a_later_layer(place, width, slope):
    """Two steep functions of the second layer, of which the third takes the difference."""
    rng = np.random.default_rng(0)
    w1, b1 = 0.05 + 0.01 * rng.normal(size=(1, 8)), 0.1 * rng.normal(size=8)
    w2, b2, w3, b3 = (0.1 * rng.normal(size=shape) for shape in ((8, 8), 8, (8, 8), 8))

    def first(s):
        return np.tanh(s * w1[0, 0] + b1[0])

    for unit, center in ((0, place - width / 2), (1, place + width / 2)):
        w2[:, unit] = 0.0
        w2[0, unit] = slope / (w1[0, 0] * (1.0 - first(place) ** 2))
        b2[unit] = -w2[0, unit] * first(center)
    w3[:2] = [[0.5], [-0.5]]
    arrays = [
        [torch.tensor(a, requires_grad=True) for a in p] for p in ((w1, b1), (w2, b2), (w3, b3))
    ]
    layers = [DenseArrays(*pair) for pair in arrays]
    options = 3 * [DenseOptions("tanh", 0)]
    rows = rng.normal(size=(32, 100, 4))
    rows[..., 0] = rng.uniform(0.0, 2.0, (32, 100))
    r = torch.tensor(rows, requires_grad=True)
    got = embed_contract(r, layers, options, order=2)
    want = embed_contract.reference(r, layers, options)
    torch.testing.assert_close(got, want, rtol=0.0, atol=1e-12 * float(want.detach().abs().max()))
