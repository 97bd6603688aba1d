# SPDX-License-Identifier: LGPL-3.0-or-later
"""Models with spins and more neighbors than ``sel``, where two sites compete for the last place.

An atom without spin and its virtual partner are equally far from everything. DeePMD-kit 3.2.0 cuts
to ``sel`` with ``torch.topk``, which promises no order among equals: which of the two it keeps
depends on the periodic images in its list, and on the processor that sorted them. Here the partner
is kept. ``spin_ties.npz`` holds the neighbors in the order of 3.2.0, as rows (frame, center, neighbor,
shift); with ties broken as they were there the stored results are met.
"""

from pathlib import Path

import numpy as np
import pytest
from golden.cases import _arrays, extra_cases, inputs, path

from deepmd.dpmodel.batch import Edges
from deepmd.dpmodel.model import Model
from deepmd.dpmodel.neighbors import batch_edges
from deepmd.infer.frames import make_frames
from deepmd.io import load_model
from deepmd.testing.backends import EVALUATORS, evaluator

TIES = Path(__file__).parent / "files" / "spin_ties.npz"
CASES = [c for c in extra_cases() if c["kind"] == "spin"]


def in_order(batch, rows):
    """Return the edges of every center in a given order, behind them those it does not name."""
    edges, first = batch.edges, batch.offsets()
    frame = batch.frame[edges.i]
    here = np.column_stack([frame, edges.i - first[frame], edges.j - first[frame], edges.shift])
    place = {tuple(row): k for k, row in enumerate(rows.tolist())}
    found = np.array([place.get(tuple(row), len(rows)) for row in here.astype(int).tolist()])
    order = np.lexsort((found, edges.i))
    return Edges(edges.i[order], edges.j[order], edges.shift[order])


@pytest.mark.skipif(not CASES, reason="the reference data are not here")
@pytest.mark.parametrize("backend", EVALUATORS)
@pytest.mark.parametrize("case", CASES, ids=[c["name"] for c in CASES])
def test_with_the_ties_of_the_reference(case, backend, quick_programs, evaluated_once):
    model = Model.deserialize(load_model(path(case, "dp"))["model"])
    with np.load(TIES) as stored:
        rows = {name: stored[f"{case['name']}/{name}"] for name in case["sets"]}
    for name, info in case["sets"].items():
        frames = make_frames(model, **inputs(case, name))
        batch = frames.batch(slice(None))
        batch.edges = batch_edges(batch, model.rcut)
        batch = model.expand(batch)
        batch.edges = in_order(batch, rows[name])
        out = evaluator(backend, model).evaluate(batch)
        assert not set(info["outputs"]) - {*out, "atom_virial"}
        for key, value in out.items():
            want = _arrays(case["npz"])[f"{name}/out/{key}"].reshape(value.shape)
            allowed = case["tolerance"] * max(np.abs(want).max(), 0.01)
            assert np.abs(value - want).max() <= allowed, (name, key)
