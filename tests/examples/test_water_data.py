# SPDX-License-Identifier: LGPL-3.0-or-later
"""The water data of the example: layout, labels against GFN1-xTB, sign of the virial."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "water"
SYSTEMS = ("train_0", "train_1", "train_2", "valid_0")
N_ATOMS = 66
HAS_TBLITE = all(importlib.util.find_spec(name) for name in ("ase", "tblite"))
needs_tblite = pytest.mark.skipif(not HAS_TBLITE, reason="ase and tblite are not installed")


def load(system: str) -> dict[str, np.ndarray]:
    """Read the arrays of one system."""
    folder = EXAMPLE / "data" / system / "set.000"
    return {path.stem: np.load(path) for path in sorted(folder.glob("*.npy"))}


def to_atoms(system: str, frame: int):
    """Build the ASE atoms of one frame, with the calculator of the labels."""
    ase = pytest.importorskip("ase")
    tblite = pytest.importorskip("tblite.ase")
    arrays = load(system)
    types = np.loadtxt(EXAMPLE / "data" / system / "type.raw", dtype=int)
    return ase.Atoms(
        ["OH"[kind] for kind in types],
        positions=arrays["coord"][frame].reshape(-1, 3),
        cell=arrays["box"][frame].reshape(3, 3),
        pbc=True,
        calculator=tblite.TBLite(method="GFN1-xTB", accuracy=0.01, verbosity=0),
    )


def nearest_images(arrays: dict[str, np.ndarray], frame: int) -> np.ndarray:
    """Return the distances (n_atoms, n_atoms) to the nearest images [Å], diagonal infinite."""
    cell = arrays["box"][frame].reshape(3, 3)
    coord = arrays["coord"][frame].reshape(-1, 3)
    delta = coord[None] - coord[:, None]
    delta -= np.rint(delta @ np.linalg.inv(cell)) @ cell
    distance = np.linalg.norm(delta, axis=-1)
    np.fill_diagonal(distance, np.inf)
    return distance


@pytest.mark.parametrize("system", SYSTEMS)
def test_layout(system):
    folder = EXAMPLE / "data" / system
    assert (folder / "type_map.raw").read_text().split() == ["O", "H"]
    types = np.loadtxt(folder / "type.raw", dtype=int)
    assert np.bincount(types).tolist() == [N_ATOMS // 3, 2 * N_ATOMS // 3]
    assert not (folder / "nopbc").exists()

    arrays = load(system)
    frames = len(arrays["energy"])
    widths = {"coord": 3 * N_ATOMS, "box": 9, "force": 3 * N_ATOMS, "virial": 9}
    assert set(arrays) == {*widths, "energy"}
    assert arrays["energy"].shape == (frames,)
    for name, array in arrays.items():
        assert array.dtype == np.float64, name
        assert np.isfinite(array).all(), name
        assert name == "energy" or array.shape == (frames, widths[name])


def test_amount():
    frames = {system: len(load(system)["energy"]) for system in SYSTEMS}
    assert frames["valid_0"] >= 40
    assert sum(frames.values()) - frames["valid_0"] >= 200
    size = sum(path.stat().st_size for path in (EXAMPLE / "data").rglob("*") if path.is_file())
    assert size < 5e6


@pytest.mark.parametrize("system", SYSTEMS)
def test_frames_are_intact_liquid(system):
    arrays = load(system)
    types = np.loadtxt(EXAMPLE / "data" / system / "type.raw", dtype=int)
    energy = arrays["energy"]
    # 22 molecules at one temperature spread by some tenths of an eV; broken ones by several eV.
    assert np.abs(energy - np.median(energy)).max() < 3.0
    force = arrays["force"].reshape(len(energy), -1, 3)
    assert np.abs(force.sum(axis=1)).max() < 1e-3
    assert np.abs(force).max() < 15.0
    virial = arrays["virial"].reshape(-1, 3, 3)
    np.testing.assert_allclose(virial, virial.transpose(0, 2, 1), atol=1e-8)
    for frame in range(len(energy)):
        distance = nearest_images(arrays, frame)
        bonded = np.sort(distance[np.ix_(types == 0, types == 1)], axis=1)
        assert bonded[:, 0].min() > 0.75
        assert bonded[:, 1].max() < 1.35
        assert distance[np.ix_(types == 0, types == 0)].min() > 2.2


def test_cells_and_frames_differ():
    boxes = np.concatenate([load(system)["box"] for system in SYSTEMS])
    volumes = np.linalg.det(boxes.reshape(-1, 3, 3))
    assert volumes.max() / volumes.min() > 1.1
    off_diagonal = boxes[:, [1, 2, 3, 5, 6, 7]]
    assert np.abs(off_diagonal).max() > 0.2
    coords = np.concatenate([load(system)["coord"] for system in SYSTEMS])
    assert len(np.unique(coords, axis=0)) == len(coords)


@pytest.mark.parametrize("system", SYSTEMS)
def test_virial_follows_the_intramolecular_part(system):
    """The stiff O-H bonds rule the fluctuations of W = sum F r, so their part of it shows the sign.

    The forces on the two hydrogens, times the bond vectors, need no periodic images and no
    calculator; the rest of the virial is a smaller, softer contribution.
    """
    arrays = load(system)
    frames = len(arrays["energy"])
    coord = arrays["coord"].reshape(frames, -1, 3, 3)  # molecules are stored whole, as O H H
    force = arrays["force"].reshape(frames, -1, 3, 3)
    bonds = coord[:, :, 1:] - coord[:, :, :1]
    inner = np.einsum("fmha,fmhb->fab", force[:, :, 1:], bonds)
    stored = arrays["virial"].reshape(frames, 3, 3)
    for row, column in [(0, 0), (1, 1), (2, 2), (0, 1), (1, 2), (0, 2)]:
        both = np.corrcoef(inner[:, row, column], stored[:, row, column])
        assert both[0, 1] > 0.7, (row, column)


@needs_tblite
@pytest.mark.parametrize(("system", "frame"), [("train_0", -1), ("valid_0", 10)])
def test_labels_are_recomputed(system, frame):
    arrays = load(system)
    atoms = to_atoms(system, frame)
    assert atoms.get_potential_energy() == pytest.approx(arrays["energy"][frame], abs=1e-5)
    np.testing.assert_allclose(atoms.get_forces().ravel(), arrays["force"][frame], atol=1e-4)
    virial = -atoms.get_volume() * atoms.get_stress(voigt=False)
    np.testing.assert_allclose(virial.ravel(), arrays["virial"][frame], atol=1e-3)


@needs_tblite
@pytest.mark.parametrize(("row", "column"), [(2, 2), (0, 1)])
def test_virial_is_minus_strain_derivative(row, column):
    step = 5e-4
    energies = []
    for sign in (1, -1):
        atoms = to_atoms("train_1", -1)
        strain = np.eye(3)
        strain[row, column] += sign * step
        atoms.set_cell(atoms.cell[:] @ strain, scale_atoms=True)
        energies.append(atoms.get_potential_energy())
    stored = load("train_1")["virial"][-1].reshape(3, 3)[row, column]
    assert abs(stored) > 0.05  # so that a wrong sign cannot hide
    assert -(energies[0] - energies[1]) / (2 * step) == pytest.approx(stored, abs=5e-3)


def test_input_fits_the_data():
    """The neighbor slots of the input file hold every neighborhood of the data."""
    section = json.loads((EXAMPLE / "se_e2_a" / "input.json").read_text())
    descriptor = section["model"]["descriptor"]
    assert section["model"]["type_map"] == ["O", "H"]
    training = section["training"]
    named = training["training_data"]["systems"] + training["validation_data"]["systems"]
    paths = [(EXAMPLE / "se_e2_a" / name).resolve() for name in named]
    assert paths == [EXAMPLE / "data" / system for system in SYSTEMS]
    most = np.zeros(2, dtype=int)
    for path in paths:
        arrays = load(path.name)
        types = np.loadtxt(path / "type.raw", dtype=int)
        for box, coord in zip(arrays["box"], arrays["coord"], strict=True):
            most = np.maximum(most, count_neighbors(box, coord, types, descriptor["rcut"]))
    assert (most <= descriptor["sel"]).all()


def count_neighbors(box, coord, types, rcut) -> list[int]:
    """Return the largest number of neighbors of each type, all periodic images counted."""
    cell = box.reshape(3, 3)
    fractional = coord.reshape(-1, 3) @ np.linalg.inv(cell)
    wrapped = (fractional - np.floor(fractional)) @ cell
    images = np.stack(np.meshgrid(*[np.arange(-1, 2)] * 3), axis=-1).reshape(-1, 3) @ cell
    delta = wrapped[None, :, None] + images - wrapped[:, None, None]
    squared = (delta**2).sum(-1)
    near = ((squared < rcut**2) & (squared > 1e-8)).sum(-1)
    return [int(near[:, types == kind].sum(1).max()) for kind in (0, 1)]
