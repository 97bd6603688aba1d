# SPDX-License-Identifier: LGPL-3.0-or-later
"""Make clusters with synthetic labels for the examples dipole, polar, dos, property, population, hessian.

The labels are NOT results of a quantum-chemical method. They are simple formulas of the positions,
so that a model can learn them from few frames and a wrong one shows:

* dipole.npy, atomic_dipole.npy [e Å]: fixed charges on the atoms of each molecule; the value of a
  molecule is attached to its oxygen, and only oxygen atoms have one.
* polarizability.npy [Å³]: a sum over O-H bonds of tensors along the bond that grow with its length.
* dos.npy [1/eV]: 24 points from -20 to 0 eV; three levels per molecule, moved by bonds and angle.
* atomic_population.npy: electrons of α and of β spin of every atom; charges that grow with the length
  of the bonds, and a spin of oxygen that grows with the angle.
* geometry.npy: mean O-H bond length [Å] and mean H-O-H angle [degrees] of the frame.

Single molecules get energy.npy [eV], force.npy [eV/Å] and hessian.npy [eV/Å²] of three springs. Pairs of
molecules get the sum of both, or in every second frame of the first, and aparam.npy, which hides the other.

Run it in this folder: ``python make_synthetic.py``. From every second frame of data/ it cuts one
molecule out, with its three nearest neighbors; the clusters have open boundaries.
"""

import argparse
from pathlib import Path

import numpy as np

CHARGE_H = 0.42  # e; of water models with fixed charges
ALONG, GROWTH = 0.75, 1.5  # Å³, 1/Å: made up
BOND, ANGLE = 0.96, 104.5  # Å, degrees: where the levels are not moved
GRID = np.linspace(-20.0, 0.0, 24)  # eV
LEVELS = np.array([-14.0, -9.0, -7.0])  # eV
PER_BOND, PER_ANGLE = np.array([-8.0, 2.0, 4.0]), np.array([0.02, -0.05, 0.0])  # eV/Å, eV/degree
WIDTH = 1.0  # eV
TRANSFER, TWIST = 0.5, 0.01  # electrons per Å of a bond and per degree of the angle: made up
EVERY, N_MOLECULES = 2, 4
#: Atoms of a molecule between which there is a spring, its constant [eV/Å²] and length [Å].
SPRINGS = ((0, 1, 50.0, 0.96), (0, 2, 50.0, 0.96), (1, 2, 15.0, 1.52))


def dipoles(bonds: np.ndarray) -> np.ndarray:
    """Dipoles of molecules (n_frames, n_molecules, 3) from bonds (…, 2, 3) [Å]."""
    return CHARGE_H * bonds.sum(axis=2)


def polarizabilities(bonds: np.ndarray) -> np.ndarray:
    """Tensors of molecules (n_frames, n_molecules, 3, 3)."""
    length = np.linalg.norm(bonds, axis=-1)[..., None, None]
    unit = bonds[..., None] / length
    tensor = ALONG * unit * unit.swapaxes(-1, -2)
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


def populations(bonds: np.ndarray) -> np.ndarray:
    """Electrons of α and of β spin of the atoms O H H, (n_frames, n_molecules, 3, 2)."""
    given = CHARGE_H + TRANSFER * (np.linalg.norm(bonds, axis=-1) - BOND)
    oxygen = 6.0 + given.sum(axis=-1, keepdims=True)
    electrons = np.concatenate([oxygen, 1.0 - given], axis=-1)
    spin = np.zeros_like(electrons)
    spin[..., 0] = TWIST * (shapes(bonds)[1] - ANGLE)
    return 0.5 * np.stack([electrons + spin, electrons - spin], axis=-1)


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
        "atomic_population": populations(bonds).reshape(n, -1),
        "geometry": np.stack([length.mean(axis=1), angle.mean(axis=1)], axis=1),
    }


def springs(coord: np.ndarray) -> dict[str, np.ndarray]:
    """Energy and derivatives of single molecules O H H; coord (n_frames, 9)."""
    n = len(coord)
    energy, force, hessian = np.zeros(n), np.zeros((n, 3, 3)), np.zeros((n, 3, 3, 3, 3))
    for i, j, k, rest in SPRINGS:
        d = coord.reshape(n, 3, 3)[:, j] - coord.reshape(n, 3, 3)[:, i]
        r = np.linalg.norm(d, axis=1)
        u, pull = d / r[:, None], k * (r - rest)
        along = u[:, :, None] * u[:, None, :]
        across = np.eye(3) - along
        block = k * along + (pull / r)[:, None, None] * across
        energy += 0.5 * k * (r - rest) ** 2
        for a, sign in ((i, 1.0), (j, -1.0)):
            force[:, a] += sign * pull[:, None] * u
            hessian[:, a, :, a] += block
        hessian[:, i, :, j] -= block
        hessian[:, j, :, i] -= block
    return {
        "energy": energy,
        "force": force.reshape(n, 9),
        "hessian": hessian.reshape(n, 81).astype(np.float32),
    }


def clusters(coord: np.ndarray, box: np.ndarray) -> np.ndarray:
    """Cut one cluster out of every frame: (n_frames, 3 n_atoms) [Å], from molecule k of frame k."""
    found = []
    for k, (frame, cell) in enumerate(zip(coord.reshape(len(coord), -1, 3, 3), box, strict=True)):
        cell = cell.reshape(3, 3)
        delta = frame[:, 0] - frame[k % len(frame), 0]
        image = -np.rint(delta @ np.linalg.inv(cell)) @ cell
        nearest = np.argsort(np.linalg.norm(delta + image, axis=1))[:N_MOLECULES]
        found.append((frame + image[:, None])[nearest].reshape(-1))
    return np.array(found)


def write(target: Path, sources: list[Path]) -> None:
    """Write one system of clusters, and one of molecules from every second of them."""
    parts = {}
    for name in ("coord", "box"):
        arrays = [np.load(s / "set.000" / f"{name}.npy")[::EVERY] for s in sources]
        parts[name] = np.concatenate(arrays)
    coord = clusters(**parts)
    write_system(target, {"coord": coord, **labels(coord)})
    molecules = coord[::2, :9]
    alone = target.with_name(f"molecules_{target.name}")
    write_system(alone, {"coord": molecules, **springs(molecules)})
    pairs = coord[::4, :18]
    write_system(target.with_name(f"masked_{target.name}"), {"coord": pairs, **masked(pairs)})


def masked(coord: np.ndarray) -> dict[str, np.ndarray]:
    """Energies of pairs of molecules (n_frames, 18), of which the second is hidden in odd frames."""
    first, second = springs(coord[:, :9]), springs(coord[:, 9:])
    shown = 1.0 - np.arange(len(coord)) % 2
    return {
        "energy": first["energy"] + shown * second["energy"],
        "force": np.hstack([first["force"], shown[:, None] * second["force"]]),
        "aparam": np.repeat(np.stack([0.0 * shown + 1.0, shown], axis=1), 3, axis=1),
    }


def write_system(target: Path, arrays: dict[str, np.ndarray]) -> None:
    """Write molecules O H H with open boundaries."""
    folder = target / "set.000"
    folder.mkdir(parents=True, exist_ok=True)
    count = arrays["coord"].shape[1] // 9
    (target / "type.raw").write_text(" ".join(["0 1 1"] * count) + "\n")
    (target / "type_map.raw").write_text("O\nH\n")
    (target / "nopbc").write_text("")
    for name, array in arrays.items():
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
