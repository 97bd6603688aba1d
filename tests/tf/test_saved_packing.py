# SPDX-License-Identifier: LGPL-3.0-or-later
"""Neighbors, packing and padding in TensorFlow: index for index those of NumPy."""

import dataclasses

import numpy as np
import pytest

pytest.importorskip("tensorflow")

import tensorflow as tf

from deepmd.dpmodel.batch import Batch
from deepmd.dpmodel.model import Inputs
from deepmd.dpmodel.neighbors import Packing, batch_edges, pack, slot_kinds
from deepmd.runtime.bucketing import ladder, pad_inputs, round_sizes, sizes_of
from deepmd.tf.saved import padding
from deepmd.tf.saved.neighbors import frame_pairs, list_pairs
from deepmd.tf.saved.packing import Pairs
from deepmd.tf.saved.packing import pack as tf_pack

RCUT = 4.0
PACKINGS = {
    "typed": [Packing("typed", 2, RCUT, (30, 40))],
    "typed, crowded": [Packing("typed", 2, RCUT, (3, 5), by_centre=True, exclude=((0, 1),))],
    "mixed, crowded": [Packing("mixed", 2, RCUT, (6,), exclude=((1, 1),), nearest=9)],
    "mixed, by center": [Packing("mixed", 2, 3.0, (60,), by_centre=True)],
    "centers": [Packing("centres", 2), Packing("first_type", 2)],
    "angles": [
        Packing("flat", 2, RCUT, (9,)),
        Packing("angles", 2, 3.0, (4,), edge_rcut=RCUT, edge_sel=9),
    ],
}


def make_frames(n_frames=3, n_atoms=11, seed=0):
    """Frames in triclinic cells, one smaller than the cutoff, and the last one open."""
    rng = np.random.default_rng(seed)
    cell = np.tile(np.diag([6.0, 6.5, 7.0]) + 0.4, (n_frames, 1, 1))
    cell[0] *= 0.55
    cell[-1] = 0.0
    coord = rng.uniform(-4, 8, (n_frames, n_atoms, 3))
    batch = Batch.from_arrays(coord, cell, rng.integers(0, 2, (n_frames, n_atoms)))
    batch.edges = batch_edges(batch, RCUT)
    return batch


def numpy_slots(batch, packings):
    vec = batch.vectors()
    return vec, pack(packings, batch.edges, batch.atype, vec, frame=batch.frame)


@pytest.mark.parametrize("name", PACKINGS)
def test_slots_are_those_of_numpy(name):
    batch, packings = make_frames(), PACKINGS[name]
    vec, expected = numpy_slots(batch, packings)
    pairs = Pairs(batch.edges.i, batch.edges.j, batch.atype, batch.frame, vec)
    found = tf_pack(packings, Pairs(*map(tf.constant, pairs)))
    assert len(found) == len(expected)
    for got, want in zip(found, expected, strict=True):
        np.testing.assert_array_equal(got.numpy(), want)


@pytest.mark.parametrize("name", PACKINGS)
def test_padding_is_that_of_jax(name):
    batch, packings = make_frames(), PACKINGS[name]
    vec, slots = numpy_slots(batch, packings)
    inputs = Inputs(
        vec,
        batch.edges.i,
        batch.edges.j,
        batch.atype,
        batch.frame,
        {"fparam": np.ones((3, 2))},
        {"aparam": np.ones((33, 1))},
        slots,
    )
    to = round_sizes(sizes_of(inputs, packings, 3, 2), packings, coarse=True)
    expected = pad_inputs(inputs, packings, 3, to, RCUT)
    found = padding.padded(inputs.map(tf.constant), packings, 2, RCUT)
    for got, want in zip(found.flat(), expected.flat(), strict=True):
        np.testing.assert_array_equal(got.numpy(), want)
    assert [len(slot_kinds(packings))] == [len(found.slots)]


def test_the_ladder_is_that_of_jax():
    sizes = np.arange(5000)
    np.testing.assert_array_equal(
        padding.ladder(tf.constant(sizes)), [ladder(n) for n in range(5000)]
    )


def in_order(i, j, vec):
    """Pairs in an order that does not depend on how they were found."""
    order = np.lexsort((*np.round(vec, 8).T, j, i))
    return np.asarray(i)[order], np.asarray(j)[order], np.asarray(vec)[order]


@pytest.mark.parametrize("block", [1 << 20, 50])
def test_pairs_of_frames(monkeypatch, block):
    """Cells smaller than the cutoff, atoms outside of the cell, open systems, virtual atoms."""
    monkeypatch.setattr("deepmd.tf.saved.neighbors._BLOCK", block)
    batch = make_frames()
    xyz, types = batch.coord.reshape(3, 11, 3), batch.atype.reshape(3, 11)
    # A virtual atom before the last one changes places, but no pair.
    far = np.insert(xyz, 4, 0.0, axis=1)
    virtual = np.insert(types, 4, -1, axis=1)
    i, j, vec = frame_pairs(tf.constant(far), tf.constant(virtual), tf.constant(batch.cell), RCUT)
    assert (np.diff(i) >= 0).all()
    real = np.cumsum(virtual.reshape(-1) >= 0) - 1
    found = in_order(real[i], real[j], vec.numpy())
    wanted = in_order(batch.edges.i, batch.edges.j, batch.vectors())
    for got, want in zip(found[:2], wanted[:2], strict=True):
        np.testing.assert_array_equal(got, want)
    np.testing.assert_allclose(found[2], wanted[2], rtol=0, atol=1e-12)


def test_frames_without_pairs_and_without_box():
    nothing = tf.zeros((2, 0, 0), tf.float64)
    far = tf.constant([[[0.0, 0, 0], [9, 0, 0]], [[0, 0, 0], [1, 0, 0]]], tf.float64)
    i, j, vec = frame_pairs(far, tf.zeros((2, 2), tf.int64), nothing, RCUT)
    np.testing.assert_array_equal(i, [2, 3])
    np.testing.assert_array_equal(j, [3, 2])
    np.testing.assert_array_equal(vec, [[1, 0, 0], [-1, 0, 0]])


def test_pairs_of_a_list_that_reaches_too_far():
    xyz = tf.constant([[[0.0, 0, 0], [1, 0, 0], [5, 0, 0], [1, 1, 0], [0, 0, 0]]], tf.float64)
    types = tf.constant([[0, 1, 0, -1, 1]], tf.int64)  # a padded ghost, one at a center's place
    nlist = tf.constant([[[2, 1, -1, 3, 4], [-1, 0, 2, -1, 3]]], tf.int64)
    i, j, vec = list_pairs(xyz, types, nlist, RCUT)
    np.testing.assert_array_equal(i, [0, 1, 1])
    np.testing.assert_array_equal(j, [1, 0, 2])
    np.testing.assert_array_equal(vec, [[1, 0, 0], [-1, 0, 0], [4, 0, 0]])


def test_packings_of_the_test_have_all_layouts():
    layouts = {p.layout for packings in PACKINGS.values() for p in packings}
    assert layouts == {"typed", "mixed", "flat", "angles", "centres", "first_type"}
    assert {f.name for f in dataclasses.fields(Packing)} == {
        *("layout", "ntypes", "rcut", "sel", "by_centre"),
        *("exclude", "nearest", "edge_rcut", "edge_sel"),
    }
