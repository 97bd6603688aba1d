# SPDX-License-Identifier: LGPL-3.0-or-later
"""Systems in every storage and layout give the numbers that were written."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import COMPACT

from deepmd.data.search import expand_systems, open_systems
from deepmd.data.system import System
from deepmd.dpmodel.label import Label

ENERGY = Label("energy", 1, atomic=False, required=True, high_precision=True)
FORCE = Label("force", 3, atomic=True, required=True)
VIRIAL = Label("virial", 9, atomic=False)


@pytest.mark.parametrize("hdf5", [None, "all.hdf5"])
@pytest.mark.parametrize("dtype", ["f4", "f8", ">f8"])
@pytest.mark.parametrize("shaped", [False, True])
def test_frames_of_several_sets_in_any_order(make: Callable, hdf5, dtype, shaped) -> None:
    made = make(sets=(4, 3, 2), dtype=dtype, shaped=shaped, hdf5=hdf5)
    system = System(made.path)
    assert (system.nframes, system.natoms, system.periodic) == (9, 5, True)
    frames = [8, 0, 5, 4, 5]
    b = system.load(frames, [ENERGY, FORCE, VIRIAL])
    np.testing.assert_array_equal(b.coord, made.arrays["coord"][frames].reshape(-1, 3))
    np.testing.assert_array_equal(b.cell, made.arrays["box"][frames].reshape(-1, 3, 3))
    np.testing.assert_array_equal(b.labels["energy"][:, 0], made.arrays["energy"][frames])
    np.testing.assert_array_equal(b.labels["force"], made.arrays["force"][frames].reshape(-1, 3))
    assert b.find == {"energy": 1.0, "force": 1.0, "virial": 0.0}
    assert b.labels["virial"].shape == (5, 9)
    assert not b.labels["virial"].any()
    assert all(a.dtype == np.float64 for a in (b.coord, b.cell, *b.labels.values()))
    np.testing.assert_array_equal(b.atype, np.tile(made.types, 5))
    np.testing.assert_array_equal(b.frame, np.repeat(np.arange(5), 5))
    assert b.periodic.all()


def test_sets_come_in_name_order(make: Callable) -> None:
    made = make(sets=(2, 2))
    root = Path(made.path)
    (root / "set.000").rename(root / "set.010")
    first = System(made.path).load([0]).coord
    np.testing.assert_array_equal(first.ravel(), made.arrays["coord"][2])


def test_types_on_one_line_and_renumbering(make: Callable) -> None:
    made = make(names=("B", "A"))
    (Path(made.path) / "type.raw").write_text("0 1 1 0 1")
    assert System(made.path).atype.tolist() == [0, 1, 1, 0, 1]
    system = System(made.path, type_map=["A", "X", "B"])
    assert system.atype.tolist() == [2, 0, 0, 2, 0]
    assert system.type_map == ["A", "X", "B"]
    assert system.count_types(3).tolist() == [[3, 0, 2]]


def test_without_type_map_raw_numbers_are_used_as_they_are(make: Callable) -> None:
    system = System(make(names=None).path, type_map=["A", "B"])
    assert system.atype.tolist() == [0, 1, 1, 0, 1]


def test_open_boundaries_ignore_the_box(make: Callable) -> None:
    made = make()
    (Path(made.path) / "nopbc").touch()
    b = System(made.path).load([0, 1])
    assert not b.periodic.any()
    assert not b.cell.any()


def test_zero_box_means_open(make: Callable) -> None:
    made = make()
    box = made.arrays["box"].copy()
    box[1] = 0
    np.save(Path(made.path) / "set.000/box.npy", box)
    assert System(made.path).load([0, 1, 2]).periodic.tolist() == [True, False, True]


def test_one_dimensional_single_frame(make: Callable) -> None:
    made = make(sets=(1,))
    for name in ("coord", "box", "force", "energy"):
        np.save(Path(made.path) / f"set.000/{name}.npy", made.arrays[name].ravel())
    b = System(made.path).load([0], [ENERGY, FORCE])
    np.testing.assert_array_equal(b.coord.ravel(), made.arrays["coord"][0])
    np.testing.assert_array_equal(b.labels["force"].ravel(), made.arrays["force"][0])


def test_labels_flat_fortran_and_integer(make: Callable) -> None:
    made = make()
    folder = Path(made.path) / "set.000"
    np.save(folder / "force.npy", made.arrays["force"].ravel())
    np.save(folder / "coord.npy", np.asfortranarray(made.arrays["coord"]))
    np.save(folder / "energy.npy", np.arange(4))
    b = System(made.path).load([2, 1], [ENERGY, FORCE])
    np.testing.assert_array_equal(b.coord, made.arrays["coord"][[2, 1]].reshape(-1, 3))
    np.testing.assert_array_equal(b.labels["force"], made.arrays["force"][[2, 1]].reshape(-1, 3))
    assert b.labels["energy"].tolist() == [[2.0], [1.0]]


@pytest.mark.parametrize("stored", ["atom_dipole", "atomic_dipole"])
@pytest.mark.parametrize("asked", ["atom_dipole", "atomic_dipole"])
def test_atom_and_atomic_are_one_name(make: Callable, stored: str, asked: str) -> None:
    made = make()
    np.save(Path(made.path) / f"set.000/{stored}.npy", made.arrays["force"])
    b = System(made.path).load([1], [Label(asked, 3, atomic=True)])
    np.testing.assert_array_equal(b.labels[asked].ravel(), made.arrays["force"][1])
    assert b.find[asked] == 1.0


def test_label_of_selected_types_is_scattered(make: Callable) -> None:
    made = make(types=(0, 1, 1, 0, 1))
    values = np.arange(4 * 2 * 3, dtype=float).reshape(4, 2, 3) + 1
    np.save(Path(made.path) / "set.000/atomic_dipole.npy", values)
    label = Label("atom_dipole", 3, atomic=True, sel_type=(0,))
    got = System(made.path).load([3], [label]).labels["atom_dipole"]
    np.testing.assert_array_equal(got[[0, 3]], values[3])
    assert not got[[1, 2, 4]].any()


def test_parameters_defaults_and_hessian(make: Callable) -> None:
    made = make()
    folder = Path(made.path) / "set.000"
    np.save(folder / "fparam.npy", np.arange(8.0).reshape(4, 2))
    np.save(folder / "aparam.npy", np.arange(20.0).reshape(4, 5))
    np.save(folder / "hessian.npy", np.arange(4 * 225.0).reshape(4, 225))
    b = System(made.path).load(
        [3, 1],
        [
            Label("fparam", 2, atomic=False, required=True),
            Label("aparam", 1, atomic=True),
            Label("hessian", 9, atomic=False, pairwise=True),
            Label("atom_pref", 1, atomic=True, default=1.0),
            Label("charge_spin", 2, atomic=False, default=(0.0, 1.0)),
        ],
    )
    assert b.fparam.tolist() == [[6, 7], [2, 3]]
    assert b.aparam[:, 0].tolist() == [15, 16, 17, 18, 19, 5, 6, 7, 8, 9]
    # Frame 3 first; the three rows of an atom lie side by side.
    assert b.labels["hessian"].shape == (10, 45)
    assert b.labels["hessian"][[0, 1, 5], 0].tolist() == [675.0, 720.0, 225.0]
    assert (b.labels["atom_pref"] == 1).all()
    assert b.charge_spin.tolist() == [[0, 1], [0, 1]]
    assert (b.find["atom_pref"], b.find["aparam"]) == (0.0, 1.0)


def mixed(make: Callable) -> tuple[System, np.ndarray, np.ndarray]:
    made = make(types=(0, 0, 0, 0), names=("B", "A"))
    types = np.array([[0, 1, 0, 1], [1, -1, 0, -1], [0, 0, 0, 0], [-1, 1, 1, 1]])
    np.save(Path(made.path) / "set.000/real_atom_types.npy", types.astype("i4"))
    return System(made.path, type_map=["A", "B"]), types, made.arrays["coord"].reshape(4, 4, 3)


def test_mixed_types_drop_padding(make: Callable) -> None:
    system, types, coord = mixed(make)
    frames = [3, 1, 0]
    b = system.load(frames, [FORCE, ENERGY])
    assert b.natoms.tolist() == [3, 2, 4]
    real = types[frames] >= 0
    np.testing.assert_array_equal(b.coord, coord[frames][real])
    np.testing.assert_array_equal(b.atype, np.array([1, 0])[types[frames][real]])
    assert b.frame.tolist() == [0, 0, 0, 1, 1, 2, 2, 2, 2]
    assert len(b.labels["force"]) == 9
    assert system.count_types(2).tolist() == [[2, 2], [1, 1], [0, 4], [3, 0]]


def test_search(make: Callable, tmp_path: Path) -> None:
    for name in ("data/b/x", "data/a", "data/b/y"):
        make(name)
    make("g/one", hdf5="data.h5")
    make("two", hdf5="data.h5")
    (tmp_path / "data" / "loop").symlink_to(tmp_path / "data")
    top, h5 = str(tmp_path / "data"), str(tmp_path / "data.h5")
    everything = [f"{top}/a", f"{top}/b/x", f"{top}/b/y"]
    assert expand_systems(top) == everything
    assert expand_systems([f"{top}/b/y", top]) == [f"{top}/b/y", *everything]
    assert expand_systems(top, ["b/*", "zzz"]) == everything[1:]
    assert expand_systems(h5) == [f"{h5}#/g/one", f"{h5}#/two"]
    assert expand_systems(f"{h5}#/g") == [f"{h5}#/g/one"]
    assert expand_systems(f"{h5}#/", ["g/*"]) == [f"{h5}#/g/one"]
    assert [s.nframes for s in open_systems([top, h5])] == [4] * 5


def test_opening_reads_no_frames(make: Callable) -> None:
    """A data set costs nothing at start: label files need not even be valid."""
    made = make()
    (Path(made.path) / "set.000/force.npy").write_text("nonsense")
    assert System(made.path).load([0], [ENERGY]).find["energy"] == 1.0


def test_many_files_do_not_exhaust_descriptors(make: Callable) -> None:
    from deepmd.data.path import _memory_map

    for k in range(60):
        System(make(f"s{k}").path).load([0], [ENERGY, FORCE])
    info = _memory_map.cache_info()
    assert info.currsize <= info.maxsize <= 256


WATER = ["water/train_0", "water/train_1", "water/valid_0", "nopbc/C1H4O2", "nopbc/C4H3O1"]


@pytest.mark.parametrize("name", WATER)
def test_reference_numpy(reference: Path, name: str) -> None:
    root = reference / "data" / name
    system = System(str(root))
    b = system.load(np.arange(system.nframes), [ENERGY, FORCE])
    for key, got in [("coord", b.coord), ("force", b.labels["force"]), ("energy", None)]:
        want = np.concatenate([np.load(f) for f in sorted(root.glob(f"set.*/{key}.npy"))])
        got = b.labels["energy"] if got is None else got
        np.testing.assert_array_equal(got.ravel(), want.astype("f8").ravel())
    assert b.periodic.all() == (not name.startswith("nopbc"))


def test_reference_hdf5(reference: Path) -> None:
    systems = open_systems(str(reference / "data/hdf5/water.hdf5"), type_map=["H", "O"])
    assert [(s.nframes, s.natoms) for s in systems] == [(4, 192), (3, 192)]
    assert systems[0].count_types(2).tolist() == [[128, 64]]
    b = systems[1].load([2, 0], [ENERGY, FORCE])
    assert b.find["force"] == 1.0
    assert np.abs(b.labels["force"]).max() > 0.1


def test_reference_mixed(reference: Path) -> None:
    shuffled, padded = (
        System(str(reference / "data/mixed_type" / n))
        for n in ("water_shuffled", "molecules_padded_nopbc")
    )
    assert (shuffled.count_types(2) == [64, 128]).all()
    b = padded.load(np.arange(padded.nframes), [ENERGY, FORCE])
    raw = np.load(reference / "data/mixed_type/molecules_padded_nopbc/set.000/real_atom_types.npy")
    assert b.n_atoms == (raw >= 0).sum() < raw.size
    assert np.abs(b.labels["force"]).sum(axis=1).min() > 0


def test_reference_parameters_and_selected_labels(reference: Path) -> None:
    labels = [Label("fparam", 1, atomic=False), Label("aparam", 1, atomic=True)]
    for system in open_systems(str(reference / "data/fparam_aparam")):
        b = system.load([0, system.nframes - 1], labels)
        assert b.fparam.shape == (2, 1)
        assert b.aparam.shape == (2 * system.natoms, 1)
        assert (b.aparam > 0).all()
    dipole = Label("atomic_dipole", 3, atomic=True, sel_type=(0,))
    b = System(str(reference / "data/dplr_water")).load([1], [dipole])
    assert (np.abs(b.labels["atomic_dipole"]).sum(axis=1) > 0).sum() == (b.atype == 0).sum()


def test_reference_every_system_opens(reference: Path) -> None:
    folders = [p for p in (reference / "data").iterdir() if p.name != "tables"]
    systems = open_systems([str(p) for p in folders if p.name != "hdf5"])
    assert len(systems) > (12 if reference == COMPACT else 15)
    for system in systems:
        system.load([system.nframes - 1], [VIRIAL])
