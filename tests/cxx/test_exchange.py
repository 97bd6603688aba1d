# SPDX-License-Identifier: LGPL-3.0-or-later
"""Ranks that exchange the messages between their atoms in every layer, as threads of one process."""

import ctypes as ct
import threading
from concurrent.futures import ThreadPoolExecutor

import h5py
import numpy as np
import pytest
from cxx import backend_abi, c_api
from golden import cases

LIBRARY = backend_abi.find_library("libdeepmd_c.so")
pytestmark = pytest.mark.skipif(
    LIBRARY is None or not LIBRARY.with_name("libdeepmd_backend_native.so").is_file(),
    reason="libdeepmd_c and libdeepmd_backend_native are not built, or DEEPMD_TEST_LIB not set",
)
pytest.importorskip("torch")  # makes the programs in the files

EXCHANGE = ct.CFUNCTYPE(ct.c_int, ct.c_void_p, ct.POINTER(ct.c_double), ct.c_int)
SECONDS = 120.0  # a rank waits for the others


def passes_messages(case):
    """Whether a case has a model of energies with DPA-2 or DPA-3."""
    if "dp" not in case["files"] or case["kind"] not in ("ener", "spin"):
        return False
    with h5py.File(cases.path(case, "dp")) as handle:
        return any(f'"{name}"' in handle.attrs["json"] for name in ("dpa2", "dpa3"))


CASES = [c for c in cases.manifest()["cases"] if passes_messages(c)]


@pytest.fixture(scope="module")
def library():
    loaded = c_api.load(LIBRARY)
    loaded.DP_NewNlist_comm.restype = ct.c_void_p
    loaded.DP_DeepBaseModelHasExchange.restype = ct.c_bool
    loaded.DP_DeepSpinGetReach.restype = ct.c_double
    return loaded


class Exchange:
    """What ranks give each other: values of owners, sums of those of ghosts."""

    def __init__(self, ranks, natoms):
        self.natoms, self.barrier = natoms, threading.Barrier(ranks, timeout=SECONDS)
        self.lock, self.calls = threading.Lock(), [0] * ranks
        self.shared = np.zeros((natoms, 1))

    def call(self, rank, values, width, forward):
        """Exchange the values (nall, width) of a rank, whose atoms are images of `rank.owner`."""
        rows = np.ctypeslib.as_array(values, (len(rank.owner), width))
        self.calls[rank.number] += 1
        if self.barrier.wait() == 0:
            self.shared = np.zeros((self.natoms, width))
        self.barrier.wait()
        part = slice(0, rank.nloc) if forward else slice(rank.nloc, None)
        with self.lock:
            np.add.at(self.shared, rank.owner[part], rows[part])
        self.barrier.wait()
        if forward:
            rows[rank.nloc :] = self.shared[rank.owner[rank.nloc :]]
        else:
            rows[: rank.nloc] += self.shared[rank.owner[: rank.nloc]]
        self.barrier.wait()
        return 0


class Rank:
    """Atoms of a rank, the images within a distance of them, and a list of neighbors."""

    def __init__(self, number, mine, coord, cell, reach):
        self.number, self.nloc = number, len(mine)
        steps = range(-3, 4)
        shifts = np.array([(a, b, c) for a in steps for b in steps for c in steps]) @ cell
        images = (coord[None] + shifts[:, None]).reshape(-1, 3)
        owner = np.tile(np.arange(len(coord)), len(shifts))
        home = np.abs(images - coord[owner]).max(-1) < 1e-9
        own = coord[mine]
        distance = np.linalg.norm(images[:, None] - own[None], axis=-1)
        near = (distance.min(-1, initial=np.inf) < reach) & ~(home & np.isin(owner, mine))
        self.owner = np.concatenate([mine, owner[near]]).astype(int)
        self.coord = np.concatenate([own, images[near]])
        apart = np.linalg.norm(self.coord[:, None] - own[None], axis=-1).T
        self.rows = []
        for k in range(self.nloc):
            row = np.flatnonzero(apart[k] < reach)
            self.rows.append(row[row != k].astype(np.int32))


def evaluate(library, pot, rank, given, exchange, *, fail=False):
    """Evaluate a frame on one rank; a rank that fails breaks the barrier."""

    def function(forward):
        def call(_, values, width):
            try:
                if fail and exchange.calls[rank.number] == 1:
                    raise threading.BrokenBarrierError
                return exchange.call(rank, values, width, forward)
            except threading.BrokenBarrierError:
                exchange.barrier.abort()
                return 1

        return EXCHANGE(call)

    functions = function(True), function(False)
    count = np.array([len(row) for row in rank.rows], np.int32)
    first = (ct.POINTER(ct.c_int) * max(rank.nloc, 1))()
    for k, row in enumerate(rank.rows):
        first[k] = row.ctypes.data_as(ct.POINTER(ct.c_int))
    centers, nall = np.arange(rank.nloc, dtype=np.int32), len(rank.owner)
    pointers = [x.ctypes.data_as(ct.c_void_p) for x in (centers, count)]
    nlist = ct.c_void_p(
        library.DP_NewNlist_comm(rank.nloc, *pointers, first, 0, *[None] * 7, 3)  # three ranks
    )
    library.DP_NlistSetExchange(nlist, *functions, None)
    spin = pot.part == "DeepSpin"
    out = {"energy": np.zeros(1), "force": np.zeros((nall, 3))}
    out |= {"force_mag": np.zeros((nall, 3))} if spin else {}
    out |= {
        "virial": np.zeros(9),
        "atom_energy": np.zeros(nall),
        "atom_virial": np.zeros((nall, 9)),
    }
    moments = [np.ascontiguousarray(given["spin"][rank.owner])] if spin else []
    atoms = [np.ascontiguousarray(rank.coord), *moments, given["types"][rank.owner].copy()]
    parameters = [given["fparam"], None, given["charge_spin"]]
    try:
        pot._call(
            *("ComputeNList3", np.float64, 1, nall, *atoms, None, nall - rank.nloc, nlist, 0),
            *(*parameters, *out.values()),
        )
    except c_api.CError:
        exchange.barrier.abort()
        raise
    finally:
        library.DP_DeleteNlist(nlist)
    return out


def frame_of(case):
    """First periodic frame of a case with its parameters."""
    name = next(n for n in ("pbc", "dense") if n in case["sets"])
    given = cases.inputs(case, name)
    types = np.asarray(given["atom_types"], np.int32)
    n = types.shape[-1]
    found = {
        "types": types.reshape(-1, n)[0],
        "coord": np.asarray(given["coords"]).reshape(-1, n, 3)[0],
    }
    found["cell"] = np.asarray(given["cells"]).reshape(-1, 3, 3)[0]
    for key in ("fparam", "charge_spin"):
        value = given.get(key)
        found[key] = None if value is None else np.ascontiguousarray(np.atleast_2d(value)[0], float)
    if given.get("spin") is not None:
        found["spin"] = np.asarray(given["spin"]).reshape(-1, n, 3)[0]
    return found


def prepared(library, case, converted, engine="native"):
    """Open model, frame, and the atoms of three ranks, the last of which has none."""
    part = "DeepSpin" if case["name"].startswith("spin") else "DeepPot"
    pot = c_api.Handle(library, part, converted(cases.path(case, "dp"), ".dp"), engine=engine)
    given = frame_of(case)
    reach = pot.get("GetCutoff")
    if part == "DeepSpin":
        longest = float(np.linalg.norm(given["spin"], axis=-1).max())
        reach = library.DP_DeepSpinGetReach(pot.handle, ct.c_double(longest))
    order = np.argsort(given["coord"][:, 0], kind="stable")
    split = len(order) // 3
    mine = [np.sort(order[:split]), np.sort(order[split:]), order[:0]]
    ranks = [Rank(k, m, given["coord"], given["cell"], reach) for k, m in enumerate(mine)]
    return pot, given, ranks


def close(found, expected):
    scale = max(float(np.abs(expected).max(initial=0.0)), 0.01)
    assert found.shape == expected.shape
    assert float(np.abs(found - expected).max(initial=0.0)) <= 1e-10 * scale


@pytest.mark.parametrize("case", [pytest.param(c, id=c["name"]) for c in CASES])
def test_lockstep(library, case, converted):
    """Energies, forces and virials of three ranks are those of one, and they exchange equally often."""
    pot, given, ranks = prepared(library, case, converted)
    assert library.DP_DeepBaseModelHasExchange(pot.handle)
    n = len(given["types"])
    exchange = Exchange(len(ranks), n)
    with ThreadPoolExecutor(len(ranks)) as pool:
        done = list(pool.map(lambda r: evaluate(library, pot, r, given, exchange), ranks))
    assert len(set(exchange.calls)) == 1 and exchange.calls[0] > 2
    atoms = {
        "coords": given["coord"][None],
        "cells": given["cell"][None],
        "atom_types": given["types"],
    }
    frames = {k: given[k] for k in ("fparam", "charge_spin", "spin") if given.get(k) is not None}
    if "spin" in frames:
        frames["spin"] = frames["spin"][None]
    whole = pot.compute(**atoms, **frames)
    for key in ("energy", "virial"):
        close(sum(out[key] for out in done).ravel(), np.asarray(whole[key]).ravel())
    for key in ("force", "force_mag", "atom_energy"):
        if key not in done[0]:
            continue
        found = np.zeros((n, *done[0][key].shape[1:]))
        for rank, out in zip(ranks, done, strict=True):
            np.add.at(found, rank.owner, out[key])
        close(found.ravel(), np.asarray(whole[key]).ravel())
    close(sum(out["atom_virial"].sum(0) for out in done), np.asarray(whole["virial"]).ravel())
    pot.close()


def test_failure_of_an_exchange(library, converted):
    """A rank whose exchange fails ends with an error, and so do the others."""
    case = next(c for c in CASES if c["name"].startswith("dpa3"))
    pot, given, ranks = prepared(library, case, converted)
    exchange = Exchange(len(ranks), len(given["types"]))

    def message(rank):
        # A handle of its own: it keeps the message of the last call.
        own = c_api.Handle(library, pot.part, converted(cases.path(case, "dp"), ".dp"))
        with pytest.raises(c_api.CError) as error:
            evaluate(library, own, rank, given, exchange, fail=rank.number == 1)
        own.close()
        return str(error.value)

    with ThreadPoolExecutor(len(ranks)) as pool:
        for text in pool.map(message, ranks):
            assert "exchange of values between ranks failed" in text
    pot.close()
