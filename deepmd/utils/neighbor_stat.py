# SPDX-License-Identifier: LGPL-3.0-or-later
"""Neighbor counts under the name that clients import; see :mod:`deepmd.data.neighbor_stat`."""

import numpy as np

from deepmd.data.arrays import DeepmdDataSystem
from deepmd.data.neighbor_stat import neighbor_stat


class NeighborStat:
    """Smallest distance and largest numbers of neighbors of a data set.

    Parameters
    ----------
    ntypes : int
    rcut : float
        Cutoff [Å].
    mixed_type : bool
        Count neighbors of all types together.
    """

    def __init__(self, ntypes: int, rcut: float, mixed_type: bool = False) -> None:
        self.ntypes, self.rcut, self.mixed_type = ntypes, rcut, mixed_type

    def get_stat(self, data: DeepmdDataSystem) -> tuple[float, np.ndarray]:
        """Return the smallest distance [Å] and the largest numbers, (ntypes,) or (1,)."""
        systems = [one.system for one in data.data_systems]
        return neighbor_stat(systems, self.rcut, self.ntypes, mixed_types=self.mixed_type)
