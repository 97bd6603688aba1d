# SPDX-License-Identifier: LGPL-3.0-or-later
"""The architecture in a folder that metatrain searches, and a small data set."""

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

#: The architecture must be where metatrain looks for it: ``python -m deepmd.metatrain``.
collect_ignore: list[str] = []
try:
    found = find_spec("metatrain.experimental.deepmd")
except ImportError:
    found = None
if found is None:
    collect_ignore += ["test_dpa3.py", "test_mixins.py", "test_training.py"]


def write_molecules(path: Path, *, forces: bool, frames: int = 12) -> Path:
    """Write water and ammonia of a pair potential: energies with offsets, forces, stress."""
    ase = pytest.importorskip("ase")
    from ase.io import write

    rng = np.random.default_rng(3)
    shapes = {"OHH": [[0, 0, 0.1], [0, 0.8, -0.5], [0, -0.8, -0.5]]}
    shapes["NHHH"] = [[0, 0, 0.1], [0, 0.94, -0.27], [0.81, -0.47, -0.27], [-0.81, -0.47, -0.27]]
    offsets = {"O": -430.0, "N": -310.0, "H": -13.0}
    out = []
    for k in range(frames):
        names = list(shapes)[k % 2]
        coord = np.array(shapes[names]) + 0.1 * rng.normal(size=(len(names), 3))
        atoms = ase.Atoms(list(names), coord)
        d = coord[:, None] - coord
        r = np.sqrt((d * d).sum(-1)) + np.eye(len(coord))
        off = 1.0 - np.eye(len(coord))
        atoms.info["energy"] = 0.5 * (off * (r - 1.2) ** 2).sum() + sum(offsets[n] for n in names)
        if forces:
            atoms.arrays["forces"] = -2 * ((off * (r - 1.2) / r)[..., None] * d).sum(1)
            atoms.cell, atoms.pbc = 9.0 * np.eye(3), True
            pair = (off * (r - 1.2) / r)[..., None, None] * d[..., :, None] * d[..., None, :]
            atoms.info["stress"] = pair.sum((0, 1)) / 729.0
        out.append(atoms)
    write(path, out)
    return path
