# SPDX-License-Identifier: LGPL-3.0-or-later
"""QM regions and fragments as separate groups of atoms in one batch.

The QM atoms of a frame are a group, and so is every fragment together with copies of them. Pairs
are those of atoms of one group.
"""

import dataclasses
from typing import NamedTuple

import numpy as np

from deepmd.base.errors import InputError
from deepmd.dpmodel.batch import Batch, Edges

#: Roles of the atoms of an expanded batch: left out, of the QM region, of a fragment, and copies of
#: QM atoms that go with a fragment.
IGNORED, QM, MM, COPY = -1.0, 0.0, 1.0, 2.0


class _Regions(NamedTuple):
    """Fragments of a batch, numbered through all frames, and the QM atoms of every frame.

    Attributes
    ----------
    fragment : (n_atoms,)
        Number of the fragment that an atom belongs to; -1 for other atoms.
    qm : (n_atoms,) bool
    rank : (n_atoms,)
        Number of a QM atom among those of its frame.
    frame : (n_fragments,)
        Frame of every fragment, ascending.
    copies : (n_fragments,)
        First of the copies of QM atoms that go with a fragment.
    """

    fragment: np.ndarray
    qm: np.ndarray
    rank: np.ndarray
    frame: np.ndarray
    copies: np.ndarray


def regions_of(batch: Batch) -> np.ndarray:
    """Return the region of every atom from ``aparam``, (n_atoms,) int64.

    0 is the QM region, greater numbers are those of fragments, and -1 stands for atoms left out.

    Raises
    ------
    InputError
        If a number is none of these.
    """
    given = np.asarray(batch.aparam)[:, 0]
    regions = np.rint(given).astype(np.int64)
    wrong = np.flatnonzero((np.abs(given - regions) > 1e-6) | (regions < -1))
    if len(wrong):
        raise InputError(
            f"atom {wrong[0]} is in region {given[wrong[0]]:g}",
            where="aparam",
            fix="give 0 for QM atoms, 1, 2, … for the fragments, -1 for atoms left out",
        )
    return regions


def split_regions(batch: Batch) -> Batch:
    """Return the batch of all groups, without labels; see :class:`PairwiseModel`.

    In every frame the atoms come first, in their order, each in its group; then copies of the QM
    atoms for one fragment after another.
    """
    regions = _regions(batch)
    atoms = np.arange(batch.n_atoms)
    qm_atoms = [atoms[regions.qm & (batch.frame == f)] for f in range(batch.n_frames)]
    owner = np.concatenate([atoms, *(qm_atoms[f] for f in regions.frame)])
    role = np.full(len(owner), COPY)
    role[: batch.n_atoms] = np.where(regions.qm, QM, np.where(regions.fragment < 0, IGNORED, MM))
    frame = batch.frame[owner]
    order = np.argsort(frame, kind="stable")
    row = np.empty(len(order), np.int64)
    row[order] = np.arange(len(order))
    owner = owner[order]
    return dataclasses.replace(
        batch,
        coord=batch.coord[owner],
        atype=batch.atype[owner],
        frame=frame[order],
        natoms=np.bincount(frame, minlength=batch.n_frames).astype(batch.natoms.dtype),
        aparam=None,
        role=role[order, None],
        labels={},
        find={},
        edges=_edges(batch, regions, row),
        owner=1.0 + owner[:, None],
        place=row[: batch.n_atoms, None].astype(np.float64),
    )


def _regions(batch: Batch) -> _Regions:
    region = regions_of(batch)
    qm, fragment = region == 0, np.full(batch.n_atoms, -1, np.int64)
    inside = np.flatnonzero(region > 0)
    pairs = np.stack([batch.frame[inside], region[inside]], axis=1)
    found, fragment[inside] = np.unique(pairs, axis=0, return_inverse=True)
    frame = found[:, 0].astype(np.int64)
    sizes = np.bincount(batch.frame[qm], minlength=batch.n_frames)
    before = np.cumsum(sizes) - sizes
    rank = np.cumsum(qm) - 1 - before[batch.frame]
    copies = batch.n_atoms + np.cumsum(sizes[frame]) - sizes[frame]
    return _Regions(fragment, qm, rank, frame, copies)


def _edges(batch: Batch, regions: _Regions, row: np.ndarray) -> Edges:
    """Pairs within the groups, sorted by center; ``row`` of atoms and copies in their new order."""
    old, fragment, qm = batch.edges, regions.fragment, regions.qm
    i, j = old.i, old.j

    def copy(atom: np.ndarray, of: np.ndarray) -> np.ndarray:
        return regions.copies[of] + regions.rank[atom]

    within = np.flatnonzero(qm[i] & qm[j])
    same = np.flatnonzero((fragment[i] >= 0) & (fragment[i] == fragment[j]))
    out = np.flatnonzero(qm[i] & (fragment[j] >= 0))
    into = np.flatnonzero((fragment[i] >= 0) & qm[j])
    # Pairs of QM atoms are in the QM region, and again with every fragment of the frame.
    first = np.searchsorted(regions.frame, np.arange(batch.n_frames))
    count = np.bincount(regions.frame, minlength=batch.n_frames)
    times = count[batch.frame[i[within]]]
    again = np.repeat(within, times)
    of = np.arange(len(again)) - np.repeat(np.cumsum(times) - times, times)
    of += first[batch.frame[i[again]]]
    parts = [
        (within, i[within], j[within]),
        (again, copy(i[again], of), copy(j[again], of)),
        (same, i[same], j[same]),
        (out, copy(i[out], fragment[j[out]]), j[out]),
        (into, i[into], copy(j[into], fragment[i[into]])),
    ]
    edge, centers, neighbors = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    centers, neighbors = row[centers], row[neighbors]
    order = np.argsort(centers, kind="stable")
    return Edges(centers[order], neighbors[order], old.shift[edge[order]])
