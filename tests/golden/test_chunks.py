# SPDX-License-Identifier: LGPL-3.0-or-later
"""Models of every descriptor that is built give the same when their centers are divided."""

import numpy as np
import pytest
from golden.cases import inputs, path, select

from deepmd.base.errors import InputError
from deepmd.dpmodel.model import Model
from deepmd.dpmodel.neighbors import batch_edges
from deepmd.infer.frames import make_frames
from deepmd.io import load_model
from deepmd.np.evaluator import NumPyEvaluator

CASES = [
    c
    for c in select(model="standard")
    if c["kind"] != "hessian" and "charge_spin" not in c["sets"]["pbc"]["inputs"]
]
ALL = ("force", "virial", "atom_virial")


@pytest.mark.parametrize("case", CASES, ids=[c["name"] for c in CASES])
def test_divided_centers(case):
    try:
        model = Model.deserialize(load_model(path(case, "dp"))["model"])
    except InputError as error:
        pytest.skip(f"not built yet: {error}")
    name = "virtual" if "virtual" in case["sets"] else "pbc"
    given = inputs(case, name)
    frames = make_frames(model, **given)
    batch = frames.batch(slice(0, frames.n_frames))
    batch.edges = batch_edges(batch, model.rcut)
    derivatives = ALL if model.differentiable() else ()
    evaluator = NumPyEvaluator(model)
    whole = evaluator.evaluate(batch, derivatives=derivatives)
    evaluator.max_edges = 60
    for evaluator.interleave in (False, True):
        parts = evaluator.evaluate(batch, derivatives=derivatives)
        for key, value in whole.items():
            np.testing.assert_allclose(parts[key], value, rtol=0, atol=1e-13, err_msg=key)
