# SPDX-License-Identifier: LGPL-3.0-or-later
"""Write water.data for LAMMPS: the last frame of validation, with a Wannier centroid per oxygen.

A centroid is an atom of a type of its own, bonded to its oxygen. Where it stands in the file does
not matter: fix dplr moves it.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
MASSES = (15.9994, 1.008)  # g/mol of O and H; a centroid moves with its atom


def write_data(
    path: Path,
    coord: np.ndarray,
    cell: np.ndarray,
    types: Sequence[int],
    charges: Sequence[float],
    centroids: Mapping[int, float],
) -> None:
    """Write a data file of ``atom_style full``.

    Parameters
    ----------
    coord : (n, 3) [Å]
    cell : (3, 3) [Å]
        Rows are the cell vectors: the first along x, the second in the xy plane.
    types : (n,)
        From 0 on.
    charges : by type [e]
    centroids : charge [e] of a centroid by the type of its atom
        Their type in the file follows those of the atoms.
    """
    hosts = [i for i, t in enumerate(types) if t in centroids]
    n, kinds = len(coord), len(charges) + bool(hosts)
    rows = [(types[i] + 1, charges[types[i]], coord[i]) for i in range(n)]
    rows += [(kinds, centroids[types[i]], coord[i]) for i in hosts]
    lines = ["water with Wannier centroids", "", f"{len(rows)} atoms", f"{kinds} atom types"]
    if hosts:
        lines += [f"{len(hosts)} bonds", "1 bond types"]
    lines += [f"0 {cell[d][d]:.17g} {x}lo {x}hi" for d, x in enumerate("xyz")]
    tilts = (cell[1][0], cell[2][0], cell[2][1])
    if any(tilts):
        lines += [" ".join(f"{t:.17g}" for t in tilts) + " xy xz yz"]
    lines += ["", "Masses", ""] + [f"{t + 1} {MASSES[min(t, 1)]}" for t in range(kinds)]
    lines += ["", "Atoms # full", ""]
    for i, (kind, charge, r) in enumerate(rows):
        lines.append(f"{i + 1} 1 {kind} {charge:.17g} " + " ".join(f"{x:.17g}" for x in r))
    if hosts:
        lines += ["", "Bonds", ""]
        lines += [f"{k + 1} 1 {i + 1} {n + k + 1}" for k, i in enumerate(hosts)]
    path.write_text("\n".join(lines) + "\n")


def main() -> None:
    """Write water.data beside this file."""
    system = HERE / "centroids" / "valid" / "valid_0"
    coord = np.load(system / "set.000" / "coord.npy")[-1].reshape(-1, 3)
    cell = np.load(system / "set.000" / "box.npy")[-1].reshape(3, 3)
    types = np.loadtxt(system / "type.raw", dtype=int)
    write_data(HERE / "water.data", coord, cell, types, charges=(6.0, 1.0), centroids={0: -8.0})


if __name__ == "__main__":
    main()
