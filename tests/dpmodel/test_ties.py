# SPDX-License-Identifier: LGPL-3.0-or-later
"""Neighbors that are equally far at a full ``sel``: the same are kept, whoever finds the pairs."""

import numpy as np
import pytest
from crystal import rock_salt
from pt.models import section

from deepmd.dpmodel.batch import Batch, Edges
from deepmd.dpmodel.model import build_model, prepare
from deepmd.dpmodel.neighbors import (
    Overflow,
    Packing,
    batch_edges,
    pack,
    pairs,
    reference_edges,
)

#: Shells of rock salt: 6 of the other type at a/2, 12 of the same at a/√2, 8 of the other at a √3/2.
SEL = {"typed": (9, 4), "mixed": (11,), "flat": (20,)}
RCUT = 4.0


def batch_of(coord, cell, atype, edges=None):
    made = Batch.from_arrays(coord[None], cell[None], atype)
    made.edges = batch_edges(made, RCUT) if edges is None else edges
    return made


def kept(batch, packing):
    """Vectors [pm] of the neighbors that are kept, of every atom."""
    vec, overflow = batch.vectors(), Overflow()
    slots = pack([packing], batch.edges, batch.atype, vec, overflow)
    assert overflow.centers >= batch.n_atoms
    found = np.concatenate([s[s >= 0] for s in slots])
    rows = [set() for _ in range(batch.n_atoms)]
    for e in found:
        rows[batch.edges.i[e]].add(tuple(np.rint(100 * vec[e]).astype(int)))
    return rows


def shuffled(edges, rng):
    """The same edges, in another order within each center."""
    order = rng.permutation(len(edges))
    order = order[np.argsort(edges.i[order], kind="stable")]
    return Edges(edges.i[order], edges.j[order], edges.shift[order])


@pytest.mark.parametrize("layout", SEL)
@pytest.mark.parametrize("finder", ["vesin", "native", "reference", "shuffled"])
def test_every_finder_keeps_the_same(layout, finder, monkeypatch):
    coord, cell, atype = rock_salt()
    packing = Packing(layout, 2, RCUT, SEL[layout])
    expected = kept(batch_of(coord, cell, atype, reference_edges(coord, cell, RCUT)), packing)
    # Of the nearest 13, centers of either type drop two or three of a type again.
    numbers = {10, 11} if layout == "typed" else {*SEL[layout]}
    assert {len(row) for row in expected} == numbers
    edges = None
    if finder == "vesin":
        monkeypatch.setattr(pairs, "_native", lambda: None)
    elif finder == "native" and pairs._native() is None:
        pytest.skip("the C++ library was not built")
    elif finder in ("reference", "shuffled"):
        edges = reference_edges(coord, cell, RCUT)
        if finder == "shuffled":
            edges = shuffled(edges, np.random.default_rng(0))
    assert kept(batch_of(coord, cell, atype, edges), packing) == expected


@pytest.mark.parametrize("layout", SEL)
def test_numbers_and_cells_do_not_matter(layout):
    """Atoms of one type in a crystal keep the same neighbors, in any cell, order and image."""
    packing, rng = Packing(layout, 2, RCUT, SEL[layout]), np.random.default_rng(1)
    coord, cell, atype = rock_salt((1, 1, 1))
    one = kept(batch_of(coord, cell, atype), packing)
    assert all(
        row == one[0] if t == 0 else row == one[4] for row, t in zip(one, atype, strict=True)
    )
    for repeat in ((2, 1, 3), (3, 3, 2)):
        coord, cell, atype = rock_salt(repeat)
        order = rng.permutation(len(coord))
        moved = coord[order] + rng.integers(-2, 3, (len(coord), 3)) @ cell + 1234.5
        for row, t in zip(
            kept(batch_of(moved, cell, atype[order]), packing), atype[order], strict=True
        ):
            assert row == one[4 * t]


def test_the_nearest_are_kept_beside_ties():
    """Ties at the cut do not touch what is nearer or farther."""
    r = np.array([1.0, 2.0, 2.0 * (1 + 4e-11), 2.0, 2.0 * (1 - 4e-11), 2.0 * (1 + 1e-9), 3.0])
    side = np.array(
        [[1, 0, 0], [0, 1, 0], [0, 0, -1], [-1, 0, 0], [0, -1, 0], [0, 0, -1], [1, 0, 0]]
    )
    n = len(r)
    edges = Edges(np.zeros(n, int), np.arange(1, n + 1), np.zeros((n, 3)))
    expected = [0, 3, 4, 2, 1, 5, 6]  # by projection: -2, -1.51, -1.14, 1.51 among the ties
    for most in range(n + 1):
        packing = Packing("flat", 1, 4.0, (most,))
        (found,) = pack([packing], edges, np.zeros(n + 1, int), r[:, None] * side)
        assert found.tolist() == sorted(expected[:most]), most


def test_energies_of_a_crystal(monkeypatch):
    """Energies do not depend on the finder; equal atoms have equal ones."""
    params = section(sel=[7, 8])
    built = build_model(params)
    coord, cell, atype = rock_salt()
    edges = [batch_edges(batch_of(coord, cell, atype), RCUT)]
    edges.append(shuffled(reference_edges(coord, cell, RCUT), np.random.default_rng(2)))
    monkeypatch.setattr(pairs, "_native", lambda: None)
    edges.append(batch_edges(batch_of(coord, cell, atype), RCUT))
    values = []
    for some in edges:
        inputs = prepare(batch_of(coord, cell, atype, some), built.packings())
        values.append(np.asarray(built.forward_edges(inputs)["energy"]).ravel())
    for value in values[1:]:
        np.testing.assert_allclose(value, values[0], rtol=1e-13)
    # Equal atoms have equal energies.
    np.testing.assert_allclose(values[0][atype == 0], values[0][0], rtol=1e-12)
