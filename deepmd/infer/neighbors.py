# SPDX-License-Identifier: LGPL-3.0-or-later
"""Pairs out of a neighbor list of ASE, for callers that bring their own."""

from typing import Any

import numpy as np

from deepmd.base.errors import InputError
from deepmd.dpmodel.batch import Batch, Edges, join_edges
from deepmd.dpmodel.neighbors import find_edges


def edges_from_ase(neighbor_list: Any, batch: Batch, rcut: float, *, check: bool) -> Edges:
    """Return the pairs of every frame of a batch as an ASE neighbor list finds them.

    Parameters
    ----------
    neighbor_list : ase.neighborlist.NeighborList or one of its primitive forms
    batch : Batch
    rcut : float
        The model's cutoff [Å]; pairs beyond it are left out.
    check : bool
        Whether to compare the number of pairs with our own search.

    Raises
    ------
    InputError
        If the list does not hold every pair within the cutoff.
    """
    primitive = getattr(neighbor_list, "nl", neighbor_list)
    ends = batch.offsets()
    parts = []
    for f in range(batch.n_frames):
        coord = batch.coord[ends[f] : ends[f + 1]]
        cell = batch.cell[f]
        periodic = bool(batch.periodic[f])
        _update(primitive, periodic, cell, coord)
        edges = _edges(primitive, coord, cell, rcut)
        if check:
            expected = len(find_edges(coord, cell if periodic else None, rcut))
            if len(edges) != expected:
                raise InputError(
                    f"holds {len(edges)} pairs within {rcut:g} Å, there are {expected}",
                    where="neighbor_list",
                    fix="give it a cutoff of at least the model's, or leave it out",
                )
        parts.append(edges)
    return join_edges(parts, batch.natoms.tolist())


def _update(primitive: Any, periodic: bool, cell: np.ndarray, coord: np.ndarray) -> None:
    """Bring the list up to date; a list with a skin decides itself whether to search again."""
    before = getattr(primitive, "positions", None)
    other_size = before is not None and len(before) != len(coord)
    search = primitive.build if other_size else primitive.update
    search(np.array([periodic] * 3), cell, coord)


def _edges(primitive: Any, coord: np.ndarray, cell: np.ndarray, rcut: float) -> Edges:
    """Pairs of one frame in both directions, sorted by center."""
    found = [primitive.get_neighbors(a) for a in range(len(coord))]
    i = np.repeat(np.arange(len(coord), dtype=np.int64), [len(n) for n, _ in found])
    j = np.concatenate([np.zeros(0, np.int64), *(n for n, _ in found)]).astype(np.int64)
    shift = np.concatenate([np.zeros((0, 3)), *(s for _, s in found)]).astype(np.float64)
    if not primitive.bothways:
        own = (i == j) & ~shift.any(axis=1)
        i, j, shift = (
            np.concatenate([i, j[~own]]),
            np.concatenate([j, i[~own]]),
            np.concatenate([shift, -shift[~own]]),
        )
    vec = coord[j] - coord[i] + shift @ cell
    r2 = np.einsum("ea,ea->e", vec, vec)
    keep = (r2 > 0.0) & (r2 <= rcut * rcut)
    i, j, shift = i[keep], j[keep], shift[keep]
    order = np.argsort(i, kind="stable")
    return Edges(i[order], j[order], shift[order])
