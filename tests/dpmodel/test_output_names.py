# SPDX-License-Identifier: LGPL-3.0-or-later
"""Properties whose names look like those of other results."""

import numpy as np
import pytest
from members import section

from deepmd.backend.backend import Backend
from deepmd.base.errors import InputError
from deepmd.dpmodel.model import build_model
from deepmd.dpmodel.neighbors import batch_edges
from deepmd.dpmodel.output_def import RESERVED, Level, OutputVariableDef
from deepmd.infer import DeepProperty
from deepmd.infer.frames import make_frames
from deepmd.np.evaluator import NumPyEvaluator
from deepmd.runtime.probes import model_file_dict
from deepmd.testing.backends import EVALUATORS, evaluator
from deepmd.testing.systems import randomize, small_system

NAMES = (
    "force_constant", "force", "force_grad", "band_grad", "atom_band", "virial", "energy",
    "mask_factor", "descriptor_norm", "hessian", "rmse_mae",
)  # fmt: skip


def property_model(name, folder):
    given = section("property", folder)
    given["fitting_net"]["property_name"] = name
    return randomize(build_model(given))


def system():
    """Two frames of six atoms."""
    coord, cell, atype = small_system(2, 4.0)
    return np.stack([coord, coord[::-1]]), np.stack([cell, cell]), atype


def results(potential):
    out = potential.eval(*system(), atomic=True)
    assert [x.shape for x in out] == [(2, 2), (2, 6, 2)]
    return out


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    """Values of a property with an ordinary name."""
    model = property_model("gap", tmp_path_factory.mktemp("gap"))
    return results(DeepProperty.from_evaluator(evaluator("numpy", model)))


@pytest.mark.parametrize(
    ("name", "backend"),
    [(n, "numpy") for n in NAMES]
    + [(n, b) for n in ("force_constant", "band_grad") for b in EVALUATORS if b != "numpy"],
)
def test_a_name_says_nothing(name, backend, expected, tmp_path):
    model = property_model(name, tmp_path)
    potential = DeepProperty.from_evaluator(evaluator(backend, model))
    for got, want in zip(results(potential), expected, strict=True):
        np.testing.assert_allclose(got, want, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_in_chunks(name, tmp_path):
    model = property_model(name, tmp_path)
    frames = make_frames(model, *system())
    batch = frames.batch(slice(None))
    batch.edges = batch_edges(batch, model.rcut)
    evaluator = NumPyEvaluator(model)
    whole = evaluator.evaluate(batch, derivatives=())
    evaluator.max_edges = 20
    parts = evaluator.evaluate(batch, derivatives=())
    assert {k: v.shape for k, v in parts.items()} == {name: (2, 2), f"atom_{name}": (12, 2)}
    for key, value in whole.items():
        np.testing.assert_allclose(parts[key], value, rtol=0, atol=1e-13)


@pytest.mark.parametrize("suffix", ["pth", "hlo"])
def test_in_files(suffix, expected, tmp_path):
    for framework in ("torch", "jax", "flatbuffers"):
        pytest.importorskip(framework)
    path = tmp_path / f"model.{suffix}"
    data = model_file_dict(property_model("force_grad", tmp_path), {}, None, "numpy")
    Backend.detect_backend_by_model(path)().deserialize_hook(path, data)
    for got, want in zip(results(DeepProperty(path)), expected, strict=True):
        np.testing.assert_allclose(got, want, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", sorted(RESERVED))
def test_names_that_are_taken(name, tmp_path):
    with pytest.raises(InputError, match=f'"{name}" is the name of another quantity'):
        property_model(name, tmp_path)


def test_the_results_of_an_energy():
    energy = OutputVariableDef("energy", [1], r_differentiable=True, magnetic=True)
    levels = {r.name: r.level for r in energy.results()}
    assert levels == {
        "energy": Level.FRAME,
        "atom_energy": Level.ATOM,
        "force": Level.ATOM,
        "virial": Level.FRAME,
        "atom_virial": Level.ATOM,
        "hessian": Level.FRAME,
        "force_mag": Level.ATOM,
        "mask_mag": Level.ATOM,
    }
    assert [(r.name, r.level, r.size) for r in energy.raw_results()] == [
        ("energy", Level.ATOM, 1),
        ("energy_grad", Level.EDGE, 3),
    ]
