# SPDX-License-Identifier: LGPL-3.0-or-later
"""Sample of the training data, as components see it that take statistics from it."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from deepmd.dpmodel.batch import Batch


class Sample(Protocol):
    """Frames that statistics are taken from, with a cache of what was found in them.

    Attributes
    ----------
    protect : float
        Smallest deviation of parameters of frames and atoms.
    """

    protect: float

    def batches(self) -> Iterator[Batch]:
        """Iterate over the batches, with edges."""

    def without_edges(self) -> Iterator[Batch]:
        """Iterate over the same batches without looking for neighbors."""

    def of_types(self, type_map: Sequence[str]) -> "Sample":
        """Return the same frames with types numbered by another type map."""

    def without_pairs(self, pairs: Sequence[Sequence[int]], type_map: Sequence[str]) -> "Sample":
        """Return the same frames without edges between these pairs of types of a type map."""

    def fetch(
        self,
        shapes: Mapping[str, tuple[int, ...]],
        compute: Callable[[], Mapping[str, np.ndarray]],
        about: Mapping[str, Any] | None = None,
    ) -> dict[str, np.ndarray]:
        """Return arrays of these names and shapes from the cache, or compute and keep them.

        Parameters
        ----------
        shapes : mapping of str to tuple of int
        compute : function
            Returns the arrays by name.
        about : mapping, optional
            What they depend on, if not on the frames alone: types and their order, cutoff, ….
        """


def summed(parts: Iterable[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Add up arrays by name."""
    total: dict[str, np.ndarray] = {}
    for part in parts:
        for name, array in part.items():
            total[name] = total.get(name, 0.0) + array
    return total
