# SPDX-License-Identifier: LGPL-3.0-or-later
"""Frames of atoms on one flat axis: what models, losses and trainers are given."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np


@dataclasses.dataclass
class Edges:
    """Directed pairs of neighbors, sorted by center.

    Attributes
    ----------
    i, j : (n_edges,) int64
        Center and neighbor. Every pair within the cutoff appears in both directions, and an atom
        may be a neighbor of its own periodic images.
    shift : (n_edges, 3) float64
        Lattice translation of the neighbor, in cell vectors:
        ``vec = coord[j] - coord[i] + shift @ cell[frame[i]]`` [Å].
    """

    i: np.ndarray
    j: np.ndarray
    shift: np.ndarray

    def __len__(self) -> int:
        return len(self.i)

    @property
    def nbytes(self) -> int:
        """Memory used [bytes]."""
        return self.i.nbytes + self.j.nbytes + self.shift.nbytes


#: Fields with a row per frame, and per atom.
_OF_FRAMES = ("cell", "periodic", "natoms", "fparam", "charge_spin", "weight")
_OF_ATOMS = ("coord", "atype", "frame", "aparam", "spin", "displacement")


@dataclasses.dataclass
class Batch:
    """Real atoms of several frames, one after another; virtual atoms never enter.

    Attributes
    ----------
    coord : (n_atoms, 3) float64 [Å]
    cell : (n_frames, 3, 3) float64 [Å]
        Rows are the cell vectors; zero for an open system.
    periodic : (n_frames,) bool
    atype : (n_atoms,) int64
        Index into the model's type map.
    frame : (n_atoms,) int64
        Frame of each atom, ascending.
    natoms : (n_frames,) int64
    fparam : (n_frames, n_fparam) or None
    aparam : (n_atoms, n_aparam) or None
    charge_spin : (n_frames, 2) or None
        Charge [e] and spin multiplicity of every frame.
    spin : (n_atoms, 3) or None
        Spin of every atom, in the units of the model's ``virtual_scale``.
    displacement : (n_atoms, 3) or None [Å]
        How far an atom is from the site that a deformation of the cell carries along; set by
        :meth:`deepmd.dpmodel.model.Model.expand`.
    role : (n_atoms, 1) float64 or None
        In an expanded batch of regions, see :mod:`deepmd.dpmodel.fragments`.
    owner : (n_atoms, 1) float64 or None
        In an expanded batch, number, from 1, of the atom that an atom here is a copy of.
    place : (number of atoms before, 1) float64 or None
        In an expanded batch, number of the first copy of every atom.
    labels : dict of str to array
        (n_frames, size) for a frame label, (n_atoms, size) for an atomic one; the Hessian
        (n_atoms, 3 × 3 n) as :class:`deepmd.dpmodel.label.Label` says.
    find : dict of str to float
        1.0 where the label was found, 0.0 where it holds its default.
    edges : Edges or None
    weight : (n_frames,) float64 or None
        Weight of every frame in the means of a loss; 1 where it is None.
    reach : float
        All pairs up to this distance [Å] are known to be among the edges; 0 where nothing is known.
    """

    coord: np.ndarray
    cell: np.ndarray
    periodic: np.ndarray
    atype: np.ndarray
    frame: np.ndarray
    natoms: np.ndarray
    fparam: np.ndarray | None = None
    aparam: np.ndarray | None = None
    labels: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
    find: dict[str, float] = dataclasses.field(default_factory=dict)
    edges: Any = None  # Edges, once they are found
    charge_spin: np.ndarray | None = None
    spin: np.ndarray | None = None
    displacement: np.ndarray | None = None
    role: np.ndarray | None = None
    owner: np.ndarray | None = None
    place: np.ndarray | None = None
    weight: np.ndarray | None = None
    reach: float = 0.0

    @property
    def n_frames(self) -> int:
        """Number of frames."""
        return len(self.natoms)

    @property
    def n_atoms(self) -> int:
        """Number of atoms in all frames together."""
        return len(self.atype)

    def offsets(self) -> np.ndarray:
        """First atom of every frame, and the end: (n_frames + 1,)."""
        return np.concatenate([[0], np.cumsum(self.natoms)]).astype(np.int64)

    def frames(self, start: int, stop: int) -> "Batch":
        """Return a range of the frames, with its edges and without labels."""
        if (start, stop) == (0, self.n_frames):
            return self
        ends = self.offsets()
        rows, atoms = slice(start, stop), slice(ends[start], ends[stop])
        parts: dict[str, Any] = {"labels": {}, "edges": None}
        for names, part in ((_OF_FRAMES, rows), (_OF_ATOMS, atoms)):
            for name in names:
                value = getattr(self, name)
                parts[name] = None if value is None else value[part]
        parts["frame"] = parts["frame"] - start
        if self.edges is not None:
            e, first = self.edges, ends[start]
            own = slice(*np.searchsorted(e.i, (ends[start], ends[stop])))
            parts["edges"] = Edges(e.i[own] - first, e.j[own] - first, e.shift[own])
        return dataclasses.replace(self, **parts)

    def coincident(self) -> np.ndarray:
        """Pairs of atoms (n, 2) that are at the same place, which no list of neighbors has."""
        place = self.coord
        if self.periodic.any():
            cell = np.where(self.periodic[:, None, None], self.cell, np.eye(3))
            inverse = np.linalg.inv(cell)[self.frame]
            fraction = np.einsum("na,nab->nb", place, inverse)
            folded = np.round(fraction - np.floor(fraction), 10) % 1.0
            place = np.where(self.periodic[self.frame, None], folded, place)
        order = np.lexsort((*place.T, self.frame))
        first, second = order[:-1], order[1:]
        same = (place[first] == place[second]).all(axis=1) & (
            self.frame[first] == self.frame[second]
        )
        return np.stack([first, second], axis=1)[same]

    def vectors(self) -> np.ndarray:
        """Edge vectors (n_edges, 3) [Å], neighbor minus center."""
        e = self.edges
        vec = np.take(self.coord, e.j, axis=0)
        vec -= np.take(self.coord, e.i, axis=0)
        ends = np.searchsorted(e.i, self.offsets())
        in_order = (np.diff(self.frame) >= 0).all()
        for f in np.flatnonzero(self.periodic):
            # A cell for every edge would take longer. Edges are sorted by center; so they are by
            # frame, unless somebody mixed the atoms.
            part = slice(ends[f], ends[f + 1]) if in_order else self.frame[e.i] == f
            vec[part] += e.shift[part] @ self.cell[f]
        return vec

    @classmethod
    def from_arrays(
        cls,
        coord: Any,
        cell: Any,
        atype: Any,
        *,
        fparam: Any = None,
        aparam: Any = None,
        spin: Any = None,
        labels: dict[str, np.ndarray] | None = None,
        find: dict[str, float] | None = None,
    ) -> "Batch":
        """Build a batch from frames of equal size without virtual atoms.

        Parameters
        ----------
        coord : (n_frames, n_atoms, 3) [Å]
        cell : (n_frames, 3, 3) [Å] or None
            None, or zero for a frame, means open boundaries.
        atype : (n_atoms,) or (n_frames, n_atoms)
        spin : (n_frames, n_atoms, 3), optional
        """
        coord = np.asarray(coord, dtype=np.float64)
        nf, na = coord.shape[:2]
        cell = np.zeros((nf, 3, 3)) if cell is None else np.asarray(cell, np.float64)
        cell = cell.reshape(nf, 3, 3)
        atype = np.broadcast_to(np.asarray(atype, dtype=np.int64), (nf, na))
        return cls(
            coord=np.ascontiguousarray(coord.reshape(-1, 3)),
            cell=cell,
            periodic=np.abs(cell).max(axis=(1, 2)) > 0,
            atype=np.ascontiguousarray(atype.reshape(-1)),
            frame=np.repeat(np.arange(nf, dtype=np.int64), na),
            natoms=np.full(nf, na, dtype=np.int64),
            fparam=fparam,
            aparam=aparam,
            spin=None if spin is None else np.asarray(spin, np.float64).reshape(-1, 3),
            labels=dict(labels or {}),
            find=dict(find or {}),
        )


def join_edges(parts: Sequence[Edges], natoms: Sequence[int]) -> Edges:
    """Put the edges of successive frames, numbered within their frame, on one axis."""
    start = np.concatenate([[0], np.cumsum(natoms)]).astype(np.int64)
    if len(parts) == 1:
        return parts[0]
    return Edges(
        np.concatenate([p.i + s for p, s in zip(parts, start[:-1], strict=True)]),
        np.concatenate([p.j + s for p, s in zip(parts, start[:-1], strict=True)]),
        np.concatenate([p.shift for p in parts]),
    )


def join(batches: Sequence[Batch]) -> Batch:
    """Put several batches on one axis. A label or parameter must be in all of them or in none."""
    if len(batches) == 1:
        return batches[0]
    first_frame = np.cumsum([0] + [b.n_frames for b in batches[:-1]])

    def cat(name: str) -> Any:
        parts = [getattr(b, name) for b in batches]
        return None if parts[0] is None else np.concatenate(parts)

    edges = None
    if all(b.edges is not None for b in batches):
        edges = join_edges([b.edges for b in batches], [b.n_atoms for b in batches])
    names = batches[0].labels.keys()
    special: dict[str, Any] = {
        "frame": np.concatenate([b.frame + s for b, s in zip(batches, first_frame, strict=True)]),
        "labels": {k: _concatenate([b.labels[k] for b in batches]) for k in names},
        "find": {k: min(b.find[k] for b in batches) for k in batches[0].find},
        "edges": edges,
        "reach": min(b.reach for b in batches),
    }
    arrays = {f.name: cat(f.name) for f in dataclasses.fields(Batch) if f.name not in special}
    return Batch(**arrays, **special)


def widened(hessian: np.ndarray, width: int) -> np.ndarray:
    """Put zeros behind every one of the three rows that an atom has: (n_atoms, width)."""
    rows = hessian.reshape(len(hessian), 3, hessian.shape[1] // 3)
    rows = np.pad(rows, ((0, 0), (0, 0), (0, width // 3 - rows.shape[2])))
    return rows.reshape(len(hessian), width)


def _concatenate(parts: Sequence[np.ndarray]) -> np.ndarray:
    """Put labels below each other; only those of Hessians may differ in width."""
    width = max(part.shape[1] for part in parts)
    return np.concatenate([p if p.shape[1] == width else widened(p, width) for p in parts])
