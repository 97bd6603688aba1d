# SPDX-License-Identifier: LGPL-3.0-or-later
"""The descriptor of the how-to is what the how-to says: complete and correct."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from deepmd.dpmodel.batch import Batch
from deepmd.dpmodel.descriptor import Descriptor
from deepmd.dpmodel.evaluator import NumPyEvaluator
from deepmd.dpmodel.model import Model, build_model
from deepmd.dpmodel.neighbors import batch_edges
from deepmd.schema import normalize
from deepmd.schema.registry import descriptor_args

FILE = Path(__file__).resolve().parents[2] / "docs" / "development" / "radial.py"


@pytest.fixture(scope="module")
def _radial():
    """Import the file as a plugin would be, and take it out again."""
    spec = importlib.util.spec_from_file_location("radial_of_the_docs", FILE)
    spec.loader.exec_module(importlib.util.module_from_spec(spec))
    yield
    Descriptor.registry._by_name.pop("radial")
    descriptor_args._factories.pop("radial")


@pytest.fixture(scope="module")
def model(_radial):
    data = {
        "model": {
            "type_map": ["O", "H"],
            "descriptor": {"type": "radial", "rcut": 4.0, "rcut_smth": 1.0, "sel": [30, 60]},
            "fitting_net": {"neuron": [8, 8], "seed": 1},
        },
        "learning_rate": {"start_lr": 1e-3},
        "training": {"training_data": {"systems": ["here"]}, "numb_steps": 1},
    }
    return build_model(normalize(data)["model"])


def evaluate(model, coord):
    cell = np.array([[[7.0, 0.0, 0.0], [0.5, 7.5, 0.0], [0.0, 0.3, 8.0]]])
    batch = Batch.from_arrays(coord[None], cell, [0, 1, 1, 0, 1, 1])
    batch.edges = batch_edges(batch, model.rcut)
    return NumPyEvaluator(model).evaluate(batch)


@pytest.fixture
def coord():
    return 7.0 * np.random.default_rng(3).random((6, 3))


def test_force_is_the_gradient(model, coord):
    force = evaluate(model, coord)["force"]
    for atom, axis in ((0, 0), (3, 1), (5, 2)):
        h = np.zeros_like(coord)
        h[atom, axis] = 1e-4
        slope = (evaluate(model, coord + h)["energy"] - evaluate(model, coord - h)["energy"]) / 2e-4
        assert force[atom, axis] == pytest.approx(-slope.item(), abs=1e-8)
    assert np.abs(force).max() > 1e-4


def test_round_trip(model, coord):
    again = Model.deserialize(model.serialize())
    assert evaluate(again, coord)["energy"] == evaluate(model, coord)["energy"]


def test_the_page_shows_the_file():
    page = (FILE.parent / "adding_a_component.md").read_text()
    assert "literalinclude} radial.py" in page


def test_entry_point_is_loaded(monkeypatch):
    """An installed plugin registers before inputs are checked."""
    from importlib import metadata

    from deepmd.schema.tree import load_components
    from deepmd.utils import plugin

    asked = []
    monkeypatch.setattr(metadata, "entry_points", lambda group: asked.append(group) or [])
    monkeypatch.setattr(plugin, "_loaded", set())
    load_components()
    assert asked == ["deepmd.dpmodel"]
