# SPDX-License-Identifier: LGPL-3.0-or-later
"""Evaluation in ranges of centers, so that the working set of a large system stays bounded.

In a local model an atom's contribution is a function of its own edges and of the types of their
neighbors, nothing else. A chunk is therefore a range of atoms with their edges; all neighbors
outside of it are replaced by one placeholder atom per type, which comes after the centers and has
no edges. The forces on neighbors are assembled afterwards, from the edge gradients of all chunks.

An evaluator divides a batch (:func:`partition`), runs the chunks on its backend, and puts the
results together (:func:`collect`, :func:`assemble`).
"""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from deepmd.dpmodel.batch import Batch, Edges
from deepmd.dpmodel.model import Inputs, Model, prepare
from deepmd.dpmodel.model.inputs import atom_inputs, frame_inputs, shortest
from deepmd.dpmodel.neighbors import Overflow, Packing, pack
from deepmd.dpmodel.output_def import Level, of_level

#: Edges in a chunk: large enough for full speed, small enough for the caches of a processor.
EDGES_PER_CHUNK = 1 << 15

#: Edges whose derivatives are summed at a time.
_EDGES_PER_SUM = 1 << 20


class Chunk(NamedTuple):
    """A range of centers, ready to be evaluated.

    Attributes
    ----------
    inputs : Inputs
        ``atype`` may be longer than the range: rows beyond ``n_atoms`` of any result per atom
        belong to placeholders and are to be dropped. Edges are exactly the range's.
    atoms, edges : slice or int array
        Where the results belong in the batch.
    """

    inputs: Inputs
    atoms: Any
    edges: Any

    @property
    def n_atoms(self) -> int:
        """Number of centers."""
        at = self.atoms
        return at.stop - at.start if isinstance(at, slice) else len(at)


def center_ranges(batch: Batch, max_edges: int) -> list[tuple[int, int]]:
    """Divide the atoms into successive ranges of at most ``max_edges`` edges, and of atoms.

    An atom with more edges than that is a range of its own.
    """
    n = batch.n_atoms
    # One is added per atom, so that atoms without neighbors do not pile up without bound.
    ends = np.cumsum(np.bincount(batch.edges.i, minlength=n) + 1)
    ranges, start, done = [], 0, 0
    while start < n:
        stop = max(int(np.searchsorted(ends, done + max_edges, side="right")), start + 1)
        ranges.append((start, stop))
        start, done = stop, int(ends[stop - 1])
    return ranges


def chunks(
    batch: Batch,
    packings: Sequence[Packing],
    *,
    ntypes: int,
    local: bool = True,
    max_edges: int = EDGES_PER_CHUNK,
    overflow: Overflow | None = None,
) -> Iterator[Chunk]:
    """Divide a batch with edges into chunks.

    Parameters
    ----------
    batch : Batch
        With its edges, sorted by center.
    packings : sequence of Packing
        Of the model.
    ntypes : int
        Number of types of the batch, ``model.atomic_model.ntypes``.
    local : bool
        False for models that pass messages: these come as one chunk.
    max_edges : int
        Largest number of edges (and of atoms) in a chunk.
    overflow : Overflow, optional
        Counts centers with more neighbors than ``sel``.

    Yields
    ------
    Chunk
    """
    n, e = batch.n_atoms, len(batch.edges)
    if not local or n + e <= max_edges or n <= 1:
        yield Chunk(prepare(batch, packings, overflow), slice(0, n), slice(0, e))
        return
    first = np.concatenate([[0], np.cumsum(np.bincount(batch.edges.i, minlength=n))])
    vec = batch.vectors()
    for a, b in center_ranges(batch, max_edges):
        edges = slice(int(first[a]), int(first[b]))
        yield Chunk(
            _inputs(batch, packings, vec, a, b, edges, ntypes, overflow), slice(a, b), edges
        )


def _inputs(
    batch: Batch,
    packings: Sequence[Packing],
    vec: np.ndarray,
    a: int,
    b: int,
    edges: slice,
    ntypes: int,
    overflow: Overflow | None,
) -> Inputs:
    """Arrays of the centers a to b, followed by the placeholders."""
    part = vec[edges]
    atype = np.concatenate([batch.atype[a:b], np.arange(ntypes, dtype=np.int64)])
    # The placeholder of type t has number b - a + t.
    j = batch.atype[batch.edges.j[edges]] + (b - a)
    pairs = Edges(batch.edges.i[edges] - a, j, batch.edges.shift[edges])
    slots: list[np.ndarray] = []
    for p in packings:
        if p.layout == "first_type":  # the first atom of the frame may be in another chunk
            first = batch.atype[np.searchsorted(batch.frame, batch.frame[a:b])]
            slots.append(np.concatenate([first, np.arange(ntypes, dtype=np.int64)]))
        else:
            slots += pack([p], pairs, atype, part, overflow, shortest=shortest(batch))
    frame = np.concatenate([batch.frame[a:b], np.zeros(ntypes, np.int64)])
    per_atom = {
        name: np.concatenate([value[a:b], np.zeros((ntypes, value.shape[1]))])
        for name, value in atom_inputs(batch).items()
    }
    per_frame = frame_inputs(batch)
    return Inputs(part, pairs.i, pairs.j, atype, frame, per_frame, per_atom, slots)


def partition(
    model: Model,
    batch: Batch,
    *,
    max_edges: int = EDGES_PER_CHUNK,
    overflow: Overflow | None = None,
    interleave: bool = False,
) -> Iterator[Chunk]:
    """Divide a batch into the chunks in which a model is evaluated.

    Parameters
    ----------
    model : Model
        The neutral model, asked for its packings and whether it passes messages.
    batch : Batch
        With edges: what :meth:`Model.expand` returned.
    max_edges, overflow
        See :func:`chunks`.
    interleave : bool
        Give all chunks about the same size and composition, for backends that compile one program
        per shape. The places of their results are arrays then, not ranges.

    Raises
    ------
    ValueError
        If the edges have not been found.
    """
    if batch.edges is None:
        raise ValueError("a batch without edges cannot be evaluated")
    packings, local = model.packings(), not model.message_passing()
    batch = dataclasses.replace(batch, owner=None, place=None)  # those of the assembly
    total = batch.n_atoms + len(batch.edges)
    # Where the type of a frame's first atom matters, atoms keep their order.
    ordered = any(p.layout == "first_type" for p in packings)
    places = None
    if interleave and local and total > max_edges and not ordered:
        places, batch = interleave_types(batch)
        max_edges = _even_limit(total, max_edges)
    found = chunks(
        batch,
        packings,
        ntypes=model.atomic_model.ntypes,
        local=local,
        max_edges=max_edges,
        overflow=overflow,
    )
    if places is None:
        return found
    atoms, edges = places
    return (c._replace(atoms=atoms[c.atoms], edges=edges[c.edges]) for c in found)


def interleave_types(batch: Batch) -> tuple[tuple[np.ndarray, np.ndarray], Batch]:
    """Reorder atoms so that any range of them has about the composition of the whole.

    Returns
    -------
    places : arrays (n_atoms,) and (n_edges,)
        Old numbers of the atoms and edges, in their new order.
    batch : Batch
        The reordered one, without labels.
    """
    position = np.empty(batch.n_atoms)
    for t in np.unique(batch.atype):
        rows = np.flatnonzero(batch.atype == t)
        position[rows] = (np.arange(len(rows)) + 0.5) / len(rows)
    atoms = np.argsort(position, kind="stable")
    number = np.argsort(atoms)
    old = batch.edges
    edges = np.argsort(number[old.i], kind="stable")
    return (atoms, edges), dataclasses.replace(
        batch,
        coord=batch.coord[atoms],
        atype=batch.atype[atoms],
        frame=batch.frame[atoms],
        aparam=None if batch.aparam is None else batch.aparam[atoms],
        displacement=None if batch.displacement is None else batch.displacement[atoms],
        role=None if batch.role is None else batch.role[atoms],
        labels={},
        find={},
        edges=Edges(number[old.i[edges]], number[old.j[edges]], old.shift[edges]),
    )


def _even_limit(total: int, limit: int) -> int:
    """Return the size of a chunk that divides the work evenly, a little above the exact share."""
    share = total / -(-total // limit)
    return min(limit, int(1.02 * share) + 1)


def collect(
    model: Model, batch: Batch, results: Iterable[tuple[Chunk, Mapping[str, Any]]]
) -> dict[str, np.ndarray]:
    """Put the results of chunks into arrays of the whole batch.

    Parameters
    ----------
    model : Model
        The neutral model, asked which results belong to edges.
    batch : Batch
        The one that was divided.
    results : iterable of (Chunk, dict)
        What :meth:`Model.forward_edges` or :meth:`Model.atomic` returns for each chunk; rows of
        padding behind its own are dropped.

    Returns
    -------
    dict
        {name: (n_atoms, …) or (n_edges, …)}, NumPy arrays.
    """
    edge_names = of_level(model.output_def().raw_results(), Level.EDGE)
    raw: dict[str, np.ndarray] = {}
    for chunk, values in results:
        for name, value in values.items():
            places, rows, n_rows = chunk.atoms, chunk.n_atoms, batch.n_atoms
            if name in edge_names:
                places, rows, n_rows = chunk.edges, len(chunk.inputs.i), len(batch.edges)
            part = np.asarray(value)[:rows]
            if name not in raw:
                raw[name] = np.zeros((n_rows, *part.shape[1:]), part.dtype)
            raw[name][places] = part
    return raw


def assemble(
    model: Model,
    batch: Batch,
    raw: dict[str, np.ndarray],
    derivatives: Sequence[str],
    terms: Mapping[str, np.ndarray] | None = None,
) -> dict[str, np.ndarray]:
    """Sum atomic values and edge gradients of a whole batch, a block of edges at a time.

    ``batch`` is what :meth:`Model.expand` returned, ``terms`` what a modifier adds.
    """
    nf, e = batch.n_frames, len(batch.edges)
    vec = batch.vectors()
    edge_names = of_level(model.output_def().raw_results(), Level.EDGE)
    out: dict[str, np.ndarray] = {}
    for start in range(0, max(e, 1), _EDGES_PER_SUM):
        block = slice(start, min(start + _EDGES_PER_SUM, e))
        inputs = _edge_block(batch, vec, block)
        values = {k: v[block] if k in edge_names else v for k, v in raw.items()}
        if start:
            values = {k: v for k, v in values.items() if k in edge_names}
        more = None if start else terms
        part: dict[str, Any] = model.assemble(values, inputs, nf, derivatives, more)
        for key, value in part.items():
            out[key] = out[key] + value if key in out else np.asarray(value)
    return out


def _edge_block(batch: Batch, vec: np.ndarray, block: slice) -> Inputs:
    """Inputs of the assembly: a block of edges, all atoms."""
    return Inputs(
        vec[block],
        batch.edges.i[block],
        batch.edges.j[block],
        batch.atype,
        batch.frame,
        {},
        atom_inputs(batch),
        [],
    )
