# SPDX-License-Identifier: LGPL-3.0-or-later
"""Results do not depend on how the centers are divided."""

import itertools

import numpy as np
import pytest

from deepmd.dpmodel.batch import Batch
from deepmd.dpmodel.descriptor import DescrptSeA
from deepmd.dpmodel.model import build_model, prepare
from deepmd.dpmodel.neighbors import Overflow, batch_edges
from deepmd.np.evaluator import NumPyEvaluator
from deepmd.runtime.chunks import center_ranges, chunks, interleave_types, partition

ALL = ("force", "virial", "atom_virial")


def make_model(**changes):
    descriptor = {
        "type": "se_e2_a",
        "rcut": 4.0,
        "rcut_smth": 0.5,
        "sel": [8, 10],
        "neuron": [4, 8],
        "axis_neuron": 3,
        "seed": 1,
        **changes,
    }
    fitting = {"neuron": [6, 6], "numb_fparam": 1, "numb_aparam": 2, "seed": 2}
    model = build_model({"type_map": ["O", "H"], "descriptor": descriptor, "fitting_net": fitting})
    rng = np.random.default_rng(3)
    inner = model.atomic_model
    inner.out_bias = rng.normal(size=inner.out_bias.shape)
    inner.descriptor.davg = rng.normal(size=inner.descriptor.davg.shape) * 0.1
    inner.descriptor.dstd = rng.uniform(0.5, 1.5, inner.descriptor.dstd.shape)
    return model


def make_batch(nf=3, na=14, *, seed=0):
    rng = np.random.default_rng(seed)
    cell = np.tile(np.diag([6.0, 6.5, 7.0]) + 0.3, (nf, 1, 1))
    if nf > 1:
        cell[-1] = 0.0
    coord = rng.uniform(0, 6, (nf, na, 3))
    atype = rng.integers(0, 2, (nf, na))
    batch = Batch.from_arrays(
        coord, cell, atype, fparam=rng.normal(size=(nf, 1)), aparam=rng.normal(size=(nf * na, 2))
    )
    batch.edges = batch_edges(batch, 4.0)
    return batch


def evaluate(model, batch, size, *, interleave=False, **wanted):
    evaluator = NumPyEvaluator(model)
    evaluator.max_edges, evaluator.interleave = size, interleave
    return evaluator.evaluate(batch, **wanted)


@pytest.mark.parametrize("interleave", [True, False])
@pytest.mark.parametrize("one_side", [True, False])
@pytest.mark.parametrize("nf", [1, 3])
def test_results_do_not_depend_on_the_chunk_size(one_side, nf, interleave):
    model, batch = make_model(type_one_side=one_side), make_batch(nf)
    inputs = prepare(batch, model.packings())
    extra = ("descriptor", "fitting_last_layer")
    want = model.predict(inputs, nf, derivatives=ALL, extra=extra)
    for size in (1, 40, 100, 10**9):
        got = evaluate(model, batch, size, interleave=interleave, derivatives=ALL, extra=extra)
        assert set(got) == set(want)
        for key, value in want.items():
            assert got[key].shape == value.shape
            np.testing.assert_allclose(got[key], value, rtol=0, atol=1e-13, err_msg=key)


def test_without_derivatives():
    model, batch = make_model(), make_batch()
    want = model.predict(prepare(batch, model.packings()), 3, derivatives=())
    got = evaluate(model, batch, 60, derivatives=())
    assert set(got) == set(want) == {"energy", "atom_energy"}
    np.testing.assert_allclose(got["energy"], want["energy"], rtol=0, atol=1e-13)


def test_ranges_cover_all_atoms_and_respect_the_limit():
    batch = make_batch()
    counts = np.bincount(batch.edges.i, minlength=batch.n_atoms) + 1
    ranges = center_ranges(batch, 90)
    assert ranges[0][0] == 0
    assert ranges[-1][1] == batch.n_atoms
    assert all(a[1] == b[0] for a, b in itertools.pairwise(ranges))
    assert len(ranges) > 3
    for a, b in ranges:
        assert counts[a:b].sum() <= 90 or b == a + 1


def test_models_that_pass_messages_stay_whole():
    model, batch = make_model(), make_batch()
    parts = list(chunks(batch, model.packings(), ntypes=2, local=False, max_edges=1))
    assert len(parts) == 1
    assert len(parts[0].inputs.atype) == batch.n_atoms


def test_overflow_is_counted_once_per_center():
    model, batch = make_model(sel=[2, 3]), make_batch()
    whole, divided = Overflow(), Overflow()
    prepare(batch, model.packings(), whole)
    list(chunks(batch, model.packings(), ntypes=2, max_edges=50, overflow=divided))
    assert whole.centers > 0
    assert divided.centers == whole.centers
    np.testing.assert_array_equal(divided.needed, whole.needed)


class PaddedEvaluator(NumPyEvaluator):
    """A backend of one shape: sees all chunks before the first, and pads their results."""

    interleave = True

    def run(self, parts, n_frames, derivatives, extra):
        found = list(parts)
        self.sizes = [chunk.n_atoms for chunk in found]
        for chunk, values in super().run(found, n_frames, derivatives, extra):
            yield (
                chunk,
                {k: np.concatenate([v, np.full_like(v[:1], np.nan)]) for k, v in values.items()},
            )


def test_a_backend_supplies_run_only():
    model, batch = make_model(), make_batch()
    evaluator = PaddedEvaluator(model)
    evaluator.max_edges = 150
    got = evaluator.evaluate(batch, derivatives=ALL)
    assert len(evaluator.sizes) > 3
    assert sum(evaluator.sizes) == batch.n_atoms
    for key, value in evaluate(model, batch, 10**9, derivatives=ALL).items():
        np.testing.assert_allclose(got[key], value, rtol=0, atol=1e-13, err_msg=key)


def test_interleaved_types():
    batch = make_batch(2, 30)
    batch.atype = np.sort(batch.atype)
    (atoms, edges), mixed = interleave_types(batch)
    share = batch.atype.mean()
    for start in range(0, 60, 10):
        assert abs(mixed.atype[start : start + 10].mean() - share) < 0.11
    assert (np.diff(mixed.edges.i) >= 0).all()
    np.testing.assert_array_equal(mixed.vectors(), batch.vectors()[edges])
    np.testing.assert_array_equal(atoms[mixed.edges.j], batch.edges.j[edges])


def test_edges_must_have_been_found():
    model, batch = make_model(), make_batch()
    batch.edges = None
    with pytest.raises(ValueError, match="without edges"):
        partition(model, batch)


def test_blocks_of_the_sum(monkeypatch):
    model, batch = make_model(), make_batch()
    want = evaluate(model, batch, 10**9, derivatives=ALL)
    monkeypatch.setattr("deepmd.runtime.chunks._EDGES_PER_SUM", 37)
    got = evaluate(model, batch, 10**9, derivatives=ALL)
    for key, value in want.items():
        np.testing.assert_allclose(got[key], value, rtol=0, atol=1e-13, err_msg=key)


def test_the_class_is_local():
    assert DescrptSeA(4.0, 0.5, [1]).message_passing is False
