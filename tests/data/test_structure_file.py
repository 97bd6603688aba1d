# SPDX-License-Identifier: LGPL-3.0-or-later
"""Files that ASE reads are systems: labels, units, signs, sizes, and the cache."""

import logging
import os
import time
import tracemalloc
from pathlib import Path

import h5py
import numpy as np
import pytest

from deepmd.base.errors import DataError
from deepmd.data import structure_file
from deepmd.data.frames import frames_of
from deepmd.data.search import open_systems
from deepmd.data.split import split
from deepmd.data.writers import write_frames
from deepmd.dpmodel.label import Label

ase_io = pytest.importorskip("ase.io", reason="ase is not installed")
ENERGY = Label("energy", 1, False, required=True)
FORCE = Label("force", 3, True, required=True)
VIRIAL = Label("virial", 9, False)


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def structures(sizes=((2, 1), (1, 2), (3, 3)), *, seed=0, periodic=True):
    """Make structures of O and H with labels of a calculator."""
    from ase import Atoms
    from ase.calculators.singlepoint import SinglePointCalculator

    rng = np.random.default_rng(seed)
    out = []
    for n_o, n_h in sizes:
        n = n_o + n_h
        cell = 6.0 * np.eye(3) + rng.normal(scale=0.3, size=(3, 3))
        grid = np.array([[x, y, z] for x in (0, 2, 4) for y in (0, 2, 4) for z in (0, 2, 4)], float)
        atoms = Atoms(f"O{n_o}H{n_h}", grid[:n] + rng.uniform(0, 0.5, (n, 3)))
        if periodic:
            atoms.cell, atoms.pbc = cell, True
        results = {"energy": rng.normal(), "forces": rng.normal(size=(n, 3))}
        if periodic:
            results["stress"] = rng.normal(size=6)
        atoms.calc = SinglePointCalculator(atoms, **results)
        out.append(atoms)
    return out


def rename(atoms, **names):
    """Move results to other names, in info or arrays."""
    results = atoms.calc.results
    for old, new in names.items():
        target = atoms.arrays if old == "forces" else atoms.info
        target[new] = results[old]
    atoms.calc = None
    return atoms


def test_labels_have_our_units_and_signs():
    """The virial is minus volume times stress, in Voigt's order of ASE or as a matrix."""
    made = structures()
    ase_io.write("a.extxyz", made)
    for atoms, system in zip(
        made[:1], open_systems(["a.extxyz"], type_map=["H", "O"]), strict=False
    ):
        batch = system.load([0], [ENERGY, FORCE, VIRIAL])
        again = ase_io.read("a.extxyz", index=0)  # the file has eight digits
        assert batch.labels["energy"][0, 0] == again.get_potential_energy()
        assert np.array_equal(batch.labels["force"], again.get_forces())
        wanted = -again.get_volume() * again.get_stress(voigt=False)
        np.testing.assert_allclose(batch.labels["virial"].reshape(3, 3), wanted, rtol=1e-14)
        assert np.array_equal(batch.coord, again.positions)
        assert np.array_equal(batch.cell[0], again.cell.array)
        names = np.array(["H", "O"])[batch.atype]
        assert names.tolist() == atoms.get_chemical_symbols()


def test_frames_of_other_sizes_and_orders_are_systems():
    made = structures([(2, 1), (1, 2), (3, 3), (2, 1)])
    ase_io.write("a.extxyz", made)
    systems = open_systems(["a.extxyz"])
    assert [(s.natoms, s.nframes, s.mixed) for s in systems] == [(3, 3, True), (6, 1, False)]
    assert systems[0].count_types(2).tolist() == [[1, 2], [2, 1], [1, 2]]


def test_open_boundaries_and_absent_labels_are_systems_of_their_own(caplog):
    made = structures([(2, 1), (2, 1)]) + structures([(2, 1)], periodic=False)
    made[1].calc.results.pop("forces")
    ase_io.write("a.extxyz", made)
    with caplog.at_level(logging.INFO, logger="deepmd"):
        systems = open_systems(["a.extxyz"])
    assert [s.periodic for s in systems] == [True, True, False]
    found = [s.check([Label("force", 3, True)])["force"] for s in systems]
    assert found == [True, False, True]
    assert "energy from energy, force from forces, virial from stress" in caplog.text
    assert "force is in 2 of 3 frames" in caplog.text


@pytest.mark.parametrize(
    "declared", [None, {"energy": "REF_energy", "force": "REF_forces", "stress": "REF_stress"}]
)
def test_other_names(declared):
    made = [
        rename(a, energy="REF_energy", forces="REF_forces", stress="REF_stress")
        for a in structures()
    ]
    ase_io.write("a.extxyz", made)
    for system in open_systems(["a.extxyz"], keys=declared):
        assert system.check([ENERGY, FORCE, VIRIAL]) == {
            "energy": True,
            "force": True,
            "virial": True,
        }


def test_a_declared_name_wins_and_null_leaves_out():
    made = structures([(2, 1)])
    made[0].info["mine"] = 5.0
    ase_io.write("a.extxyz", made)
    [system] = open_systems(["a.extxyz"], keys={"energy": "mine", "stress": None, "virial": None})
    batch = system.load([0], [ENERGY, VIRIAL])
    assert batch.labels["energy"][0, 0] == 5.0
    assert batch.find == {"energy": 1.0, "virial": 0.0}


def test_two_names_for_one_label_must_agree():
    made = structures([(2, 1)])
    made[0].info["REF_energy"] = 5.0
    ase_io.write("a.extxyz", made)
    with pytest.raises(DataError, match='may be "energy" or "REF_energy", which differ in frame 0'):
        open_systems(["a.extxyz"])
    made[0].info["REF_energy"] = made[0].calc.results["energy"]
    ase_io.write("b.extxyz", made)
    assert len(open_systems(["b.extxyz"])) == 1


def test_virial_and_stress_must_agree():
    made = structures([(2, 1)])
    volume, stress = made[0].get_volume(), made[0].get_stress(voigt=False)
    made[0].info["virial"] = -volume * stress
    ase_io.write("a.extxyz", made)
    assert open_systems(["a.extxyz"])[0].check([VIRIAL])["virial"]
    made[0].info["virial"] = volume * stress
    ase_io.write("b.extxyz", made)
    with pytest.raises(DataError, match='"virial" and "stress" differ in frame 0'):
        open_systems(["b.extxyz"])


def test_other_numbers_keep_their_names():
    """A property is found by the name that the loss asks for."""
    made = structures([(2, 1), (1, 2)])
    for k, atoms in enumerate(made):
        atoms.info["band_gap"] = float(k)
        atoms.info["label"] = f"text {k}"
    ase_io.write("a.extxyz", made)
    [system] = open_systems(["a.extxyz"])
    batch = system.load([0, 1], [Label("band_gap", 1, False)])
    assert batch.labels["band_gap"].ravel().tolist() == [0.0, 1.0]


def test_charge_and_multiplicity():
    made = structures([(2, 1)])
    made[0].info |= {"charge": -1, "multiplicity": 2}
    ase_io.write("a.extxyz", made)
    [system] = open_systems(["a.extxyz"])
    assert system.load([0], [Label("charge_spin", 2, False)]).charge_spin.tolist() == [[-1.0, 2.0]]


def test_constraints_leave_forces_alone():
    from ase.constraints import FixAtoms

    made = structures([(2, 1)])
    made[0].set_constraint(FixAtoms([0]))
    ase_io.write("a.traj", made)
    [system] = open_systems(["a.traj"])
    forces = system.load([0], [FORCE]).labels["force"]
    assert np.array_equal(forces, made[0].calc.results["forces"])


def test_the_cache_is_keyed_by_content(monkeypatch):
    made = structures()
    ase_io.write("a.extxyz", made)
    first = open_systems(["a.extxyz"])
    calls = []
    read = structure_file._read
    monkeypatch.setattr(structure_file, "_read", lambda path: calls.append(path) or read(path))
    again = open_systems(["a.extxyz"])
    assert not calls
    for one, two in zip(first, again, strict=True):
        assert np.array_equal(one.load([0]).coord, two.load([0]).coord)
    open_systems(["a.extxyz"], keys={"energy": "energy"})
    assert len(calls) == 1
    ase_io.write("a.extxyz", structures(seed=1))
    changed = open_systems(["a.extxyz"])
    assert len(calls) == 2
    assert not np.array_equal(changed[0].load([0]).coord, first[0].load([0]).coord)


def test_a_damaged_cache_is_made_anew(tmp_path):
    ase_io.write("a.extxyz", structures())
    open_systems(["a.extxyz"])
    [cache] = (tmp_path / "data_cache").glob("*.hdf5")
    cache.write_bytes(cache.read_bytes()[:100])
    assert len(open_systems(["a.extxyz"])) == 2


def test_a_folder_that_may_not_be_written(tmp_path, caplog):
    ase_io.write("a.extxyz", structures())
    (tmp_path / "data_cache").write_text("in the way")
    assert len(open_systems(["a.extxyz"])) == 2
    assert "the file will be read again" in caplog.text


def test_folders_and_mixed_lists(make):
    """Every kind of data set in one list, and files found in a folder."""
    ase_io.write("files.extxyz", structures())
    frames = frames_of(open_systems(["files.extxyz"]))
    write_frames(frames, "npy")
    write_frames(frames, "mixed", "mixed")
    write_frames(frames, "h.hdf5")
    kinds = ["files.extxyz", "npy", "mixed", "h.hdf5"]
    try:
        write_frames(frames, "l.lmdb")
        kinds.append("l.lmdb")
    except DataError:
        pass
    systems = open_systems(kinds, type_map=["O", "H"])
    assert sum(s.nframes for s in systems) == 3 * len(kinds)
    energies = np.sort(
        [s.load([k], [ENERGY]).labels["energy"][0, 0] for s in systems for k in range(s.nframes)]
    )
    assert np.array_equal(energies, np.repeat(energies[:: len(kinds)], len(kinds)))
    numbers = {s.numbers for s in systems if s.path.startswith("files")}
    assert numbers == {(0, 0)}


def test_files_in_a_folder(tmp_path):
    (tmp_path / "d" / "deep").mkdir(parents=True)
    ase_io.write("d/a.extxyz", structures([(2, 1)]))
    ase_io.write("d/deep/b.extxyz", structures([(2, 1)], seed=1))
    (tmp_path / "d" / "notes.txt").write_text("no data")
    assert [s.path for s in open_systems(["d"])] == ["d/a.extxyz", "d/deep/b.extxyz"]
    assert [s.path for s in open_systems(["d"], patterns=["deep/*"])] == ["d/deep/b.extxyz"]


def test_types_of_hdf5_are_numbers():
    """dpdata, and dpgen with it, compares them with numbers."""
    ase_io.write("a.extxyz", structures([(2, 1)]))
    write_frames(frames_of(open_systems(["a.extxyz"])), "b.hdf5", "hdf5")
    with h5py.File("b.hdf5") as file:
        [group] = file.values()
        assert group["type.raw"].dtype.kind == "i"
        assert group["type.raw"].shape == (3,)


@pytest.mark.parametrize("kind", ["npy", "mixed", "hdf5", "lmdb", "extxyz"])
def test_conversion_keeps_every_number(kind):
    """Positions, cells and labels are the same to the last bit."""
    if kind == "lmdb":
        pytest.importorskip("lmdb", reason="lmdb is not installed")
    ase_io.write("a.extxyz", structures([(2, 1), (1, 2), (3, 3), (2, 1)]))
    frames = frames_of(open_systems(["a.extxyz"]))
    rng = np.random.default_rng(5)
    for frame in frames.frames:
        n = len(frame.types)
        frame.labels |= {"fparam": rng.normal(size=2), "atom_ener": rng.normal(size=n)}
        frame.labels |= {"spin": rng.normal(size=3 * n), "virial": rng.normal(size=9)}
        frame.coord = frame.coord + 1e-9 * rng.normal(size=(n, 3))
    for name, size in (("fparam", 2), ("atom_ener", 1), ("spin", 3)):
        frames.labels[name] = Label(name, size, name != "fparam")
    target = {"hdf5": "b.hdf5", "lmdb": "b.lmdb", "extxyz": "b.extxyz"}.get(kind, "b")
    write_frames(frames, target, kind)
    back = frames_of(open_systems([target]))
    known = {f.coord.tobytes(): f for f in back.frames}
    assert len(known) == len(frames.frames)
    for frame in frames.frames:
        other = known[frame.coord.tobytes()]
        assert [frames.names[t] for t in frame.types] == [back.names[t] for t in other.types]
        assert np.array_equal(frame.cell, other.cell)
        assert set(frame.labels) == set(other.labels)
        for name, values in frame.labels.items():
            assert np.array_equal(values, other.labels[name]), name


@pytest.mark.parametrize("by", ["frame", "composition", "similarity"])
def test_split(by):
    """Parts have the sizes asked for, and nothing twice; what is alike stays together."""
    made = structures([(2, 1)] * 6 + [(1, 2)] * 6 + [(1, 1)] * 6 + [(3, 3)] * 6)
    made += [a.copy() for a in made[:12]]  # exact copies
    for k, atoms in enumerate(made):
        atoms.calc = None
        atoms.info["energy"] = float(k)
    ase_io.write("a.extxyz", made)
    frames = frames_of(open_systems(["a.extxyz"]))
    parts = split(frames, (0.75, 0.25), by, seed=3)
    assert sorted(np.concatenate(parts).tolist()) == list(range(36))
    assert abs(len(parts[1]) - 9) <= (0 if by == "frame" else 6)
    if by == "composition":
        formulas = [{frames.formula(frames.frames[k]) for k in part} for part in parts]
        assert not formulas[0] & formulas[1]
    if by == "similarity":
        places = [{frames.frames[k].coord.tobytes() for k in part} for part in parts]
        assert not places[0] & places[1]


def test_a_large_cache_loses_what_was_not_used(tmp_path, monkeypatch):
    folder = tmp_path / "data_cache"
    folder.mkdir()
    now = time.time()
    for k, days in enumerate((5, 4, 3, 0)):
        (folder / f"{k}.hdf5").write_bytes(bytes(100))
        os.utime(folder / f"{k}.hdf5", (now - 86400 * days,) * 2)
    (folder / "notes.txt").write_bytes(bytes(1000))
    monkeypatch.setattr(structure_file, "_MOST_BYTES", 250)
    structure_file.clean(folder)
    assert sorted(p.name for p in folder.iterdir()) == ["2.hdf5", "3.hdf5", "notes.txt"]
    monkeypatch.setattr(structure_file, "_MOST_BYTES", 10)
    structure_file.clean(folder)  # what was used within a day stays
    assert sorted(p.name for p in folder.iterdir()) == ["3.hdf5", "notes.txt"]


def test_use_keeps_a_file_of_the_cache_young(monkeypatch):
    ase_io.write("a.extxyz", structures())
    open_systems(["a.extxyz"])
    [file] = Path("data_cache").iterdir()
    os.utime(file, (0, 0))
    monkeypatch.setattr(structure_file, "_MOST_BYTES", 1)
    open_systems(["a.extxyz"])
    structure_file.clean(file.parent)
    assert file.exists()


@pytest.mark.parametrize("kind", ["npy", "mixed", "hdf5", "lmdb", "extxyz"])
def test_streams_write_the_same(tmp_path, monkeypatch, kind):
    """Frames that are read a few at a time give the files of those that are all in memory."""
    if kind == "lmdb":
        pytest.importorskip("lmdb")
        pytest.importorskip("msgpack")
    sizes = [(2, 1), (1, 2), (3, 3), (2, 1), (1, 2)] * 3
    ase_io.write("a.extxyz", structures(sizes))
    ase_io.write("b.extxyz", structures(sizes[:4], seed=1, periodic=False))
    systems = open_systems(["a.extxyz", "b.extxyz"])
    write_frames(frames_of(systems), "whole", kind)
    monkeypatch.setattr("deepmd.data.frames._CHUNK", 2)
    monkeypatch.setattr("deepmd.data.writers._COMMIT", 3)
    write_frames(frames_of(systems, lazy=True), "stream", kind)
    if kind in ("hdf5", "lmdb"):
        # These files hold addresses and free pages: their frames are compared.
        for name in ("whole", "stream"):
            Path(name).rename(f"{name}.{kind}")
        whole, stream = (frames_of(open_systems([f"{n}.{kind}"])) for n in ("whole", "stream"))
        assert len(whole.frames) == len(stream.frames) == 19
        for one, other in zip(whole.frames, stream.frames, strict=True):
            np.testing.assert_array_equal(one.coord, other.coord)
            np.testing.assert_array_equal(one.labels["force"], other.labels["force"])
        return
    files = [p for p in Path("whole").rglob("*") if p.is_file()] or [Path("whole")]
    for file in files:
        other = Path("stream") / file.relative_to("whole") if file.name != "whole" else "stream"
        assert file.read_bytes() == Path(other).read_bytes(), file


def test_memory_of_a_conversion_does_not_grow_with_the_frames(tmp_path, monkeypatch):
    """4,000 frames of 30 atoms, 5.8 MB of positions and forces."""
    natoms, count = 30, 4000
    rng = np.random.default_rng(0)
    folder = tmp_path / "a/set.000"
    folder.mkdir(parents=True)
    (tmp_path / "a/type.raw").write_text("0\n" * natoms)
    (tmp_path / "a/type_map.raw").write_text("Cu\n")
    for name, size in (("coord", 3 * natoms), ("force", 3 * natoms), ("box", 9), ("energy", 1)):
        np.save(folder / f"{name}.npy", rng.normal(size=(count, size)))
    np.save(folder / "box.npy", np.tile(20.0 * np.eye(3).ravel(), (count, 1)))
    monkeypatch.setattr("deepmd.data.frames._CHUNK", 100)
    systems = open_systems(["a"])
    frames_of(systems, most=1)  # what is loaded once
    tracemalloc.start()
    write_frames(frames_of(systems, lazy=True), "out")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2.5e6
    assert frames_of(open_systems(["out"]), most=5).frames[4].labels["energy"].shape == (1,)
