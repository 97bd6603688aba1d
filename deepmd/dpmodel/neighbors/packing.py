# SPDX-License-Identifier: LGPL-3.0-or-later
"""Neighbor tables ("slots") through which models read the edges.

Packing happens outside of the differentiated function.
"""

import dataclasses
import itertools
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from deepmd.dpmodel.batch import Edges


@dataclasses.dataclass(frozen=True)
class Packing:
    """Layout of the neighbors of a part of a model.

    Parameters
    ----------
    layout : {"typed", "mixed", "flat", "angles", "centres", "first_type"}
        ``typed``: one table per neighbor type; ``mixed``: one table of all neighbors; ``flat``:
        the numbers of the edges that are kept; ``angles``: ordered pairs of edges of one center,
        as positions in the flat list of ``edge_rcut`` and ``edge_sel``; ``centers``: no neighbors, but the atoms of each
        type. ``first_type``: for every atom the type of the first atom of its frame.
    ntypes : int
        Number of types.
    rcut : float
        Cutoff [Å] of this part, at most the model's.
    sel : tuple of int
        Largest numbers of neighbors, per type (``typed``) or one number.
    by_centre : bool
        Whether centers are grouped by their type.
    exclude : tuple of (int, int)
        Pairs of types that do not see each other. They count as neighbors when the nearest
        ``sel`` are chosen, and are dropped then.
    nearest : int
        How many neighbors of all types are kept before types are looked at; 0: the sum of
        ``sel``. A part of a hybrid starts from the longer list of the whole.
    edge_rcut, edge_sel
        Of ``angles``: the flat list that is numbered.
    """

    layout: str
    ntypes: int
    rcut: float = 0.0
    sel: tuple[int, ...] = ()
    by_centre: bool = False
    exclude: tuple[tuple[int, int], ...] = ()
    nearest: int = 0
    edge_rcut: float = 0.0
    edge_sel: int = 0

    @property
    def n_tables(self) -> int:
        """Number of index arrays this packing takes in a model's flat list of slots."""
        return len(slot_kinds([self]))


class Slot(NamedTuple):
    """Meaning of one index array in the slots of a model.

    Attributes
    ----------
    kind : {"rows", "atoms", "table", "flat", "angle"}
        The atoms of a type; one number per atom; a neighbor table; a list of edges; a list of
        positions in a list of edges.
    type : int
        Type of the rows of ``rows`` and ``table``; -1: all atoms.
    sel : int
        Largest width of a table.
    list : int
        Which of the lists of edges and of positions this is, or, of ``angle``, (also) refers to.
    """

    kind: str
    type: int = -1
    sel: int = 0
    list: int = -1


def slot_kinds(packings: Sequence[Packing]) -> list[Slot]:
    """Say what every slot is."""
    kinds: list[Slot] = []
    lists: dict[Any, int] = {}
    for p in packings:
        if p.layout == "centres":
            kinds += [Slot("rows", t) for t in range(p.ntypes)]
        elif p.layout == "first_type":
            kinds.append(Slot("atoms"))
        elif p.layout == "flat":
            lists[p.rcut, sum(p.sel), p.exclude] = len(lists)
            kinds.append(Slot("flat", list=len(lists) - 1))
        elif p.layout == "angles":
            kinds += [Slot("angle", list=lists.get((p.edge_rcut, p.edge_sel, p.exclude), -1))] * 2
        else:
            limits = p.sel if p.layout == "typed" else (sum(p.sel),)
            for t in range(p.ntypes) if p.by_centre else (-1,):
                kinds += [Slot("rows", t)] * p.by_centre
                kinds += [Slot("table", t, limit) for limit in limits]
    return kinds


def slot_axes(packings: Sequence[Packing]) -> list[tuple[str, ...]]:
    """Name the sizes of every slot: what has one name has one size."""
    axes: list[tuple[str, ...]] = []
    angles = itertools.count()
    for k, (kind, of_type, _, _) in enumerate(slot_kinds(packings)):
        rows = "atoms" if of_type < 0 else f"t{of_type}"
        if kind == "table":
            axes.append((rows, f"s{k}"))
        elif kind == "angle":  # both lists of a packing
            axes.append((f"a{next(angles) // 2}",))
        else:
            axes.append((f"s{k}" if kind == "flat" else rows,))
    return axes


#: Relative difference of squared distances up to which two neighbors are equally far. Distances in
#: a crystal are equal up to rounding, which depends on the cell and on who adds the translations.
TIE = 1e-10
#: Of equally far neighbors those with the smallest projection on this vector are kept. Neighbors of
#: one atom differ in direction, whatever their numbers; in no crystal are projections on powers of
#: an irrational number (the plastic one) equal.
TIE_DIRECTION = (1.0, 0.7548776662466927, 0.5698402909980532)


@dataclasses.dataclass
class Overflow:
    """Centers with more neighbors than ``sel``; the surplus, the farthest, was dropped."""

    centers: int = 0
    needed: np.ndarray | None = None


def pack(
    packings: list[Packing],
    edges: Edges,
    atype: np.ndarray,
    vec: np.ndarray,
    overflow: Overflow | None = None,
    frame: np.ndarray | None = None,
    shortest: float = 0.0,
) -> list[np.ndarray]:
    """Make the slots of every packing: index arrays into the edges (-1: empty) or the atoms.

    Where there are more neighbors than ``sel``, the nearest are kept. Of neighbors that are equally
    far (:data:`TIE`), those with the smallest projection on :data:`TIE_DIRECTION`, and of atoms at
    one place those that come first in the list: the same ones whoever found the pairs, in whatever
    order, and however atoms are numbered.

    Parameters
    ----------
    packings : list of Packing
    edges : Edges
    atype : (n_atoms,) int
    vec : (n_edges, 3) [Å]
        Edge vectors.
    overflow : Overflow, optional
        Counts the centers that had more neighbors than ``sel``.
    frame : (n_atoms,) int, optional
        Frame of every atom, ascending; needed for ``first_type``.
    shortest : float
        Distance [Å] that shorter ones count as. Atoms at the same place are no neighbors unless it
        is positive.

    Returns
    -------
    list of array
        For ``typed`` and ``mixed``, per group of centers: with ``by_centre`` the atoms (n,), then
        tables (n, K) of edge numbers with K the largest count found, at least 1. For ``flat``:
        (n_kept,) edge numbers. For ``centers``: per type the atoms of that type.
    """
    slots: list[np.ndarray] = []
    r2 = np.einsum("ea,ea->e", vec, vec)
    lengths = _Lengths(vec, np.maximum(r2, shortest**2) if shortest else r2)
    for p in packings:
        if p.layout == "centres":
            slots += [np.flatnonzero(atype == t) for t in range(p.ntypes)]
            continue
        if p.layout == "first_type":
            if frame is None:
                raise ValueError("the layout first_type needs the frames of the atoms")
            slots.append(atype[np.searchsorted(frame, frame)])
            continue
        if p.layout == "angles":
            slots += _angles(p, edges, atype, lengths)
            continue
        kept = _nearest(p, edges, atype, lengths, overflow)
        if p.layout == "flat":
            slots.append(kept)
            continue
        tables = _tables(p, kept, edges, atype)
        if p.by_centre:
            for t in range(p.ntypes):
                rows = np.flatnonzero(atype == t)
                slots.append(rows)
                slots += [_trim(table[rows]) for table in tables]
        else:
            slots += tables
    return slots


class _Lengths(NamedTuple):
    """Edge vectors (n, 3) [Å] and their squared lengths (n,) [Å²]."""

    vec: np.ndarray
    r2: np.ndarray


def _angles(p: Packing, edges: Edges, atype: np.ndarray, lengths: _Lengths) -> list[np.ndarray]:
    """All ordered pairs of the edges of one center that are nearer than the cutoff."""
    flat = dataclasses.replace(p, layout="flat", rcut=p.edge_rcut, sel=(p.edge_sel,))
    position = np.full(len(edges), -1, dtype=np.int64)
    kept = _nearest(flat, edges, atype, lengths, None)
    position[kept] = np.arange(len(kept))
    inner = _nearest(p, edges, atype, lengths, None)
    inner = inner[lengths.r2[inner] < p.rcut * p.rcut]
    center, where = edges.i[inner], position[inner]
    counts = np.bincount(center, minlength=len(atype))
    starts = np.cumsum(counts) - counts
    per_edge = counts[center]
    first = np.repeat(where, per_edge)
    begin = np.cumsum(per_edge) - per_edge
    offset = np.arange(len(first)) - np.repeat(begin, per_edge)
    second = where[np.repeat(starts[center], per_edge) + offset]
    return [first, second]


def _nearest(
    p: Packing, edges: Edges, atype: np.ndarray, lengths: _Lengths, overflow: Overflow | None
) -> np.ndarray:
    """Numbers of the edges within the packing's cutoff and its ``sel``, in the order of the list."""
    n, r2 = len(atype), lengths.r2
    kept = np.arange(len(edges), dtype=np.int64)
    # Atoms on top of each other are no pair; a list made with a longer cutoff is cut to this one.
    within = (r2 <= p.rcut * p.rcut) & (r2 > 0.0)
    if not within.all():
        kept = kept[within]
    kept = _cut(kept, edges.i[kept], lengths, p.nearest or sum(p.sel), n, overflow)
    if p.layout == "typed":
        nt = p.ntypes
        key = edges.i[kept] * nt + atype[edges.j[kept]]
        counts = np.bincount(key, minlength=n * nt).reshape(n, nt)
        if overflow is not None and counts.size:
            most = counts.max(axis=0)
            overflow.needed = most if overflow.needed is None else np.maximum(overflow.needed, most)
        if (counts > np.asarray(p.sel)).any():
            if overflow is not None:
                overflow.centers += int((counts > np.asarray(p.sel)).any(axis=1).sum())
            limit = np.asarray(p.sel)[atype[edges.j[kept]]]
            kept = kept[_among_nearest(key, limit, kept, lengths)]
    if p.exclude:
        kept = kept[allowed_pairs(p.exclude, p.ntypes)[atype[edges.i[kept]], atype[edges.j[kept]]]]
    return kept


def allowed_pairs(exclude: Iterable[Sequence[int]], ntypes: int) -> np.ndarray:
    """Return which pairs of types may be neighbors, (ntypes, ntypes): all but the given ones."""
    allowed = np.ones((ntypes, ntypes), dtype=bool)
    for a, b in exclude:
        allowed[a, b] = allowed[b, a] = False
    return allowed


def _cut(
    kept: np.ndarray,
    center: np.ndarray,
    lengths: _Lengths,
    most: int,
    n: int,
    overflow: Overflow | None,
) -> np.ndarray:
    """Keep the ``most`` nearest edges of every center."""
    counts = np.bincount(center, minlength=n)
    full = counts > most
    if not full.any():
        return kept
    if overflow is not None:
        overflow.centers += int(full.sum())
    crowded = full[center]
    part = kept[crowded]
    part = part[_among_nearest(center[crowded], np.full(len(part), most), part, lengths)]
    return np.sort(np.concatenate([kept[~crowded], part]))


def _among_nearest(
    key: np.ndarray, limit: np.ndarray, edges: np.ndarray, lengths: _Lengths
) -> np.ndarray:
    """Mark those of some edges, one ``limit`` per key, that are among the nearest of their key."""
    r2 = lengths.r2[edges]
    order = np.lexsort((r2, key))
    sorted_key = key[order]
    first = np.flatnonzero(np.r_[True, sorted_key[1:] != sorted_key[:-1]])
    length, most = np.diff(np.r_[first, len(key)]), limit[order[first]]
    ties = _ties(r2[order], first, length, most)
    if len(ties):
        tied = order[ties]
        x, y, z = lengths.vec[edges[tied]].T
        # Term by term, so that equal vectors have equal projections.
        side = x * TIE_DIRECTION[0] + y * TIE_DIRECTION[1] + z * TIE_DIRECTION[2]
        order[ties] = tied[np.lexsort((tied, side, key[tied]))]
    marks = np.empty(len(key), dtype=bool)
    marks[order] = np.arange(len(key)) - np.repeat(first, length) < np.repeat(most, length)
    return marks


def _ties(r2: np.ndarray, first: np.ndarray, length: np.ndarray, most: np.ndarray) -> np.ndarray:
    """Places of entries, sorted by ``r2`` in every group, that are as far as the first beyond ``most``.

    Of groups in which one of these is among the first ``most``.
    """
    full = np.flatnonzero((length > most) & (most > 0))
    last = first[full] + most[full] - 1
    low = r2[last + 1] * (1.0 - TIE)
    some = r2[last] >= low
    if not some.any():
        return np.zeros(0, dtype=np.int64)
    group, low = full[some], low[some]
    high = r2[last[some] + 1] * (1.0 + TIE)
    n = length[group]
    places = np.repeat(first[group], n) + np.arange(n.sum()) - np.repeat(np.cumsum(n) - n, n)
    here = r2[places]
    return places[(here >= np.repeat(low, n)) & (here <= np.repeat(high, n))]


def _tables(p: Packing, kept: np.ndarray, edges: Edges, atype: np.ndarray) -> list[np.ndarray]:
    """One table (n_atoms, K) per neighbor type, or one of all."""
    if p.layout == "mixed":
        return [_table(kept, edges.i, len(atype))]
    types = atype[edges.j[kept]]
    return [_table(kept[types == t], edges.i, len(atype)) for t in range(p.ntypes)]


def _table(kept: np.ndarray, center: np.ndarray, n: int) -> np.ndarray:
    """Lay edges, sorted by center, out in rows: (n, K) with -1 where a row is short."""
    rows = center[kept]
    counts = np.bincount(rows, minlength=n)
    width = max(int(counts.max(initial=0)), 1)
    table = np.full((n, width), -1, dtype=np.int64)
    starts = np.cumsum(counts) - counts
    table[rows, np.arange(len(kept)) - starts[rows]] = kept
    return table


def _trim(table: np.ndarray) -> np.ndarray:
    """Drop the columns on the right that are empty in every row, keeping at least one."""
    used = int((table >= 0).sum(axis=1).max(initial=0))
    return np.ascontiguousarray(table[:, : max(used, 1)])
