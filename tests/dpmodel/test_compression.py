# SPDX-License-Identifier: LGPL-3.0-or-later
"""Tables of embedding networks: the functions themselves, and models that use them."""

import autograd
import numpy as np
import pytest
from members import section

from deepmd.base.errors import InputError, ModelFileError
from deepmd.dpmodel.batch import Batch
from deepmd.dpmodel.model import Model, build_model
from deepmd.dpmodel.neighbors import batch_edges
from deepmd.dpmodel.nn.layers import EmbeddingNetwork
from deepmd.dpmodel.nn.tabulation import (
    Limits,
    TableSettings,
    derivatives,
    knots_of,
    lookup,
    tabulated,
)
from deepmd.dpmodel.type_map import change_type_map
from deepmd.testing.backends import EVALUATORS, evaluator
from deepmd.testing.systems import small_system

SETTINGS = TableSettings(step=0.01, extrapolate=5.0, min_distance=0.6)
ACTIVATIONS = ("tanh", "gelu", "gelu_tf", "softplus", "sigmoid", "silu", "silut", "linear")


def _network(activation="tanh", resnet_dt=False):
    return EmbeddingNetwork(
        1, [4, 4, 8], activation_function=activation, resnet_dt=resnet_dt, seed=3
    )


def _column(function, c):
    return autograd.elementwise_grad(lambda x: function(x)[:, c : c + 1] + 0.0 * x)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_derivatives_of_networks(activation):
    network, x = _network(activation, resnet_dt=True), np.linspace(-2.0, 5.0, 9)
    value, slope, curve = derivatives(network, x)
    np.testing.assert_allclose(value, network(x[:, None]), rtol=1e-14, atol=1e-14)
    for c in range(8):
        first = _column(network, c)
        np.testing.assert_allclose(slope[:, c], first(x[:, None])[:, 0], rtol=1e-11, atol=1e-12)
        second = _column(first, 0)(x[:, None])[:, 0]
        np.testing.assert_allclose(curve[:, c], second, rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize("symmetric", [False, True])
def test_smooth_across_intervals_and_ends(symmetric):
    limits = Limits(-2.0, 2.0) if symmetric else Limits(-1.0, 3.0)
    data, info = tabulated(_network(), limits, SETTINGS, symmetric=symmetric)
    knots = knots_of(info, symmetric)
    assert len(knots) == len(data) + 1

    def function(x):
        return lookup(x, data, info, symmetric=symmetric)

    first = _column(function, 3)
    second = autograd.elementwise_grad(first)
    near, inner = knots[:, None], knots[1:-1, None]
    for f, x, size in ((function, near, 1e-9), (first, near, 1e-7), (second, inner, 1e-4)):
        below, above = f(x - 1e-10), f(x + 1e-10)
        np.testing.assert_allclose(below, above, rtol=0, atol=size)


def test_linear_beyond_both_ends():
    data, info = tabulated(_network(), Limits(-1.0, 2.0), SETTINGS)
    value, slope, _ = derivatives(_network(), np.array([-1.0, 10.0]))
    for k, (end, sign) in enumerate([(-1.0, -1.0), (10.0, 1.0)]):
        for far in (0.0, 0.3, 1e6):
            x = np.array([[end + sign * far]])
            want = value[k] + slope[k] * sign * far
            np.testing.assert_allclose(lookup(x, data, info)[0], want, rtol=1e-9, atol=1e-9)
            rate = _column(lambda x: lookup(x, data, info), 2)(x)
            np.testing.assert_allclose(rate, [[slope[k, 2]]], rtol=1e-7)


def test_values_inside():
    data, info = tabulated(_network(), Limits(-1.0, 3.0), SETTINGS)
    x = np.random.default_rng(1).uniform(-1.0, 15.0, (500, 1))
    np.testing.assert_allclose(lookup(x, data, info), _network()(x), rtol=0, atol=1e-9)
    fine = x[x[:, 0] < 3.0]
    np.testing.assert_allclose(lookup(fine, data, info), _network()(fine), rtol=0, atol=1e-13)


def test_not_a_number_stays_one():
    data, info = tabulated(_network(), Limits(-1.0, 3.0), SETTINGS)
    with np.errstate(invalid="ignore"):
        assert np.isnan(lookup(np.array([[np.nan]]), data, info)).all()


COMPRESSIBLE = (
    "se_e2_a",
    "se_e2_r",
    "se_e3",
    "se_atten_v2",
    "hybrid",
    "zbl",
    "linear_ener",
    "spin",
)
STRIPPED = ("se_e3_tebd", "se_atten", "dpa2")


def _model(name, tmp_path):
    whole = section(name, tmp_path)
    parts = [whole, *whole.get("models", [])]
    for part in (p["descriptor"] for p in parts if "descriptor" in p):
        if part["type"] in ("se_atten", "se_e3_tebd"):
            part["tebd_input_mode"] = "strip"
        if part["type"] == "se_atten" and name in ("zbl", "linear_ener"):
            part["attn_layer"] = 0
        if part["type"] == "dpa2":
            part["repinit"] |= {"tebd_input_mode": "strip", "use_three_body": True}
            part["repinit"] |= {"three_body_sel": 30, "three_body_rcut": 3.0}
    model = build_model(whole)
    nodes = (model.atomic_model, *model.atomic_model.members())
    for descriptor in (n.descriptor for n in nodes if hasattr(n, "descriptor")):
        for part in descriptor.statistics_parts():
            rng = np.random.default_rng(5)
            part.davg[:, 0] = rng.uniform(0.0, 0.1, len(part.davg))
            part.dstd[:] = rng.uniform(0.2, 0.4, part.dstd.shape)
    return model


def _batch(model):
    coord, cell, atype = small_system(2, 4.0)
    n = np.array([len(coord)])
    spin = np.random.default_rng(2).normal(size=(len(coord), 3)) if model.has_spin() else None
    batch = Batch(coord, cell[None], np.array([True]), atype, np.zeros(n[0], np.int64), n)
    batch.spin = spin
    batch.edges = batch_edges(batch, model.rcut + (1.0 if spin is not None else 0.0))
    batch.reach = model.rcut + (1.0 if spin is not None else 0.0)
    return batch


#: Of JAX the ones that read tables in another way: alone, with types, of angles.
CASES = [(n, b) for n in (*COMPRESSIBLE, *STRIPPED) for b in EVALUATORS if b != "jax"]
CASES += [(n, "jax") for n in ("se_e2_a", "se_atten", "se_e3")]


@pytest.mark.parametrize(("name", "backend"), CASES)
def test_models(name, backend, tmp_path, quick_programs, evaluated_once):
    model = _model(name, tmp_path)
    batch = _batch(model)
    expected = evaluator("numpy", model).evaluate(batch)
    plain = model.serialize()
    model.compress(SETTINGS)
    found = evaluator(backend, Model.deserialize(model.serialize())).evaluate(batch)
    for key in ("energy", "force", "virial"):
        size = np.abs(expected[key]).max()
        np.testing.assert_allclose(found[key], expected[key], rtol=0, atol=2e-8 * size)
    model.uncompress()
    assert str(model.serialize()) == str(plain)


def test_single_precision(tmp_path):
    model = build_model(section("se_e2_a", tmp_path, "float32"))
    expected = evaluator("numpy", model).evaluate(_batch(model))
    model.compress(SETTINGS)
    (data, *_) = model.atomic_model.descriptor.tables.compress_data
    assert data.dtype == np.float32
    found = evaluator("numpy", model).evaluate(_batch(model))
    np.testing.assert_allclose(found["force"], expected["force"], rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", ["dpa3", "loc_frame", "se_atten"])
def test_nothing_to_tabulate(name, tmp_path):
    model = build_model(section(name, tmp_path))
    with pytest.raises(InputError, match="tabulated"):
        model.compress(SETTINGS)


def test_tables_go_with_another_type_map(tmp_path):
    model = build_model(section("se_e2_a", tmp_path))
    model.compress(SETTINGS)
    assert not change_type_map(model, ["H", "O"]).compressed()


@pytest.mark.parametrize(
    ("step", "text"), [(1e-9, "GiB"), (0.01, "reach from")], ids=["too_large", "empty"]
)
def test_tables_that_cannot_be(step, text, tmp_path):
    model = build_model(section("se_e2_a", tmp_path))
    distance = 0.6 if step < 0.01 else 4.5
    with pytest.raises(InputError, match=text):
        model.compress(TableSettings(step, 5.0, distance))


def test_damaged_tables(tmp_path):
    model = build_model(section("se_e2_a", tmp_path))
    model.compress(SETTINGS)
    for change in ({0: np.inf}, {3: 0.0}, {0: 9.0, 1: 1.0}):
        data = model.serialize()
        info = data["descriptor"]["compress"]["@variables"]["compress_info"][0]
        for k, value in change.items():
            info[k] = value
        with pytest.raises(ModelFileError, match="description"):
            Model.deserialize(data)
