# SPDX-License-Identifier: LGPL-3.0-or-later
"""Who trains together: one small object instead of questions all over the program."""

import numpy as np


class Distributed:
    """A group of processes that train one model; this one is alone.

    A backend with several processes derives from this class.

    Attributes
    ----------
    rank : int
        Number of this process; 0 writes files.
    world : int
        Number of processes.
    """

    rank: int = 0
    world: int = 1

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and the log."""
        return self.rank == 0

    def broadcast(self, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return the arrays that process 0 has."""
        return arrays

    def reduce(self, values: np.ndarray) -> np.ndarray:
        """Return the sum over all processes."""
        return values
