# SPDX-License-Identifier: LGPL-3.0-or-later
"""Groups of processes that train one model together."""

from collections.abc import Callable
from typing import Any


class Distributed:
    """Group of processes of a data-parallel training; this class is the group of one.

    Every rank evaluates its own batch. Losses are sums and weights that are added over the ranks
    (:meth:`deepmd.dpmodel.loss.Loss.call`), gradients are added, so that N ranks take the step that
    one rank would take on the batches of all. A backend derives its own group from this one.

    Attributes
    ----------
    rank, size : int
        Number of this process, from 0, and number of processes.
    """

    rank: int = 0
    size: int = 1

    @property
    def writes(self) -> bool:
        """Whether this process writes the files of the training."""
        return self.rank == 0

    @property
    def reduce(self) -> Callable[[Any], Any] | None:
        """Sum of an array of the backend over the ranks, or None for one rank."""
        return self.total if self.size > 1 else None

    def total(self, x: Any) -> Any:
        """Return the sum of an array of the backend over the ranks, the same on every rank."""
        return x

    def agree(self, *numbers: float) -> tuple[float, ...]:
        """Return the largest of each number over the ranks, so that all ranks decide alike."""
        return numbers


#: The group of a training in one process.
ALONE = Distributed()
