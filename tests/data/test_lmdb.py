# SPDX-License-Identifier: LGPL-3.0-or-later
"""LMDB data sets, written here frame by frame, give the batches of the same data elsewhere."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deepmd.base.errors import DataError
from deepmd.data.dataset import Dataset
from deepmd.data.sampler import Sampler
from deepmd.data.search import open_systems
from deepmd.dpmodel.label import Label

lmdb = pytest.importorskip("lmdb")
msgpack = pytest.importorskip("msgpack")

LABELS = [
    Label("energy", 1, atomic=False, required=True),
    Label("force", 3, atomic=True),
    Label("virial", 9, atomic=False),
    Label("fparam", 2, atomic=False),
]


def encoded(array: Any) -> dict:
    array = np.asarray(array)
    return {"type": str(array.dtype), "shape": list(array.shape), "data": array.tobytes()}


def write(path: Path, frames: list[dict], **about: Any) -> str:
    """Write frames, arrays by the names of the format; ``about`` changes the metadata."""
    about = {
        "nframes": len(frames),
        "frame_idx_fmt": "06d",
        "frame_nlocs": [len(f["atom_types"]) for f in frames],
        "type_map": ["A", "B"],
        **about,
    }
    known = {k: v for k, v in about.items() if v is not None}
    with lmdb.open(str(path), map_size=1 << 22) as file, file.begin(write=True) as transaction:
        transaction.put(b"__metadata__", msgpack.packb(known))
        for k, frame in enumerate(frames):
            arrays = {n: encoded(v) if np.ndim(v) else v for n, v in frame.items()}
            transaction.put(f"{k:06d}".encode(), msgpack.packb(arrays))
    return str(path)


def random_frame(n: int, seed: int, **more: Any) -> dict:
    rng = np.random.default_rng(seed)
    return {
        "coords": rng.uniform(0, 5, (n, 3)),
        "cells": 5.0 * np.eye(3),
        "energies": float(rng.normal()),
        "forces": rng.normal(size=(n, 3)),
        "atom_types": rng.integers(0, 2, n),
        "atom_numbs": [1, 2],
        **more,
    }


def test_same_batches_as_from_folders(make: Callable, tmp_path: Path) -> None:
    made = make(sets=(6,))
    frames = [
        {
            "coords": made.arrays["coord"][k].reshape(-1, 3),
            "cells": made.arrays["box"][k].reshape(3, 3),
            "energies": made.arrays["energy"][k : k + 1],
            "forces": made.arrays["force"][k].reshape(-1, 3).astype("f4"),
            "atom_types": made.types.astype("i4"),
        }
        for k in range(6)
    ]
    path = write(tmp_path / "x.lmdb", frames)
    (folder,), (file,) = (open_systems(p, type_map=["B", "C", "A"]) for p in (made.path, path))
    assert (file.nframes, file.natoms, file.periodic) == (6, 5, True)
    wanted = [5, 0, 3]
    a, b = folder.load(wanted, LABELS), file.load(wanted, LABELS)
    for name in ("coord", "cell", "periodic", "atype", "frame", "natoms"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
    np.testing.assert_array_equal(a.labels["energy"], b.labels["energy"])
    np.testing.assert_allclose(a.labels["force"], b.labels["force"], rtol=1e-6)
    assert a.find == b.find == {"energy": 1.0, "force": 1.0, "virial": 0.0, "fparam": 0.0}
    np.testing.assert_array_equal(folder.count_types(3)[0], file.count_types(3)[4])


def test_frames_of_one_size_together(tmp_path: Path) -> None:
    sizes = [3, 5, 3, 4, 5, 3]
    frames = [random_frame(n, k) for k, n in enumerate(sizes)]
    path = write(tmp_path / "x.lmdb", frames, frame_nlocs=None)
    systems = open_systems([path])
    assert [(s.natoms, s.nframes) for s in systems] == [(3, 3), (4, 1), (5, 2)]
    assert systems[2].load([1]).coord[0].tolist() == frames[4]["coords"][0].tolist()
    # A batch of frames of several sizes.
    sampler = Sampler([s.nframes for s in systems], [s.natoms for s in systems], batch_size="mix:9")
    data = Dataset(systems, sampler, LABELS[:2], rcut=3.0)
    seen = [data.next() for _ in range(20)]
    assert any(len(set(b.natoms.tolist())) > 1 for b in seen)
    assert all(b.natoms.sum() == b.n_atoms == len(b.labels["force"]) >= 9 for b in seen)
    assert all((b.frame[b.edges.i] == b.frame[b.edges.j]).all() for b in seen)


def test_blocks_act_on_the_systems_of_frames(tmp_path: Path) -> None:
    frames = [random_frame(3 + k % 2, k) for k in range(12)]
    ids = [0] * 4 + [1] * 2 + [2] * 6
    path = write(tmp_path / "x.lmdb", frames, frame_system_ids=ids)
    systems = open_systems([path], blocks=[(0, 2), (2, 3)])
    assert [(s.natoms, s.nframes, s.numbers[0]) for s in systems] == [
        (3, 3, 0), (4, 3, 0), (3, 3, 2), (4, 3, 2)
    ]  # fmt: skip
    probabilities = Sampler(
        [s.nframes for s in systems],
        [s.natoms for s in systems],
        auto_prob="prob_sys_size;0:2:0.8;2:3:0.2",
        numbers=[s.numbers for s in systems],
    ).probabilities
    np.testing.assert_allclose(probabilities, [0.4, 0.4, 0.1, 0.1])


def test_other_ways_of_writing(tmp_path: Path) -> None:
    frame = random_frame(3, 0, find_forces=0.0, virial=np.arange(9.0), cells=None)
    frame["find_force"] = 0.0
    path = tmp_path / "y.lmdb"
    raw = {k.encode(): v for k, v in frame.items()}
    for name in (b"coords", b"forces", b"virial", b"atom_types"):
        whole = encoded(raw[name].ravel())
        raw[name] = {k.encode(): v for k, v in whole.items() if k != "shape"}
    about = {"nframes": 1, "frame_idx_fmt": "d", "type_map": ["A", "B"]}
    file = lmdb.open(str(path), map_size=1 << 20, subdir=False)
    with file, file.begin(write=True) as transaction:
        transaction.put(b"__metadata__", msgpack.packb(about))
        transaction.put(b"0", msgpack.packb(raw))
    (system,) = open_systems(str(path))
    batch = system.load([0], LABELS)
    assert not system.periodic
    assert batch.find == {"energy": 1.0, "force": 0.0, "virial": 1.0, "fparam": 0.0}
    assert batch.coord.tolist() == frame["coords"].tolist()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"forces": np.zeros((2, 3))}, "force of frame 0 has 6 numbers, expected 9"),
        ({"coords": np.full((3, 3), np.nan)}, "coord of frame 0 has a NaN"),
        ({"energies": None}, "frame 0 has no energy"),
        ({"atom_types": np.array([0, 1, 7])}, "atom_types: found type 7, but there are 2"),
        ({"atom_types": np.array([-1, -1, -1])}, "frame 0 has no real atom"),
    ],
)
def test_errors_name_the_frame(change: dict, said: str, tmp_path: Path) -> None:
    path = write(tmp_path / "x.lmdb", [random_frame(3, 0, **change)])
    with pytest.raises(DataError, match=rf"x\.lmdb( \(3 atoms\))?: {said}"):
        open_systems(path)[0].load([0], LABELS)


def test_broken_files(tmp_path: Path) -> None:
    frames = [random_frame(3, 0)]
    with pytest.raises(DataError, match="metadata lack"):
        open_systems(write(tmp_path / "a.lmdb", frames, type_map=None))
    with pytest.raises(DataError, match="speak of 2 frames, there are 1"):
        open_systems(write(tmp_path / "b.lmdb", frames, nframes=2))
    two = {"nframes": 2, "frame_nlocs": [3, 3], "frame_idx_fmt": "05d"}
    path = write(tmp_path / "c.lmdb", frames * 2, **two)
    with pytest.raises(DataError, match="frame 0 is missing"):
        open_systems(path)[0].load([1])
    with pytest.raises(DataError, match="frame_nlocs of the metadata is no list of 1"):
        open_systems(write(tmp_path / "f.lmdb", frames, frame_nlocs=[3, 3]))
    with pytest.raises(DataError, match=r"metadata lack .*frame_idx_fmt 999999999d"):
        open_systems(write(tmp_path / "g.lmdb", frames, frame_idx_fmt="999999999d"))
    (tmp_path / "d.lmdb").write_bytes(b"no data base" * 1000)
    with pytest.raises(DataError, match="does not begin as an LMDB file"):
        open_systems(str(tmp_path / "d.lmdb"))
    objects = {**frames[0], "coords": {"type": "O", "shape": [9], "data": b"0" * 72}}
    with pytest.raises(DataError, match="frame 0 cannot be read"):
        open_systems(write(tmp_path / "e.lmdb", [objects]))


def test_labels_of_selected_atoms(make: Callable, tmp_path: Path) -> None:
    """They may be stored for all atoms or for those of some types, in every frame anew."""
    made = make(sets=(4,))
    dipole = np.random.default_rng(1).normal(size=(4, 5, 3))
    some = dipole[:, made.types == 1]
    np.save(Path(made.path) / "set.000/atomic_dipole.npy", some)
    frames = [
        {
            "coords": made.arrays["coord"][k].reshape(-1, 3),
            "cells": made.arrays["box"][k].reshape(3, 3),
            "atom_types": made.types,
            "atomic_dipole": some[k] if k != 2 else dipole[k],
        }
        for k in range(4)
    ]
    other = np.array([1, 0, 0, 0, 1])  # with another number of selected atoms
    frames.append(frames[0] | {"atom_types": other, "atomic_dipole": dipole[0, other == 1]})
    path = write(tmp_path / "x.lmdb", frames)
    label = Label("atomic_dipole", 3, True, sel_type=(0,))
    (folder,), (file,) = (open_systems(p, type_map=["B", "A"]) for p in (made.path, path))
    a, b = folder.load([0, 1, 3], [label]), file.load([0, 1, 3], [label])
    np.testing.assert_array_equal(a.labels["atomic_dipole"], b.labels["atomic_dipole"])
    assert b.find == file.check([label]) == {"atomic_dipole": 1.0}
    rest = file.load([2, 4], [label]).labels["atomic_dipole"].reshape(2, 5, 3)
    np.testing.assert_array_equal(rest[0], dipole[2])
    np.testing.assert_array_equal(rest[1], dipole[0] * (other == 1)[:, None])
    frames[0]["atomic_dipole"] = np.zeros((4, 3))
    (wrong,) = open_systems(write(tmp_path / "y.lmdb", frames))
    with pytest.raises(DataError, match="frame 0 has 12 numbers, expected 15 or 9"):
        wrong.load([0], [Label("atomic_dipole", 3, True, sel_type=(1,))])


def test_reference_water(reference: Path) -> None:
    (system,) = open_systems(str(reference / "data/lmdb/water.lmdb"), type_map=["H", "O"])
    batch = system.load([0, 19], LABELS[:2])
    assert (system.nframes, system.natoms, batch.n_atoms) == (20, 192, 384)
    assert np.bincount(batch.atype).tolist() == [256, 128]
    assert batch.find == {"energy": 1.0, "force": 1.0}


def test_scan_finds_bad_labels_of_some_frames(tmp_path: Path) -> None:
    frames = [random_frame(3, k) for k in range(6)]
    for k in (0, 2, 3):
        del frames[k]["forces"]
    open_systems(write(tmp_path / "good.lmdb", frames))[0].scan(LABELS)
    frames[4]["forces"][1, 1] = np.nan
    (system,) = open_systems(write(tmp_path / "bad.lmdb", frames))
    with pytest.raises(DataError, match=r"force of frame 4 has a NaN or infinite number"):
        system.scan(LABELS)
