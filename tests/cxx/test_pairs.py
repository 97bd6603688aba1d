# SPDX-License-Identifier: LGPL-3.0-or-later
"""The pair search of the C++ library finds what the Python package finds without it."""

import numpy as np
import pytest

from deepmd.base.errors import InputError
from deepmd.dpmodel.neighbors import pairs as neighbors


@pytest.fixture
def native(shim, monkeypatch):
    monkeypatch.setattr(neighbors, "load", lambda _name: shim)
    search = neighbors._native  # a test may put another in its place
    search.cache_clear()
    yield search()
    search.cache_clear()


def _vectors(coord, cell, edges):
    """Pairs with their vectors, in one order."""
    vec = coord[edges.j] - coord[edges.i] + (0.0 if cell is None else edges.shift @ cell)
    rows = np.c_[edges.i, edges.j, edges.shift, vec]
    return rows[np.lexsort(rows.T[::-1])]


@pytest.mark.parametrize("seed", range(24))
def test_pairs_are_those_found_without_it(native, seed, monkeypatch):
    rng = np.random.default_rng(seed)
    n, edge = int(rng.integers(1, 80)), rng.uniform(3.0, 14.0)
    cell = np.eye(3) * edge + rng.normal(size=(3, 3)) * rng.choice([0.0, 0.7])
    coord = rng.uniform(-2, 3, (n, 3)) @ cell
    cell = None if seed % 4 == 3 else cell
    found = neighbors.find_edges(coord, cell, 5.0)
    monkeypatch.setattr(neighbors, "_native", lambda: None)
    expected = neighbors.find_edges(coord, cell, 5.0)
    assert (np.diff(found.i) >= 0).all()
    assert [a.dtype for a in (found.i, found.j, found.shift)] == [np.int64, np.int64, np.float64]
    assert np.array_equal(_vectors(coord, cell, found), _vectors(coord, cell, expected))


def test_needles_and_empty_frames(native):
    needle = np.diag([0.3, 0.4, 20.0])
    coord = np.array([[0.1, 0.0, 0.3], [0.0, 0.2, 1.0]])
    found = neighbors.find_edges(coord, needle, 3.0)
    expected = neighbors.reference_edges(coord, needle, 3.0)
    assert np.array_equal(_vectors(coord, needle, found), _vectors(coord, needle, expected))
    assert len(neighbors.find_edges(np.zeros((0, 3)), None, 3.0)) == 0


def test_results_do_not_change_later(native):
    """They are copies: the library's own arrays belong to the next call."""
    rng = np.random.default_rng(0)
    coord = rng.uniform(0, 6, (30, 3))
    found = neighbors.find_edges(coord, np.eye(3) * 6, 3.0)
    before = _vectors(coord, np.eye(3) * 6, found)
    neighbors.find_edges(rng.uniform(0, 6, (40, 3)), np.eye(3) * 6, 3.0)
    assert np.array_equal(_vectors(coord, np.eye(3) * 6, found), before)


def test_what_it_refuses_is_an_input_error(native):
    with pytest.raises(InputError, match="cells away"):
        neighbors.find_edges(np.array([[1e14, 0, 0]]), np.eye(3) * 5, 3.0)
