# SPDX-License-Identifier: LGPL-3.0-or-later
"""Make frames with synthetic labels for the examples dipole, polar, dos and property.

The labels are NOT results of a quantum-chemical method. They are simple formulas of the positions,
so that a model can learn them from few frames and a wrong one shows:

* dipole.npy, atomic_dipole.npy [e Å]: fixed charges on the atoms of each molecule; the value of a
  molecule is attached to its oxygen, and only oxygen atoms have one.
* polarizability.npy [Å³]: a sum over O-H bonds of tensors along and across the bond that grow with
  its length.
* dos.npy [1/eV]: 32 points from -20 to 0 eV; three levels per molecule, moved by bonds and angle.
* geometry.npy: mean O-H bond length [Å] and mean H-O-H angle [degrees] of the frame.

Run it in this folder: ``python make_synthetic.py``. It takes every ninth frame of data/.
"""

import argparse
from pathlib import Path

import numpy as np

CHARGE_H = 0.42  # e; of water models with fixed charges
ALONG, ACROSS, GROWTH = 0.75, 0.60, 1.5  # Å³, Å³, 1/Å: made up, a molecule has about 1.3 Å³
BOND, ANGLE = 0.96, 104.5  # Å, degrees: where the levels are not moved
GRID = np.linspace(-20.0, 0.0, 32)  # eV
LEVELS = np.array([-14.0, -9.0, -7.0])  # eV
PER_BOND, PER_ANGLE = np.array([-8.0, 2.0, 4.0]), np.array([0.02, -0.05, 0.0])  # eV/Å, eV/degree
WIDTH = 1.0  # eV
EVERY = 9


def dipoles(bonds: np.ndarray) -> np.ndarray:
    """Dipoles of molecules (n_frames, n_molecules, 3) from bonds (…, 2, 3) [Å]."""
    return CHARGE_H * bonds.sum(axis=2)


def polarizabilities(bonds: np.ndarray) -> np.ndarray:
    """Tensors of molecules (n_frames, n_molecules, 3, 3)."""
    length = np.linalg.norm(bonds, axis=-1)[..., None, None]
    unit = bonds[..., None] / length
    tensor = ACROSS * np.eye(3) + (ALONG - ACROSS) * unit * unit.swapaxes(-1, -2)
    return (tensor * (1.0 + GROWTH * (length - BOND))).sum(axis=2)


def shapes(bonds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean bond length [Å] and angle [degrees] of molecules, (n_frames, n_molecules) each."""
    length = np.linalg.norm(bonds, axis=-1)
    cosine = (bonds[:, :, 0] * bonds[:, :, 1]).sum(axis=-1) / length.prod(axis=-1)
    return length.mean(axis=-1), np.degrees(np.arccos(cosine))


def densities(length: np.ndarray, angle: np.ndarray) -> np.ndarray:
    """Density of states of frames (n_frames, n_grid), two states per level."""
    level = LEVELS + PER_BOND * (length - BOND)[..., None] + PER_ANGLE * (angle - ANGLE)[..., None]
    x = (GRID - level[..., None]) / WIDTH
    return (2.0 / (WIDTH * np.sqrt(2 * np.pi)) * np.exp(-0.5 * x**2)).sum(axis=(1, 2))


def labels(coord: np.ndarray) -> dict[str, np.ndarray]:
    """Labels of frames whose molecules are stored whole, as O H H; coord (n_frames, 3 n_atoms)."""
    n = len(coord)
    molecules = coord.reshape(n, -1, 3, 3)
    bonds = molecules[:, :, 1:] - molecules[:, :, :1]
    dipole, (length, angle) = dipoles(bonds), shapes(bonds)
    return {
        "dipole": dipole.sum(axis=1),
        "atomic_dipole": dipole.reshape(n, -1),
        "polarizability": polarizabilities(bonds).sum(axis=1).reshape(n, 9),
        "dos": densities(length, angle),
        "geometry": np.stack([length.mean(axis=1), angle.mean(axis=1)], axis=1),
    }


def write(target: Path, sources: list[Path]) -> None:
    """Write one system made of some frames of others."""
    parts = {}
    for name in ("coord", "box"):
        arrays = [np.load(s / "set.000" / f"{name}.npy")[::EVERY] for s in sources]
        parts[name] = np.concatenate(arrays)
    folder = target / "set.000"
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("type.raw", "type_map.raw"):
        (target / name).write_text((sources[0] / name).read_text())
    for name, array in {**parts, **labels(parts["coord"])}.items():
        np.save(folder / f"{name}.npy", array)


def main() -> None:
    """Write both systems."""
    here = Path(__file__).resolve().parent
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--target", type=Path, default=here / "synthetic", help="where they go")
    target = parser.parse_args().target
    write(target / "train", [here / "data" / f"train_{k}" for k in range(3)])
    write(target / "valid", [here / "data" / "valid_0"])


if __name__ == "__main__":
    main()
