# SPDX-License-Identifier: LGPL-3.0-or-later
"""Embedding networks as polynomials in the native engine: the networks' results up to rounding."""

from pathlib import Path

import numpy as np
import pytest

from deepmd.base.errors import ModelFileError
from deepmd.infer import DeepPot
from deepmd.io.files import load_model, save_model
from deepmd.np.engine import is_installed

FILES = Path(__file__).parents[1] / "golden" / "ours" / "v2" / "models"
pytestmark = pytest.mark.skipif(not is_installed(), reason="the C++ libraries are not built")


def scaled(source, target, factor, activation):
    """Write a model with other weights of the first layers, and another activation function."""
    tree = load_model(source)
    embeddings = tree["model"]["descriptor"]["embeddings"]
    for network in embeddings["networks"]:
        for k, layer in enumerate(network["layers"]):
            layer["activation_function"] = activation
            if k == 0:
                layer["@variables"]["w"] = layer["@variables"]["w"] * factor
    tree.pop("probes", None)
    save_model(target, tree)


def results(path, coord):
    """Energies, forces and virials of both engines."""
    types = np.arange(coord.shape[1]) % 2
    return [DeepPot(path, engine=e).eval(coord, None, types) for e in ("native", "framework")]


@pytest.mark.parametrize(
    ("factor", "activation"),
    [
        (1.0, "tanh"),
        (1.0, "gelu"),
        (1.0, "silu"),
        (1.0, "sigmoid"),
        (1.0, "softplus"),
        (1.0, "linear"),
        # Not smooth, and too steep for polynomials: the networks themselves.
        (1.0, "relu6"),
        (3000.0, "tanh"),
        # Many short ones.
        (12.0, "tanh"),
    ],
)
@pytest.mark.parametrize("name", ["se_e2_a", "se_atten_v2"])
def test_network(name, factor, activation, tmp_path):
    path = tmp_path / "model.dp"
    scaled(FILES / f"{name}.dp", path, factor, activation)
    coord = np.random.default_rng(1).uniform(0.0, 6.0, (2, 20, 3))
    for native, reference in zip(*results(path, coord), strict=True):
        scale = max(1e-2, np.abs(reference).max())
        np.testing.assert_allclose(native, reference, rtol=0.0, atol=1e-12 * scale)


@pytest.mark.parametrize("place", [0.15, 0.4, 0.8, 1.3])
@pytest.mark.parametrize(("width", "slope"), [(0.02, 2000.0), (0.1, 400.0)])
def test_a_step_between_two_nodes(place, width, slope, tmp_path):
    """Two steep functions of the first layer, of which the second takes the difference."""
    tree = load_model(FILES / "se_e2_a.dp")
    for network in tree["model"]["descriptor"]["embeddings"]["networks"]:
        first, second = network["layers"]
        for layer in (first, second):
            layer["resnet"] = False
        w, b = (np.zeros_like(first["@variables"][x]) for x in "wb")
        w[0, :2], b[:2] = slope, [-slope * place, -slope * (place + width)]
        first["@variables"] |= {"w": w, "b": b}
        w, b = (np.zeros_like(second["@variables"][x]) for x in "wb")
        w[0], w[1], b[:] = 0.7, -0.7, 0.1
        second["@variables"] |= {"w": w, "b": b}
    tree.pop("probes", None)
    save_model(tmp_path / "model.dp", tree)
    coord = np.random.default_rng(1).uniform(0.0, 6.0, (2, 20, 3))
    for native, reference in zip(*results(tmp_path / "model.dp", coord), strict=True):
        scale = max(1e-2, np.abs(reference).max())
        np.testing.assert_allclose(native, reference, rtol=0.0, atol=1e-12 * scale)


@pytest.mark.parametrize("name", ["se_e2_a", "se_atten_v2", "compressed"])
def test_atoms_closer_than_polynomials_reach(name):
    """Their centers take the network or the table, the others the polynomials."""
    coord = np.random.default_rng(2).uniform(0.0, 6.0, (1, 20, 3))
    coord[0, 1] = coord[0, 0] + [0.05, 0.0, 0.02]
    for native, reference in zip(*results(FILES / f"{name}.dp", coord), strict=True):
        scale = max(1e-2, np.abs(reference).max())
        np.testing.assert_allclose(native, reference, rtol=0.0, atol=1e-12 * scale)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("se_e2_a", ("descriptor", "embeddings", "networks", 0, "layers", 1, "@variables", "w")),
        ("se_e2_a", ("fitting", "nets", "networks", 1, "layers", 0, "@variables", "b")),
        ("se_e2_a", ("descriptor", "@variables", "davg")),
        ("se_e2_a", ("@variables", "out_bias")),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_parameters_that_are_not_finite_are_refused(name, path, bad, tmp_path):
    """By the native engine, which names the place."""
    tree = load_model(FILES / f"{name}.dp")
    place = tree["model"]
    for key in path[:-1]:
        place = place[key]
    array = np.array(place[path[-1]], dtype=np.float64)
    array.reshape(-1)[0] = bad
    place[path[-1]] = array
    save_model(tmp_path / "model.dp", tree)
    with pytest.raises(ModelFileError, match="not finite"):
        DeepPot(tmp_path / "model.dp", engine="native")
