# SPDX-License-Identifier: LGPL-3.0-or-later
"""Write zbl.txt: the universal repulsion of two nuclei by Ziegler, Biersack and Littmark.

The columns are r [Å] and the energies [eV] of the pairs O-O, O-H and H-H.
"""

from itertools import combinations_with_replacement
from pathlib import Path

import numpy as np

NUMBERS = {"O": 8, "H": 1}
COULOMB = 14.399645  # e² / (4 π ε0) [eV Å]
STRENGTHS = np.array([0.18175, 0.50986, 0.28022, 0.02817])
DECAYS = np.array([3.19980, 0.94229, 0.40290, 0.20162])


def repulsion(r: np.ndarray, z: int, other: int) -> np.ndarray:
    """Energy [eV] of two nuclei at distances r (n,) [Å]."""
    length = 0.46850 / (z**0.23 + other**0.23)
    screening = np.exp(-DECAYS * r[:, None] / length) @ STRENGTHS
    return COULOMB * z * other / r * screening


r = 0.01 * np.arange(1, 201)
pairs = combinations_with_replacement(NUMBERS.values(), 2)
columns = [r, *(repulsion(r, *pair) for pair in pairs)]
np.savetxt(Path(__file__).with_name("zbl.txt"), np.stack(columns, axis=1), fmt="%.8e")
