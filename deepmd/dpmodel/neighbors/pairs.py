# SPDX-License-Identifier: LGPL-3.0-or-later
"""Pairs of neighboring atoms.

Finding them happens outside of the differentiated function. A pair list is exact: all pairs with
``0 < r <= rcut``, for triclinic cells, cells smaller than the cutoff, atoms outside of the cell and
open systems.
"""

import ctypes
import functools
import itertools
import threading
from typing import Any

import numpy as np

from deepmd.base.errors import InputError
from deepmd.base.native import load
from deepmd.dpmodel.batch import Batch, Edges, join_edges


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


#: Cutoff of models without one [Å]: they see whole frames, which must be open.
WHOLE_FRAME = 1000.0
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
    if rcut >= WHOLE_FRAME:
        fix = "the model sees whole frames, which must be open: give no cell (file nopbc)"
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
