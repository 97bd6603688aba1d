# SPDX-License-Identifier: LGPL-3.0-or-later
"""Perfect crystals, where neighbors are equally far and more than ``sel``."""

import numpy as np


def rock_salt(repeat=(2, 2, 2), constant=4.3):
    """Coordinates (n, 3) [Å], cell (3, 3) [Å] and types (n,) of a rock-salt crystal.

    Positions have digits, so that equal distances differ by rounding.
    """
    half = constant / 2.0
    cells = np.stack(np.meshgrid(*map(np.arange, repeat), indexing="ij"), -1).reshape(-1, 1, 3)
    corner = np.array([[0, 0, 0], [0, 1, 1], [1, 0, 1], [1, 1, 0]])
    basis = np.concatenate([corner, (corner + np.array([1, 0, 0])) % 2])
    coord = (cells * constant + basis[None] * half).reshape(-1, 3)
    coord += np.array([0.1234567, 1 / 3, 0.7])
    atype = np.tile(np.repeat([0, 1], 4), len(cells))
    return coord, np.diag(np.array(repeat) * constant), atype
