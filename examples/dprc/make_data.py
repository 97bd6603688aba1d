# SPDX-License-Identifier: LGPL-3.0-or-later
"""Write data/: one molecule of the quantum region in seven of force-field water, with corrections.

The positions are cut out of ../water/data: a molecule and its nearest neighbors, with open
boundaries. The labels are formulas, not results of calculations, so that a model can learn them from
few frames and a wrong one shows. They stand for the difference of two quantum methods, of which one is
accurate and the other fast: springs between the atoms of the molecule, and a pair potential between it
and the water. Water does not act on itself: the force field has that.

* energy.npy [eV], force.npy [eV/Å];
* drdq.npy: displacements of the atoms per unit of two generalized coordinates, the lengths of the
  molecule's bonds [Å], so that training can fit the forces along them;
* aparam.npy: the region of every atom, for pairwise.json: 0 for the molecule, 1, 2, … for the water.
"""

import shutil
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
SYSTEMS = {"train_0": 0, "train_1": 1, "train_2": 2, "valid_0": 3}
TYPE_MAP = ["O", "H", "OW", "HW"]  # quantum region, then water
N_WATER = 7
#: Springs of the correction between atoms of the molecule: constant [eV/Å²] and length [Å].
SPRINGS = ((0, 1, 8.0, 0.99), (0, 2, 8.0, 0.99), (1, 2, 2.0, 1.55))
RANGE = 4.5  # Å
#: Strength [eV] of pairs of the molecule and the water, by O and H.
STRENGTH = np.array([[0.9, -0.5], [-0.7, 0.4]])


def nearest_image(d: np.ndarray, box: np.ndarray) -> np.ndarray:
    """Vectors (n_frames, n, m, 3) to the nearest image, for cells (n_frames, 3, 3)."""
    images = np.round(np.einsum("fmka,fab->fmkb", d, np.linalg.inv(box)))
    return d - np.einsum("fmka,fab->fmkb", images, box)


def clusters(coord: np.ndarray, box: np.ndarray, first: int) -> np.ndarray:
    """Molecule ``first`` of every frame, at the origin, and its neighbors; atoms as O H H, …"""
    molecules = coord.reshape(len(coord), -1, 3, 3)
    oxygen = molecules[:, :, :1]
    places = nearest_image(oxygen - oxygen[:, first : first + 1], box)
    whole = places + nearest_image(molecules - oxygen, box)
    distance = np.linalg.norm(places[:, :, 0], axis=-1)
    near = np.argsort(distance, axis=1, kind="stable")[:, : N_WATER + 1]
    return np.take_along_axis(whole, near[:, :, None, None], axis=1).reshape(len(coord), -1, 3)


def correction(coord: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Energy (n_frames,) and forces (n_frames, n_atoms, 3) of frames (n_frames, n_atoms, 3)."""
    energy, force = np.zeros(len(coord)), np.zeros_like(coord)

    def add(i: int, j: int, pair_energy: np.ndarray, slope: np.ndarray, d: np.ndarray) -> None:
        """Energies of a pair and their derivatives by the distance over the distance."""
        nonlocal energy
        energy = energy + pair_energy
        force[:, i] += slope[:, None] * d
        force[:, j] -= slope[:, None] * d

    for i, j, k, rest in SPRINGS:
        d = coord[:, j] - coord[:, i]
        r = np.linalg.norm(d, axis=1)
        add(i, j, 0.5 * k * (r - rest) ** 2, k * (r - rest) / r, d)
    for i in range(3):
        for j in range(3, coord.shape[1]):
            strength = STRENGTH[min(i, 1), min(j % 3, 1)]
            d = coord[:, j] - coord[:, i]
            x = np.minimum((d**2).sum(axis=1) / RANGE**2, 1.0)
            add(i, j, strength * (1 - x) ** 3, -6 / RANGE**2 * strength * (1 - x) ** 2, d)
    return energy, force


def displacements(coord: np.ndarray) -> np.ndarray:
    """dr/dq (n_frames, n_atoms, 3, 2) of the bond lengths: the pseudo-inverse of dq/dr."""
    slopes = np.zeros((len(coord), 2, *coord.shape[1:]))
    for q in range(2):
        d = coord[:, 1 + q] - coord[:, 0]
        unit = d / np.linalg.norm(d, axis=1, keepdims=True)
        slopes[:, q, 1 + q], slopes[:, q, 0] = unit, -unit
    flat = slopes.reshape(len(coord), 2, -1)
    return np.linalg.pinv(flat).reshape(*coord.shape, 2)


def main() -> None:
    """Write the systems of SYSTEMS."""
    for name, first in SYSTEMS.items():
        source = HERE.parent / "water" / "data" / name
        parts = sorted(source.glob("set.*"))
        if not parts:
            raise SystemExit(f"{source}: no sets here; copy examples/water beside this folder")
        coord = np.concatenate([np.load(part / "coord.npy") for part in parts])
        box = np.concatenate([np.load(part / "box.npy") for part in parts]).reshape(-1, 3, 3)
        cluster = clusters(coord, box, first)
        energy, force = correction(cluster)
        target = HERE / "data" / name
        shutil.rmtree(target, ignore_errors=True)
        (target / "set.000").mkdir(parents=True)
        n = len(cluster)
        arrays = {"coord": cluster, "force": force, "drdq": displacements(cluster)}
        for key, array in {
            **arrays,
            "energy": energy,
            "aparam": np.tile(np.repeat(np.arange(N_WATER + 1.0), 3), (n, 1)),
            "box": np.tile(np.eye(3), (n, 1, 1)),
        }.items():
            np.save(target / "set.000" / f"{key}.npy", array.reshape(n, -1))
        np.savetxt(target / "type.raw", [0, 1, 1] + N_WATER * [2, 3, 3], fmt="%d")
        (target / "type_map.raw").write_text("\n".join(TYPE_MAP) + "\n")
        (target / "nopbc").touch()


if __name__ == "__main__":
    main()
