# SPDX-License-Identifier: LGPL-3.0-or-later
"""Write the systems of ../data with the displacements of Wannier centroids, into centroids/.

They are a formula, not results of a calculation: the centroid of a molecule's four pairs of valence
electrons, -8 e, is where it gives the molecule the dipole of charges of 0.42 e on hydrogen, with
ions of 6 e on oxygen and 1 e on hydrogen.
"""

import shutil
from pathlib import Path

import numpy as np

CHARGE_H, ION_H, ELECTRONS = 0.42, 1.0, -8.0  # e
HERE = Path(__file__).resolve().parent
SYSTEMS = {"train": ("train_0", "train_1", "train_2"), "valid": ("valid_0",)}


def displacements(coord: np.ndarray, box: np.ndarray) -> np.ndarray:
    """Centroids less oxygen, (n_frames, n_atoms, 3) [Å]; atoms are stored as O H H, O H H, …"""
    molecules = coord.reshape(len(coord), -1, 3, 3)
    bonds = molecules[:, :, 1:] - molecules[:, :, :1]
    images = np.round(np.einsum("fmba,fac->fmbc", bonds, np.linalg.inv(box)))
    bonds = bonds - np.einsum("fmba,fac->fmbc", images, box)
    out = np.zeros_like(molecules)
    out[:, :, 0] = (CHARGE_H - ION_H) / ELECTRONS * bonds.sum(axis=2)
    return out.reshape(len(coord), -1, 3)


def main() -> None:
    """Copy the systems and add atomic_dipole.npy to each of their sets."""
    for kind, names in SYSTEMS.items():
        for name in names:
            target = HERE / "centroids" / kind / name
            shutil.rmtree(target, ignore_errors=True)
            shutil.copytree(HERE.parent / "data" / name, target)
            for part in sorted(target.glob("set.*")):
                coord = np.load(part / "coord.npy")
                box = np.load(part / "box.npy").reshape(-1, 3, 3)
                moved = displacements(coord.reshape(len(coord), -1, 3), box)
                np.save(part / "atomic_dipole.npy", moved.reshape(len(coord), -1))


if __name__ == "__main__":
    main()
