# SPDX-License-Identifier: LGPL-3.0-or-later
"""Models compressed by DeePMD-kit 3.2.0: its tables as they are, and ours of the same networks."""

import numpy as np
import pytest
from conftest import REFERENCE
from golden.cases import evaluate_joined, manifest

from deepmd.dpmodel.model import Model
from deepmd.dpmodel.nn.tabulation import TableSettings
from deepmd.infer.deep_eval import DeepEval
from deepmd.io import load_model
from deepmd.io.tree import difference
from deepmd.testing.backends import EVALUATORS, evaluator

FOLDER = REFERENCE / "compressed"
CASES = {c["name"]: c for c in manifest()["cases"] if (FOLDER / f"{c['name']}.npz").is_file()}
#: What DeePMD-kit was told.
SETTINGS = TableSettings(step=0.01, extrapolate=5.0, min_distance=0.85)


def _check(name, model, backend):
    potential = DeepEval.from_evaluator(evaluator(backend, model))
    found = evaluate_joined(potential, CASES[name], ("force", "virial"), ())
    with np.load(FOLDER / f"{name}.npz") as stored:
        for given, results in found.items():
            for key in ("energy", "force", "virial"):
                want = stored[f"{given}/out/{key}"]
                allowed = 1e-10 * max(float(np.abs(want).max()), 0.01)
                np.testing.assert_allclose(
                    results[key].reshape(want.shape), want, rtol=0, atol=allowed
                )


@pytest.mark.parametrize("backend", EVALUATORS)
@pytest.mark.parametrize("name", CASES)
def test_tables_of_ours(name, backend, request):
    quick = {"jax": "quick_programs", "tensorflow": "eager_functions"}
    if backend in quick:
        request.getfixturevalue(quick[backend])
    model = Model.deserialize(load_model(REFERENCE / "models" / f"{name}.dp")["model"])
    model.compress(SETTINGS)
    _check(name, Model.deserialize(model.serialize()), backend)


@pytest.mark.parametrize("name", [n for n in CASES if (FOLDER / f"{n}.dp").is_file()])
def test_tables_of_theirs(name):
    data = load_model(FOLDER / f"{name}.dp")["model"]
    model = Model.deserialize(data)
    assert model.info().compressed
    assert difference(_sorted(data), _sorted(model.serialize())) is None
    _check(name, model, "numpy")
    model.uncompress()
    plain = load_model(REFERENCE / "models" / f"{name}.dp")["model"]
    assert difference(_sorted(plain), _sorted(model.serialize())) is None


def _sorted(tree):
    """Return a dictionary with all keys in order: its NumPy and PyTorch backends write others."""
    if isinstance(tree, list):
        return [_sorted(part) for part in tree]
    if not isinstance(tree, dict):
        return tree
    return {key: _sorted(tree[key]) for key in sorted(tree)}
