# SPDX-License-Identifier: LGPL-3.0-or-later
"""The pair search against the definition, and packing against a direct count."""

import itertools

import numpy as np
import pytest

from deepmd.base.errors import InputError
from deepmd.dpmodel.batch import Batch, Edges, join
from deepmd.dpmodel.neighbors import (
    Overflow,
    Packing,
    batch_edges,
    find_edges,
    pack,
    reference_edges,
)


def _set(edges):
    return sorted(map(tuple, np.c_[edges.i, edges.j, edges.shift].astype(int).tolist()))


def _distances(coord, cell, edges):
    vec = coord[edges.j] - coord[edges.i]
    if cell is not None:
        vec = vec + edges.shift @ cell
    return np.linalg.norm(vec, axis=1)


def _brute(coord, cell, rcut, reach):
    """Pairs by a loop that shares nothing with the code under test."""
    found = []
    images = (
        itertools.product(range(-reach, reach + 1), repeat=3) if cell is not None else [(0,) * 3]
    )
    for image in images:
        offset = np.zeros(3) if cell is None else np.asarray(image, float) @ cell
        for i, j in itertools.product(range(len(coord)), repeat=2):
            if 0 < np.linalg.norm(coord[j] + offset - coord[i]) <= rcut:
                found.append((i, j, *image))
    return sorted(found)


@pytest.mark.parametrize("seed", range(12))
def test_pairs_of_random_cells(seed):
    """Triclinic cells, smaller than the cutoff too, with atoms far outside."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 10))
    cell = np.eye(3) * rng.uniform(2.0, 9.0) + rng.normal(size=(3, 3)) * rng.choice([0, 0.7])
    coord = rng.uniform(-2, 3, size=(n, 3)) @ cell
    for rcut in (2.0, 5.0):
        reference = reference_edges(coord, cell, rcut)
        assert _set(find_edges(coord, cell, rcut)) == _set(reference)
        assert (_distances(coord, cell, reference) <= rcut).all()


def test_pairs_against_an_independent_loop():
    rng = np.random.default_rng(1)
    cell = np.array([[3.0, 0.2, 0.1], [0.4, 3.5, -0.3], [0.0, 0.5, 4.0]])
    coord = rng.uniform(0, 1, (3, 3)) @ cell
    assert _set(find_edges(coord, cell, 4.0)) == _brute(coord, cell, 4.0, 3)
    assert _set(find_edges(coord, None, 4.0)) == _brute(coord, None, 4.0, 0)


def test_pair_at_exactly_the_cutoff_is_kept():
    coord = np.array([[0.0, 0, 0], [3.0, 0, 0], [0, 4.0, 0]])
    assert _set(find_edges(coord, None, 3.0)) == [(0, 1, 0, 0, 0), (1, 0, 0, 0, 0)]


@pytest.mark.parametrize("n", [0, 1])
def test_open_system_without_pairs(n):
    assert len(find_edges(np.zeros((n, 3)), None, 5.0)) == 0


def test_single_atom_sees_its_images():
    edges = find_edges(np.zeros((1, 3)), np.eye(3) * 2.0, 2.0)
    assert len(edges) == 6 and (edges.i == 0).all() and (edges.j == 0).all()


@pytest.mark.parametrize(
    ("coord", "cell", "message"),
    [
        ([[0.0, 0, 0], [np.nan, 0, 0]], None, "NaN"),
        ([[0.0, 0, 0]], [[1.0, 0, 0], [2.0, 0, 0], [0, 0, 1.0]], "no volume"),
    ],
)
def test_bad_input(coord, cell, message):
    with pytest.raises(InputError, match=message):
        find_edges(np.array(coord), None if cell is None else np.array(cell), 3.0)


def _frame(seed, n=20, nt=3, box=7.0):
    rng = np.random.default_rng(seed)
    batch = Batch.from_arrays(
        rng.uniform(0, box, (1, n, 3)), np.eye(3)[None] * box, rng.integers(0, nt, n)
    )
    batch.edges = batch_edges(batch, 4.0)
    return batch, batch.vectors()


@pytest.mark.parametrize("sel", [(50, 50, 50), (4, 3, 5)])
def test_typed_packing_keeps_the_nearest(sel):
    """First the nearest sum(sel) of all types, then the nearest sel[t] of each."""
    batch, vec = _frame(0)
    overflow, r2 = Overflow(), (vec * vec).sum(axis=1)
    tables = pack([Packing("typed", 3, 4.0, sel)], batch.edges, batch.atype, vec, overflow)
    for i in range(batch.n_atoms):
        mine = np.flatnonzero(batch.edges.i == i)
        mine = mine[np.argsort(r2[mine])][: sum(sel)]
        for t, table in enumerate(tables):
            expected = mine[batch.atype[batch.edges.j[mine]] == t][: sel[t]]
            assert sorted(table[i][table[i] >= 0]) == sorted(expected)
    assert (overflow.centers > 0) == (sum(sel) < 50)


def test_packing_by_center_and_exclusion():
    batch, vec = _frame(1)
    packing = Packing("typed", 3, 4.0, (50, 50, 50), by_centre=True, exclude=((0, 2),))
    slots = pack([packing], batch.edges, batch.atype, vec)
    assert len(slots) == packing.n_tables == 12
    for t in range(3):
        rows = slots[4 * t]
        assert (rows == np.flatnonzero(batch.atype == t)).all()
        for u in range(3):
            table = slots[4 * t + 1 + u]
            kept = table[table >= 0]
            assert (batch.atype[batch.edges.j[kept]] == u).all()
            assert (batch.atype[batch.edges.i[kept]] == t).all()
            assert (kept.size == 0) == ({t, u} == {0, 2})


def test_mixed_flat_and_centers():
    batch, vec = _frame(2)
    packings = [
        Packing("mixed", 3, 3.0, (4,)),
        Packing("flat", 3, 3.0, (4,)),
        Packing("centres", 3),
    ]
    mixed, flat, *centers = pack(packings, batch.edges, batch.atype, vec)
    assert mixed.shape[1] <= 4 and sorted(mixed[mixed >= 0]) == flat.tolist()
    assert ((vec[flat] ** 2).sum(axis=1) <= 9.0).all()
    assert sorted(np.concatenate(centers)) == list(range(batch.n_atoms))


def test_coincident_atoms_are_no_pair():
    batch = Batch.from_arrays(np.zeros((1, 2, 3)), None, [0, 0])
    batch.edges = Edges(np.array([0, 1]), np.array([1, 0]), np.zeros((2, 3)))
    (flat,) = pack([Packing("flat", 1, 3.0, (4,))], batch.edges, batch.atype, np.zeros((2, 3)))
    assert len(flat) == 0


def test_joined_frames_keep_their_pairs():
    batches = [_frame(s, n)[0] for s, n in ((3, 8), (4, 15), (5, 1))]
    both = join(batches)
    assert both.n_frames == 3 and (both.frame[both.edges.i] == both.frame[both.edges.j]).all()
    vec = np.concatenate([b.vectors() for b in batches])
    assert np.array_equal(vec, both.vectors())


CROWDED = {
    "tiny cell": (np.zeros((1, 3)), 0.08 * np.eye(3), "cell: every atom has about 1.8e.06 neigh"),
    "needle": (np.zeros((1, 3)), np.diag([1e-5, 1e4, 1e4]), "cell: every atom has about"),
    "skewed": (
        np.zeros((1, 3)),
        np.array([[1.0, 0, 0], [1.0, 1e-4, 0], [0, 0, 1.0]]),
        "cell: every atom has about",
    ),
    "collapsed": (np.random.default_rng(0).random((9000, 3)), None, "coordinates: every atom has"),
    "collapsed in a cell": (
        np.random.default_rng(0).random((9000, 3)),
        100.0 * np.eye(3),
        "check the positions and their unit",
    ),
}


@pytest.mark.parametrize("case", CROWDED)
def test_crowding_is_found_before_memory_is_taken(case):
    coord, cell, message = CROWDED[case]
    with pytest.raises(InputError, match=message):
        find_edges(coord, cell, 6.0)


def test_dense_matter_is_not_crowded():
    iron = np.array([[-1.4, 1.4, 1.4], [1.4, -1.4, 1.4], [1.4, 1.4, -1.4]])
    assert len(find_edges(np.zeros((1, 3)), iron, 15.0)) > 1000
    thin = np.diag([0.7, 30.0, 30.0])
    assert len(find_edges(np.zeros((1, 3)), thin, 6.0)) == 16
    chain = np.arange(5000)[:, None] * np.array([1.0, 0.0, 0.0])
    assert len(find_edges(chain, None, 3.0)) == 6 * 5000 - 12
