# SPDX-License-Identifier: LGPL-3.0-or-later
"""The tables of the C++ library are those of the Python package, to the number."""

import ctypes

import numpy as np
import pytest

from deepmd.dpmodel.batch import Edges
from deepmd.dpmodel.neighbors import Overflow, Packing, pack

LAYOUTS = ("typed", "mixed", "flat", "angles", "centres", "first_type")
INT, REAL = ctypes.POINTER(ctypes.c_int64), ctypes.POINTER(ctypes.c_double)


@pytest.fixture(scope="module")
def library(shim):
    shim.slot.restype = INT
    for name in ("pack", "overflow_centers", "overflow_needed"):
        getattr(shim, name).restype = ctypes.c_int64
    return shim


def _ints(values):
    array = np.ascontiguousarray(values, dtype=np.int64)
    return array, array.ctypes.data_as(INT)


def cxx_pack(library, packings, edges, atype, vec, frame):
    """What ``pack`` returns, made by the C++ library."""
    for p in packings:
        exclude = np.array(p.exclude, dtype=np.int32).reshape(-1, 2)
        _sel, sel = _ints(p.sel)
        library.add_packing(
            LAYOUTS.index(p.layout),
            ctypes.c_int64(p.ntypes),
            ctypes.c_double(p.rcut),
            sel,
            ctypes.c_int64(len(p.sel)),
            int(p.by_centre),
            exclude.ctypes.data_as(ctypes.POINTER(ctypes.c_int32)),
            ctypes.c_int64(len(exclude)),
            ctypes.c_int64(p.nearest),
            ctypes.c_double(p.edge_rcut),
            ctypes.c_int64(p.edge_sel),
        )
    kept = [_ints(a) for a in (edges.i, edges.j, atype, atype[np.searchsorted(frame, frame)])]
    i, j, types, first = (pointer for _, pointer in kept)
    n, n_atoms = ctypes.c_int64(len(edges)), ctypes.c_int64(len(atype))
    r2 = np.einsum("ea,ea->e", vec, vec)
    lengths = (vec.ctypes.data_as(REAL), r2.ctypes.data_as(REAL))
    count = library.pack(n, i, j, *lengths, n_atoms, types, first)
    slots = []
    for k in range(count):
        rows, columns = ctypes.c_int64(), ctypes.c_int64()
        data = library.slot(ctypes.c_int64(k), ctypes.byref(rows), ctypes.byref(columns))
        shape = (rows.value,) if columns.value < 0 else (rows.value, columns.value)
        size = int(np.prod(shape))
        flat = np.ctypeslib.as_array(data, shape=(size,)).copy() if size else np.zeros(0, np.int64)
        slots.append(flat.reshape(shape))
    needed = np.zeros(16, dtype=np.int64)
    n_needed = library.overflow_needed(needed.ctypes.data_as(INT))
    return slots, library.overflow_centers(), needed[:n_needed]


def random_edges(rng, n_atoms, n_frames, mean):
    """Edges of frames on one axis; some distances are equal, some zero, some beyond a cutoff."""
    frame = np.sort(rng.integers(0, n_frames, n_atoms))
    i = np.sort(rng.integers(0, n_atoms, int(mean * n_atoms))) if n_atoms else np.zeros(0, int)
    j = np.array([rng.choice(np.flatnonzero(frame == frame[a])) for a in i], dtype=np.int64)
    vec = rng.uniform(-3.2, 3.2, (len(i), 3))
    if rng.random() < 0.5:  # many are equally far up to rounding, some at one place
        vec = np.round(vec) * (1.0 + 1e-13 * rng.integers(-9, 10, (len(i), 1)))
    return Edges(i.astype(np.int64), j, np.zeros((len(i), 3))), vec, frame


def random_packing(rng, ntypes):
    layout = str(rng.choice(LAYOUTS))
    pairs = [(a, b) for a in range(ntypes) for b in range(a, ntypes)]
    exclude = tuple(p for p in pairs if rng.random() < 0.15)
    sel = tuple(int(s) for s in rng.integers(0, 9, ntypes if layout == "typed" else 1))
    rcut = float(rng.uniform(2.0, 6.0))
    return Packing(
        layout,
        ntypes,
        rcut,
        sel,
        by_centre=layout in ("typed", "mixed") and bool(rng.random() < 0.5),
        exclude=exclude,
        nearest=int(rng.integers(1, 20)) if layout != "angles" and rng.random() < 0.3 else 0,
        edge_rcut=rcut + 0.5,
        edge_sel=int(rng.integers(1, 15)),
    )


@pytest.mark.parametrize("seed", range(60))
def test_packing_is_that_of_python(library, seed):
    rng = np.random.default_rng(seed)
    ntypes = int(rng.integers(1, 5))
    n_atoms = int(rng.integers(0, 3)) if seed % 10 == 0 else int(rng.integers(1, 25))
    edges, vec, frame = random_edges(rng, n_atoms, int(rng.integers(1, 4)), rng.uniform(0, 15))
    atype = rng.integers(0, ntypes, n_atoms)
    packings = [random_packing(rng, ntypes) for _ in range(rng.integers(1, 5))]
    overflow = Overflow()
    expected = pack(packings, edges, atype, vec, overflow, frame)
    found, centers, needed = cxx_pack(library, packings, edges, atype, vec, frame)
    assert [f.shape for f in found] == [e.shape for e in expected]
    for f, e in zip(found, expected, strict=True):
        assert np.array_equal(f, e)
    assert centers == overflow.centers
    if overflow.needed is not None:
        assert np.array_equal(needed, overflow.needed)


def test_packing_cases_are_not_trivial():
    """The random cases hold what they are there for."""
    full, excluded, layouts = 0, 0, set()
    for seed in range(60):
        rng = np.random.default_rng(seed)
        ntypes = int(rng.integers(1, 5))
        edges, vec, frame = random_edges(rng, 20, 2, 8.0)
        atype = rng.integers(0, ntypes, 20)
        p = random_packing(rng, ntypes)
        overflow = Overflow()
        pack([p], edges, atype, vec, overflow, frame)
        full += overflow.centers > 0
        excluded += bool(p.exclude)
        layouts.add((p.layout, p.by_centre))
    assert full > 5 and excluded > 5 and len(layouts) == 8
