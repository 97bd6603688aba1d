# SPDX-License-Identifier: LGPL-3.0-or-later
"""Golden models of the compact set in single precision, on TensorFlow: double precision to 1e-5."""

import json

import numpy as np
import pytest
from conftest import COMPACT
from golden.cases import in_precision, inputs, path, select

from deepmd.dpmodel.model import Model
from deepmd.infer.deep_eval import DeepEval
from deepmd.io import load_model
from deepmd.testing.backends import evaluator

TOLERANCE = 1e-5
NAMES = {c["name"] for c in json.loads((COMPACT / "manifest.json").read_text())["cases"]}
#: Hessians are second derivatives of the neutral model, whatever evaluates it.
CASES = [c for c in select() if c["name"] in NAMES and c["kind"] != "hessian"]


@pytest.mark.parametrize("case", CASES, ids=[c["name"] for c in CASES])
def test_single_precision_is_close_to_double(case, eager_functions):
    data = load_model(path(case, "dp"))["model"]
    single, double = (
        DeepEval.from_evaluator(
            evaluator(backend, Model.deserialize(in_precision(data, precision)))
        )
        for backend, precision in (("tensorflow", "float32"), ("numpy", "float64"))
    )
    derivatives = ("force", "virial") if double.model.differentiable() else ()
    given = inputs(case, next(iter(case["sets"])))
    positional = [given.pop(k) for k in ("coords", "cells", "atom_types")]
    got, want = (
        p.evaluate(*positional, derivatives=derivatives, **given) for p in (single, double)
    )
    for key, value in want.items():
        scale = max(float(np.abs(value).max(initial=0.0)), 0.01)
        assert float(np.abs(got[key] - value).max(initial=0.0)) <= TOLERANCE * scale, key
    assert any((got[key] != value).any() for key, value in want.items())
