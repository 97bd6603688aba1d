# SPDX-License-Identifier: LGPL-3.0-or-later
"""Which atoms are neighbours, and the tables ("slots") through which models read them.

Finding pairs and packing them happen outside of the differentiated function. A pair list is exact:
all pairs with ``0 < r <= rcut``, for triclinic cells, cells smaller than the cutoff, atoms outside
of the cell and open systems.
"""

import ctypes
import dataclasses
import functools
import itertools
import threading
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from deepmd.dpmodel.batch import Batch, Edges, join_edges
from deepmd.utils.errors import InputError
from deepmd.utils.native import load


def cell_heights(cell: np.ndarray) -> np.ndarray:
    """Distances (3,) [Å] between opposite faces of a cell (3, 3) [Å]."""
    volume = abs(np.linalg.det(cell))
    normals = np.cross(cell[[1, 2, 0]], cell[[2, 0, 1]])
    return volume / np.linalg.norm(normals, axis=1)


def check_cell(cell: np.ndarray) -> None:
    """Raise InputError if a cell (3, 3) has no volume."""
    lengths = np.linalg.norm(cell, axis=1)
    if not abs(np.linalg.det(cell)) > 1e-8 * max(lengths.prod(), 1e-300):
        raise InputError(
            f"the cell vectors {cell.tolist()} enclose no volume",
            fix="give three independent vectors, or no cell for an open system",
        )


#: No matter is so dense that an atom has more neighbors than this; memory would not suffice.
MOST_NEIGHBORS = 20_000
#: From this number of pairs on, and of neighbors per atom, coordinates are looked at, too.
MANY_PAIRS, MANY_NEIGHBORS = 2e7, 4000


def check_crowding(coord: np.ndarray, cell: np.ndarray | None, rcut: float) -> None:
    """Raise InputError if there are more neighbors than matter can have, before they are found.

    Parameters
    ----------
    coord : (n_atoms, 3) [Å]
    cell : (3, 3) [Å] or None
    rcut : float
        Cutoff [Å].
    """
    n, sphere = len(coord), 4.0 / 3.0 * np.pi * rcut**3
    expected = 0.0
    if cell is not None:
        # Images of one atom alone are many where the cell is thin. Heights are at least volume by
        # the lengths of the other two vectors; the exact ones are needed rarely.
        volume = abs(np.linalg.det(cell))
        lengths = np.sqrt(np.einsum("ka,ka->k", cell, cell))
        heights = volume * lengths / lengths.prod()
        if _images(heights, rcut) > MOST_NEIGHBORS:
            heights = cell_heights(cell)
        expected = max(n * sphere / volume, _images(heights, rcut))
    where, fix = None, "check the cell and its unit, Å"
    if expected <= MOST_NEIGHBORS and n > MANY_NEIGHBORS:
        bins = np.floor((coord - coord.min(axis=0)) / rcut).clip(0, 2**20).astype(np.int64)
        counts = np.unique(bins @ np.array([1, 2**21, 2**42]), return_counts=True)[1]
        pairs = sphere / rcut**3 * float(np.square(counts, dtype=np.float64).sum())
        if pairs > MANY_PAIRS and pairs > MANY_NEIGHBORS * n:
            expected, fix = pairs / n, "check the positions and their unit, Å"
            where = "coordinates"
    if where or expected > MOST_NEIGHBORS:
        raise InputError(
            f"every atom has about {expected:.2g} neighbors within {rcut:g} Å",
            where=where or "cell",
            fix=fix,
        )


def _images(heights: np.ndarray, rcut: float) -> float:
    """Images of an atom within a cutoff, about, by the distances of opposite faces."""
    return float(0.5 * np.maximum(1.0, 2.0 * rcut / heights).prod())


def reference_edges(coord: np.ndarray, cell: np.ndarray | None, rcut: float) -> Edges:
    """Find all pairs of one frame by comparing every atom with every image: O(n²), always exact.

    Parameters
    ----------
    coord : (n_atoms, 3) [Å]
    cell : (3, 3) [Å] or None for an open system
    rcut : float
        Cutoff [Å]; pairs at exactly this distance belong to the list.
    """
    n = len(coord)
    fold = np.zeros((n, 3))
    images = np.zeros((1, 3))
    if cell is not None:
        fold = np.floor(coord @ np.linalg.inv(cell))
        reach = np.ceil(rcut / cell_heights(cell)).astype(int)
        images = np.array(
            list(itertools.product(*(range(-m, m + 1) for m in reach))), dtype=np.float64
        )
    folded = coord - (fold @ cell if cell is not None else 0.0)
    found: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    for image in images:
        offset = image @ cell if cell is not None else np.zeros(3)
        d = folded[None, :, :] + offset - folded[:, None, :]
        r2 = np.einsum("ija,ija->ij", d, d)
        near = (r2 <= rcut * rcut) & (r2 > 0.0)
        i, j = np.nonzero(near)
        found.append((i, j, image + fold[i] - fold[j]))
    i = np.concatenate([f[0] for f in found])
    order = np.argsort(i, kind="stable")
    return Edges(
        i[order].astype(np.int64),
        np.concatenate([f[1] for f in found])[order].astype(np.int64),
        np.concatenate([f[2] for f in found])[order],
    )


def find_edges(coord: np.ndarray, cell: np.ndarray | None, rcut: float) -> Edges:
    """Find all pairs of one frame, as :func:`reference_edges` but in O(n).

    Parameters
    ----------
    coord : (n_atoms, 3) [Å]
    cell : (3, 3) [Å] or None for an open system
    rcut : float
        Cutoff [Å].
    """
    coord = np.ascontiguousarray(coord, dtype=np.float64)
    if cell is not None:
        check_cell(cell)
    if not np.isfinite(coord).all():
        raise InputError("a coordinate is NaN or infinite", fix="check the positions given")
    check_crowding(coord, cell, rcut)
    native = _native()
    if native is not None:
        return _native_edges(native, coord, cell, rcut)
    # Needles of a cell, with thousands of own images, are left to the plain comparison.
    if len(coord) == 0 or (cell is not None and cell_heights(cell).min() < 0.1 * rcut):
        return reference_edges(coord, cell, rcut)
    box = np.zeros((3, 3)) if cell is None else np.ascontiguousarray(cell, dtype=np.float64)
    i, j, shift = _finder(float(rcut), threading.get_ident()).compute(
        points=coord, box=box, periodic=cell is not None, quantities="ijS", copy=True
    )
    return Edges(i.view(np.int64), j.view(np.int64), shift.astype(np.float64))


@functools.cache
def _native() -> Any:
    """Return the pair search of the C++ library, which is faster, or None if it was not built."""
    try:
        function = getattr(load("deepmd_cc"), "DP_FindPairs", None)
    except OSError:
        return None
    if function is not None:
        real, index = ctypes.POINTER(ctypes.c_double), ctypes.POINTER(ctypes.c_int64)
        arrays = [index, ctypes.POINTER(index), ctypes.POINTER(index)]
        shift = ctypes.POINTER(ctypes.POINTER(ctypes.c_int32))
        function.argtypes = [real, ctypes.c_int64, real, ctypes.c_double, *arrays, shift]
        function.restype = ctypes.c_char_p
    return function


def _native_edges(native: Any, coord: np.ndarray, cell: np.ndarray | None, rcut: float) -> Edges:
    """Find the pairs of one frame in C++."""
    real, index = ctypes.POINTER(ctypes.c_double), ctypes.POINTER(ctypes.c_int64)
    n, i, j = ctypes.c_int64(), index(), index()
    shift = ctypes.POINTER(ctypes.c_int32)()
    box = None if cell is None else np.ascontiguousarray(cell, dtype=np.float64)
    message = native(
        coord.ctypes.data_as(real),
        len(coord),
        None if box is None else box.ctypes.data_as(real),
        rcut,
        *(ctypes.byref(x) for x in (n, i, j, shift)),
    )
    if message is not None:
        raise InputError(message.decode().removeprefix("DeePMD-kit Error: "))
    if n.value == 0:
        return empty_edges()
    # Copies, because the arrays are the library's.
    return Edges(
        np.ctypeslib.as_array(i, shape=(n.value,)).copy(),
        np.ctypeslib.as_array(j, shape=(n.value,)).copy(),
        np.ctypeslib.as_array(shift, shape=(n.value, 3)).astype(np.float64),
    )


@functools.lru_cache(maxsize=8)
def _finder(rcut: float, _thread: int) -> Any:
    """Return a thread's O(n) pair finder for one cutoff; it keeps its memory from call to call.

    Two threads (data loaded ahead, and validation) must not share one: it would be overwritten.
    """
    from vesin import NeighborList  # here, so that importing this module stays cheap

    # It keeps r < cutoff, hence the next number above. Its order does not depend on threads.
    return NeighborList(cutoff=float(np.nextafter(rcut, np.inf)), full_list=True, sorted=True)


def batch_edges(batch: Batch, rcut: float) -> Edges:
    """Find all pairs of every frame of a batch."""
    ends = batch.offsets()
    parts = [
        find_edges(batch.coord[a:b], batch.cell[f] if batch.periodic[f] else None, rcut)
        for f, (a, b) in enumerate(itertools.pairwise(ends))
    ]
    return join_edges(parts, batch.natoms.tolist()) if parts else empty_edges()


def empty_edges() -> Edges:
    """Return a list without pairs."""
    return Edges(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros((0, 3)))


@dataclasses.dataclass(frozen=True)
class Packing:
    """How a part of a model wants its neighbours laid out.

    Parameters
    ----------
    layout : {"typed", "mixed", "flat", "angles", "centres", "first_type"}
        ``typed``: one table per neighbour type; ``mixed``: one table of all neighbours; ``flat``:
        the numbers of the edges that are kept; ``angles``: ordered pairs of edges of one centre,
        as positions in the flat list of ``edge_rcut`` and ``edge_sel``; ``centres``: no neighbours, but the atoms of each
        type. ``first_type``: for every atom the type of the first atom of its frame.
    ntypes : int
        Number of types.
    rcut : float
        Cutoff [Å] of this part, at most the model's.
    sel : tuple of int
        Largest numbers of neighbours, per type (``typed``) or one number.
    by_centre : bool
        Whether centres are grouped by their type.
    exclude : tuple of (int, int)
        Pairs of types that do not see each other. They count as neighbours when the nearest
        ``sel`` are chosen, and are dropped then.
    nearest : int
        How many neighbours of all types are kept before types are looked at; 0: the sum of
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
    """What one index array in the slots of a model is.

    Attributes
    ----------
    kind : {"rows", "atoms", "table", "flat", "angle"}
        The atoms of a type; one number per atom; a neighbour table; a list of edges; a list of
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
    """Centres with more neighbours than ``sel``; the surplus, the farthest, was dropped."""

    centres: int = 0
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
        Counts the centres that had more neighbours than ``sel``.
    frame : (n_atoms,) int, optional
        Frame of every atom, ascending; needed for ``first_type``.
    shortest : float
        Distance [Å] that shorter ones count as. Atoms at the same place are no neighbors unless it
        is positive.

    Returns
    -------
    list of array
        For ``typed`` and ``mixed``, per group of centres: with ``by_centre`` the atoms (n,), then
        tables (n, K) of edge numbers with K the largest count found, at least 1. For ``flat``:
        (n_kept,) edge numbers. For ``centres``: per type the atoms of that type.
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
    """All ordered pairs of the edges of one centre that are nearer than the cutoff."""
    flat = dataclasses.replace(p, layout="flat", rcut=p.edge_rcut, sel=(p.edge_sel,))
    position = np.full(len(edges), -1, dtype=np.int64)
    kept = _nearest(flat, edges, atype, lengths, None)
    position[kept] = np.arange(len(kept))
    inner = _nearest(p, edges, atype, lengths, None)
    inner = inner[lengths.r2[inner] < p.rcut * p.rcut]
    centre, where = edges.i[inner], position[inner]
    counts = np.bincount(centre, minlength=len(atype))
    starts = np.cumsum(counts) - counts
    per_edge = counts[centre]
    first = np.repeat(where, per_edge)
    begin = np.cumsum(per_edge) - per_edge
    offset = np.arange(len(first)) - np.repeat(begin, per_edge)
    second = where[np.repeat(starts[centre], per_edge) + offset]
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
                overflow.centres += int((counts > np.asarray(p.sel)).any(axis=1).sum())
            limit = np.asarray(p.sel)[atype[edges.j[kept]]]
            kept = kept[_among_nearest(key, limit, kept, lengths)]
    if p.exclude:
        allowed = np.ones((p.ntypes, p.ntypes), dtype=bool)
        for a, b in p.exclude:
            allowed[a, b] = allowed[b, a] = False
        kept = kept[allowed[atype[edges.i[kept]], atype[edges.j[kept]]]]
    return kept


def _cut(
    kept: np.ndarray,
    centre: np.ndarray,
    lengths: _Lengths,
    most: int,
    n: int,
    overflow: Overflow | None,
) -> np.ndarray:
    """Keep the ``most`` nearest edges of every centre."""
    counts = np.bincount(centre, minlength=n)
    full = counts > most
    if not full.any():
        return kept
    if overflow is not None:
        overflow.centres += int(full.sum())
    crowded = full[centre]
    part = kept[crowded]
    part = part[_among_nearest(centre[crowded], np.full(len(part), most), part, lengths)]
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
    """One table (n_atoms, K) per neighbour type, or one of all."""
    if p.layout == "mixed":
        return [_table(kept, edges.i, len(atype))]
    types = atype[edges.j[kept]]
    return [_table(kept[types == t], edges.i, len(atype)) for t in range(p.ntypes)]


def _table(kept: np.ndarray, centre: np.ndarray, n: int) -> np.ndarray:
    """Lay edges, sorted by centre, out in rows: (n, K) with -1 where a row is short."""
    rows = centre[kept]
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
