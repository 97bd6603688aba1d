# SPDX-License-Identifier: LGPL-3.0-or-later
"""Edges of training frames in a compact form, within a memory budget."""

import dataclasses

import numpy as np

from deepmd.dpmodel.batch import Edges


@dataclasses.dataclass(frozen=True)
class PackedEdges:
    """Edges of one frame: neighbors per center, neighbor numbers, shifts as small integers."""

    counts: np.ndarray
    j: np.ndarray
    shift: np.ndarray | None

    @property
    def nbytes(self) -> int:
        """Memory used [bytes]."""
        return self.counts.nbytes + self.j.nbytes + (0 if self.shift is None else self.shift.nbytes)

    @classmethod
    def pack(cls, edges: Edges, natoms: int) -> "PackedEdges":
        """Pack edges, which must be sorted by center, without loss."""
        counts = np.bincount(edges.i, minlength=natoms).astype(np.int32)
        most = np.abs(edges.shift).max(initial=0.0)
        # Only atoms absurdly far outside of their cell need the last one.
        kind = np.dtype("i1" if most < 128 else "i4" if most < 2**31 else "f8")
        j = edges.j.astype(np.uint16 if natoms <= 1 << 16 else np.uint32)
        return cls(counts, j, edges.shift.astype(kind) if most > 0 else None)

    def unpack(self) -> Edges:
        """Return the edges as they were."""
        i = np.repeat(np.arange(len(self.counts), dtype=np.int64), self.counts)
        shift = np.zeros((len(i), 3)) if self.shift is None else self.shift.astype(np.float64)
        return Edges(i, self.j.astype(np.int64), shift)


class EdgeCache:
    """Packed edges by (system, frame).

    When the budget is used up, what is in stays and nothing more is added: with shuffled passes
    over more data than fit, throwing out the oldest would throw out what comes next.

    Parameters
    ----------
    budget : int
        Memory [bytes].
    """

    # What Python objects around the three arrays of a frame take, about.
    overhead = 600

    def __init__(self, budget: int) -> None:
        self.budget, self.used, self.full = budget, 0, False
        self._frames: dict[tuple[int, int], PackedEdges] = {}

    def __len__(self) -> int:
        return len(self._frames)

    def get(self, system: int, frame: int) -> Edges | None:
        """Return the edges of a frame, or None."""
        packed = self._frames.get((system, frame))
        return None if packed is None else packed.unpack()

    def put(self, system: int, frame: int, edges: Edges, natoms: int) -> None:
        """Keep the edges of a frame if there is room."""
        if self.full:
            return
        packed = PackedEdges.pack(edges, natoms)
        cost = packed.nbytes + self.overhead
        if self.used + cost > self.budget:
            self.full = True
            return
        self.used += cost
        self._frames[system, frame] = packed
