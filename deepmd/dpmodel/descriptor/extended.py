# SPDX-License-Identifier: LGPL-3.0-or-later
"""Descriptors as functions of extended coordinates, atoms and ghosts, and a neighbor list.

This is the form in which plugins of DeePMD-kit are written. A function of coordinates and a list
becomes one of edge vectors: every center lies at the origin, and every edge has a ghost of its own
at ``vec``. Differences of positions within one neighborhood are then exact, derivatives by the
ghosts are those by the edge vectors, and owners of ghosts are known (``mapping``).
"""

from typing import Any, ClassVar, NamedTuple

import numpy as np

from deepmd.dpmodel import ops
from deepmd.dpmodel.descriptor.base import Atoms, Descriptor, DescriptorOutput, Slots
from deepmd.dpmodel.neighbors import Packing


class Extended(NamedTuple):
    """Centers and ghosts in one frame.

    Attributes
    ----------
    coord : (n_atoms + n_edges, 3) float64 [Å]
        Zero for the centers, the edge vector for the ghost of an edge.
    atype : (n_atoms + n_edges,) int64
    nlist : (n_atoms, Σ sel) int64
        Ghosts of every center, by type if the descriptor tells them apart; -1 where a slot is empty.
    mapping : (n_atoms + n_edges,) int64
        The atom that an atom or ghost is.
    """

    coord: Any
    atype: Any
    nlist: Any
    mapping: Any


def neighbor_packing(ntypes: int, rcut: float, sel: list[int], *, mixed: bool) -> Packing:
    """Return the layout of a list of neighbors: one of all types, or one table per type."""
    if mixed:
        return Packing("mixed", ntypes, rcut, (sum(sel),))
    return Packing("typed", ntypes, rcut, tuple(sel))


def extend(atoms: Atoms, tables: list[Any], packing: Packing) -> Extended:
    """Return the atoms of a batch as centers and ghosts.

    Parameters
    ----------
    atoms : Atoms
    tables : list of (n_atoms, K) int64
        Of the packing.
    packing : Packing
        Of :func:`neighbor_packing`.
    """
    space = ops.xp(atoms.padded)
    vec = atoms.padded[:-1]
    n = ops.shape(atoms.atype)[0]
    zeros = space.broadcast_to(ops.like(np.zeros((1, 3)), vec), (n, 3))
    numbers = space.astype(ops.row_numbers(atoms.atype), space.int64)
    parts = [
        ghost_numbers(table, limit, n) for table, limit in zip(tables, packing.sel, strict=True)
    ]
    return Extended(
        space.concat([zeros, vec], axis=0),
        space.concat([atoms.atype, ops.take(atoms.atype, atoms.j)], axis=0),
        parts[0] if len(parts) == 1 else space.concat(parts, axis=1),
        space.concat([numbers, atoms.j], axis=0),
    )


def ghost_numbers(table: Any, width: int, n: Any) -> Any:
    """Return a table of edges (n, K) as one of their ghosts, (n, width), -1 where it is empty."""
    space = ops.xp(table)
    rows = ops.shape(table)[0]
    empty = space.broadcast_to(ops.like(np.full((1, width), -1), table), (rows, width))
    wide = space.concat([table, empty], axis=1)[:, :width]
    first = ops.times(ops.like(np.ones((1, 1), dtype=np.int64), table), n)
    return space.where(wide < 0, wide, wide + first)


class ExtendedDescriptor(Descriptor):
    """Base of descriptors that are written for extended coordinates.

    A subclass states ``rcut``, ``sel``, ``mixed_types`` and ``dim_out``, and has :meth:`extended`
    in Array-API terms. Its arrays are declared as those of every module.
    """

    mixed_types: ClassVar[bool] = True

    @property
    def ntypes(self) -> int:
        """Number of types."""
        return len(self.type_map or [])

    def packings(self) -> list[Packing]:
        """Layout of the neighbor list."""
        sel = [self.sel] if isinstance(self.sel, int) else list(self.sel)
        return [neighbor_packing(self.ntypes, self.rcut, sel, mixed=self.mixed_types)]

    def call(self, atoms: Atoms, slots: Slots) -> DescriptorOutput:
        """Evaluate the descriptor of every atom."""
        (packing,) = self.packings()
        return self.extended(*extend(atoms, slots[packing], packing))

    def extended(self, coord: Any, atype: Any, nlist: Any, mapping: Any) -> DescriptorOutput:
        """Evaluate the descriptor of the centers.

        Parameters
        ----------
        coord : (n_all, 3) float64 [Å]
            Only differences within one neighborhood have a meaning.
        atype : (n_all,) int64
        nlist : (n_centers, Σ sel) int64
            Numbers of neighbors, -1 where there is none.
        mapping : (n_all,) int64
            The center that an atom or ghost is.
        """
        raise TypeError(f"{type(self).__name__} cannot be evaluated")
