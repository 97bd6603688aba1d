# SPDX-License-Identifier: LGPL-3.0-or-later
"""Networks of a model in another precision: ``--precision`` of three commands."""

import logging

import numpy as np
import pytest
from members import MEMBERS, section

from deepmd.dpmodel.model import Model, build_model
from deepmd.entrypoints.compress import compress
from deepmd.entrypoints.convert_backend import convert_backend
from deepmd.infer import DeepEval
from deepmd.io import load_model
from deepmd.io.tree import map_leaves
from deepmd.np.engine import is_installed
from deepmd.runtime.checkpoint import Checkpoint
from deepmd.runtime.precision import in_precision
from deepmd.runtime.probes import model_file_dict, write_model


def shapes(tree):
    """Types of all arrays, values otherwise."""
    return map_leaves(tree, lambda x, _: str(x.dtype) if isinstance(x, np.ndarray) else x)


@pytest.mark.parametrize("name", MEMBERS)
def test_as_if_made_so(name, tmp_path):
    """Precisions in the dictionary are those of a model that was built in this precision."""
    one, other = (build_model(section(name, tmp_path, p)) for p in ("float64", "float32"))
    found = in_precision({"model": one.serialize()}, "float32")
    assert shapes(found["model"]) == shapes(other.serialize())
    assert Model.deserialize(found["model"]).info().precision == other.info().precision


@pytest.fixture
def file(tmp_path):
    given = section("se_e2_a", tmp_path)
    path = tmp_path / "double.dp"
    write_model(path, model_file_dict(build_model(given), given, 0.9, "NumPy"))
    return path


def results(path, **options):
    model = DeepEval(path, **options)
    coord = np.random.default_rng(0).uniform(0.0, 5.0, (1, 12, 3))
    return model.evaluate(coord, 5.0 * np.eye(3), [0, 1, 1] * 4)


def check(path, source, caplog):
    """Compare a file with its source; it must say what it is, and by how much it differs."""
    tree = load_model(path)
    assert tree["model"]["descriptor"]["precision"] == "float32"
    script = tree["model_def_script"]
    assert script["descriptor"]["precision"] == script["fitting_net"]["precision"] == "float32"
    line = next(m for m in reversed(caplog.messages) if "largest difference" in m)
    assert all(name in line for name in ("energy", "force", "virial"))
    for engine in ("native", "framework") if is_installed() else ("framework",):
        found, want = results(path, engine=engine), results(source, engine="framework")
        for name, value in want.items():
            scale = max(float(np.abs(value).max()), 1e-2)
            error = float(np.abs(found[name] - value).max()) / scale
            assert 1e-12 < error < 1e-4


def test_convert_backend(file, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    target = tmp_path / "single.dp"
    convert_backend(INPUT=str(file), OUTPUT=str(target), precision="float32")
    check(target, file, caplog)
    convert_backend(INPUT=str(target), OUTPUT=str(tmp_path / "back.dp"), precision="float64")
    assert load_model(tmp_path / "back.dp")["model"]["descriptor"]["precision"] == "float64"


def test_compress(file, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    target = compress(input=str(file), output=str(tmp_path / "c.dp"), precision="float32")
    assert "compress" in load_model(target)["model"]["descriptor"]
    check(target, file, caplog)


def test_freeze(file, tmp_path, caplog):
    from deepmd.backend.backend import Backend

    caplog.set_level(logging.INFO)
    tree = load_model(file)
    checkpoint = Checkpoint(
        models={"Default": Model.deserialize(tree["model"])},
        model_params=tree["model_def_script"],
        min_nbor_dist=0.9,
    )
    target = tmp_path / "frozen.dp"
    Backend.get_backend("dp")().freeze(checkpoint, target, precision="float32")
    check(target, file, caplog)
