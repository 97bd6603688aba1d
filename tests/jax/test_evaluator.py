# SPDX-License-Identifier: LGPL-3.0-or-later
"""Evaluation with JAX: against NumPy, in chunks, and against DeePMD-kit."""

import numpy as np
import pytest

pytest.importorskip("jax")

from deepmd.dpmodel.batch import Batch, join
from deepmd.dpmodel.model import Model
from deepmd.dpmodel.neighbors import batch_edges
from deepmd.io import load_model
from deepmd.jax.evaluator import JaxEvaluator
from deepmd.np.evaluator import NumPyEvaluator
from tests.jax.conftest import make_batch, make_model

ALL = ("force", "virial", "atom_virial")
EXTRA = ("descriptor", "fitting_last_layer")


def assert_same(results, reference, *, atol=1e-13):
    assert set(results) == set(reference)
    for key, value in reference.items():
        assert isinstance(results[key], np.ndarray)
        assert results[key].dtype == value.dtype == np.float64
        np.testing.assert_allclose(results[key], value, rtol=0, atol=atol, err_msg=key)


@pytest.mark.parametrize("one_side", [True, False])
def test_chunks_have_one_shape_and_change_nothing(one_side):
    model = make_model(one_side=one_side, small=True, numb_fparam=1, numb_aparam=2)
    batch = make_batch(3, 20, fparam=1, aparam=2)
    # Sorted by type: ranges of these atoms would have one type each.
    order = np.argsort(batch.atype, kind="stable")[:20]
    assert np.ptp(batch.atype[order]) == 0
    whole = NumPyEvaluator(model).evaluate(batch, derivatives=ALL, extra=EXTRA)
    evaluator = JaxEvaluator(model)
    evaluator.max_edges = 150
    assert len(batch.edges) > 4 * 150
    assert_same(evaluator.evaluate(batch, derivatives=ALL, extra=EXTRA), whole)
    assert len(evaluator.shapes) == 1
    other = make_batch(3, 20, seed=1, fparam=1, aparam=2)
    evaluator.evaluate(other, derivatives=ALL, extra=EXTRA)
    assert len(evaluator.shapes) <= 2
    wanted = NumPyEvaluator(model).evaluate(batch, derivatives=())
    assert_same(evaluator.evaluate(batch, derivatives=()), wanted)


@pytest.mark.parametrize("n_atoms", [0, 1])
def test_no_atoms_one_atom(n_atoms):
    model = make_model(small=True)
    batch = make_batch(1, n_atoms) if n_atoms else Batch.from_arrays(np.zeros((1, 0, 3)), None, [])
    batch.edges = batch_edges(batch, 4.0)
    results = JaxEvaluator(model).evaluate(batch, derivatives=ALL)
    assert results["force"].shape == (n_atoms, 3)
    assert results["virial"].shape == (1, 9)
    assert_same(results, NumPyEvaluator(model).evaluate(batch, derivatives=ALL))


def test_single_precision_is_close():
    model, batch = make_model(precision="float32", small=True), make_batch(2, 12)
    reference = NumPyEvaluator(model).evaluate(batch, derivatives=ALL)
    results = JaxEvaluator(model).evaluate(batch, derivatives=ALL)
    assert_same(results, reference, atol=1e-5)


def test_overflow_is_counted():
    model, batch = make_model(small=True), make_batch(1, 40)
    one, two = NumPyEvaluator(model), JaxEvaluator(model)
    two.max_edges = 300
    one.evaluate(batch)
    two.evaluate(batch)
    assert one.overflow.centers == two.overflow.centers > 0


def test_golden(reference, optimized_programs):
    """The rest is in tests/golden, for all backends, with quickly compiled programs."""
    from golden.cases import named, path

    case = named("ener_fparam_aparam_default")
    model = Model.deserialize(load_model(path(case, "dp"))["model"])
    stored = np.load(reference / case["npz"])
    batches = [read_set(stored, key, about, model) for key, about in case["sets"].items()]
    # All sets in one batch: one compilation.
    results = JaxEvaluator(model).evaluate(join(batches), derivatives=ALL, extra=EXTRA)
    frames = atoms = 0
    for (key, about), batch in zip(case["sets"].items(), batches, strict=True):
        for output in about["outputs"]:
            want = stored[f"{key}/out/{output}"]
            rows = slice(atoms, atoms + batch.n_atoms)
            if output in ("energy", "virial"):
                rows = slice(frames, frames + batch.n_frames)
            error = np.abs(results[output][rows].reshape(want.shape) - want).max()
            assert error <= case["tolerance"] * max(np.abs(want).max(), 0.01), (key, output)
        frames, atoms = frames + batch.n_frames, atoms + batch.n_atoms


def read_set(stored, key, about, model):
    given = {k: stored[f"{key}/{k}"] for k in about["inputs"]}
    nf, na = about["nframes"], about["natoms"]
    fparam, aparam = given.get("fparam"), given.get("aparam")
    if fparam is None and model.get_dim_fparam():
        fparam = np.tile(model.get_default_fparam(), (nf, 1))
    batch = Batch.from_arrays(
        given["coord"].reshape(nf, na, 3),
        given.get("box"),
        given["atype"],
        fparam=fparam,
        aparam=None if aparam is None else aparam.reshape(nf * na, -1),
    )
    batch.edges = batch_edges(batch, model.rcut)
    return batch
