# SPDX-License-Identifier: LGPL-3.0-or-later
"""Padding changes no number and keeps shapes few."""

import logging

import numpy as np
import pytest
from conftest import reference_path

from deepmd.base.errors import InputError
from deepmd.dpmodel.loss import labels_of
from deepmd.dpmodel.model import Model, prepare
from deepmd.dpmodel.neighbors import Packing, batch_edges
from deepmd.io import load_model
from deepmd.np.evaluator import NumPyEvaluator

pytest.importorskip("jax")

from deepmd.runtime.bucketing import (
    Bucketing,
    Sizes,
    ladder,
    pad_inputs,
    pad_labels,
    round_sizes,
)
from tests.jax.conftest import make_batch, make_loss, make_model


def test_the_ladder():
    rungs = sorted({ladder(n) for n in range(129)})
    assert rungs == [4, 8, 12, 16, 20, 24, 28, 32, 40, 48, 56, 64, 80, 96, 112, 128]
    for n in range(1, 5000):
        assert n <= ladder(n) <= max(1.25 * n, n + 3)
        assert ladder(ladder(n)) == ladder(n)


def test_widths_are_rounded_to_four_and_not_above_sel():
    packings = [Packing("typed", 2, 4.0, (46, 92)), Packing("centres", 2)]
    sizes = Sizes(1, 100, (3, 5), (45, 61))
    assert round_sizes(sizes, packings).widths == (46, 64)
    assert round_sizes(sizes, packings, coarse=True).widths == (46, 64)
    assert round_sizes(sizes, packings, widths=(46, 80)).widths == (46, 80)
    assert round_sizes(sizes, packings, widths=(20, 80)).widths == (46, 80)
    with pytest.raises(InputError, match="3 widths given for 2"):
        round_sizes(sizes, packings, widths=(1, 2, 3))


@pytest.mark.parametrize("one_side", [True, False])
@pytest.mark.parametrize("n_frames", [1, 3])
def test_padding_changes_nothing(one_side, n_frames):
    model = make_model(one_side=one_side, numb_fparam=1, numb_aparam=2)
    batch = make_batch(n_frames, fparam=1, aparam=2)
    bucketing, loss = Bucketing(model), make_loss(relative_f=0.0, start_pref_v=0, limit_pref_v=0)
    padded, sizes = bucketing.prepare(batch)
    plain = prepare(batch, model.packings())
    n, e = batch.n_atoms, len(batch.edges)
    assert sizes.frames > n_frames
    assert len(padded.atype) == sizes.atoms >= n
    assert len(padded.vec) == sizes.edges > e
    assert (padded.frame[n:] == n_frames).all()
    assert (np.diff(padded.i) >= 0).all()

    wanted = ("force", "virial", "atom_virial")
    reference = model.predict(plain, n_frames, derivatives=wanted)
    result = model.predict(padded, sizes.frames, derivatives=wanted)
    for key, value in reference.items():
        part = result[key][: len(value)]
        np.testing.assert_allclose(part, value, rtol=0, atol=1e-13, err_msg=key)
        if key in ("force", "virial", "atom_virial"):
            assert np.abs(result[key][len(value) :]).max() == 0
    value, figures = loss(1e-4, reference, labels_of(batch))
    same, more = loss(1e-4, result, pad_labels(batch, loss, sizes))
    assert same == pytest.approx(value, rel=1e-13)
    for key, figure in figures.items():
        assert more[key] == pytest.approx(figure, rel=1e-13), key


@pytest.mark.parametrize("name", ["dpa3_basic", "dpa1_l2_concat", "hybrid_a_r", "dpa2_three_body"])
def test_padding_changes_nothing_in_other_layouts(name, reference):
    model = Model.deserialize(load_model(reference_path(f"models/{name}.dp"))["model"])
    batch = make_batch(2, 8)
    batch.edges = batch_edges(batch, model.rcut)
    padded, sizes = Bucketing(model).prepare(batch)
    results = model.predict(padded, sizes.frames, derivatives=("force", "virial"))
    for key, value in NumPyEvaluator(model).evaluate(batch).items():
        part = results[key][: len(value)]
        np.testing.assert_allclose(part, value, rtol=0, atol=1e-12, err_msg=key)


def test_lists_of_edges_end_with_padding():
    model, batch = make_model(), make_batch(1)
    packings = [Packing("flat", 2, 4.0, (30,)), Packing("mixed", 2, 3.0, (20,))]
    plain = prepare(batch, packings)
    to = Sizes(4, 200, (12,), (12,), (180,))
    padded = pad_inputs(plain, packings, 1, to, model.rcut)
    flat, table = padded.slots
    assert len(batch.edges) < 180
    assert (flat[len(plain.slots[0]) :] == 199).all()
    assert table.shape == (12, 12)
    np.testing.assert_allclose(np.linalg.norm(padded.vec[len(batch.edges) :], axis=1), 4.0)


def test_the_bucket_does_not_depend_on_history(caplog):
    model = make_model()
    one, two = Bucketing(model), Bucketing(model, name="second")
    for seed in (5, 6, 7):
        one.prepare(make_batch(3, 20, seed=seed))
    batch = make_batch()
    assert one.prepare(batch)[1] == two.prepare(batch)[1]
    with caplog.at_level(logging.INFO, logger="deepmd.runtime"):
        for _ in range(3):
            two.count("step", two.prepare(batch)[1])
    assert len(two.seen) == 1
    assert caplog.text.count("second: compiling program 1") == 1


def test_one_shape_for_similar_frames():
    model = make_model()
    bucketing = Bucketing(model, widths=(7, 10))
    sizes = set()
    for seed in range(6):
        batch = make_batch(2, 20, seed=seed)
        batch.atype = make_batch(2, 20).atype
        sizes.add(bucketing.prepare(batch)[1])
    assert len({s.types for s in sizes}) == 1
    assert {s.widths for s in sizes} == {(7, 10)}
