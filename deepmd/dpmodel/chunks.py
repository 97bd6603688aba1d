# SPDX-License-Identifier: LGPL-3.0-or-later
"""Evaluation in ranges of centres, so that the working set of a large system stays bounded.

In a local model an atom's contribution is a function of its own edges and of the types of their
neighbours, nothing else. A chunk is therefore a range of atoms with their edges; all neighbours
outside of it are replaced by one stand-in atom per type, which comes after the centres and has no
edges. The forces on neighbours are assembled afterwards, from the edge gradients of all chunks.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from deepmd.dpmodel.batch import Batch, Edges
from deepmd.dpmodel.model import Inputs, Model, prepare
from deepmd.dpmodel.model.inputs import atom_inputs, frame_inputs, squared_lengths
from deepmd.dpmodel.neighbors import Overflow, Packing, pack
from deepmd.dpmodel.output_def import Level, of_level

#: Edges in a chunk: large enough for full speed, small enough for the caches of a processor.
EDGES_PER_CHUNK = 1 << 15

#: Edges whose derivatives are summed at a time.
_EDGES_PER_SUM = 1 << 20


class Chunk(NamedTuple):
    """A range of centres, ready to be evaluated.

    Attributes
    ----------
    inputs : Inputs
        ``atype`` may be longer than the range: rows beyond ``atoms.stop - atoms.start`` of any
        result per atom belong to stand-ins and are to be dropped. Edges are exactly the range's.
    atoms, edges : slice
        Where the results belong in the batch.
    """

    inputs: Inputs
    atoms: slice
    edges: slice


def centre_ranges(batch: Batch, max_edges: int) -> list[tuple[int, int]]:
    """Divide the atoms into successive ranges of at most ``max_edges`` edges, and of atoms.

    An atom with more edges than that is a range of its own.
    """
    n = batch.n_atoms
    # One is added per atom, so that atoms without neighbours do not pile up without bound.
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
        With its edges, sorted by centre.
    packings : sequence of Packing
        Of the model.
    ntypes : int
        Number of types of the batch, ``model.atomic_model.ntypes``.
    local : bool
        False for models that pass messages: these come as one chunk.
    max_edges : int
        Largest number of edges (and of atoms) in a chunk.
    overflow : Overflow, optional
        Counts centres with more neighbours than ``sel``.

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
    r2 = squared_lengths(batch, vec)
    for a, b in centre_ranges(batch, max_edges):
        edges = slice(int(first[a]), int(first[b]))
        yield Chunk(
            _inputs(batch, packings, vec, r2, a, b, edges, ntypes, overflow), slice(a, b), edges
        )


def _inputs(
    batch: Batch,
    packings: Sequence[Packing],
    vec: np.ndarray,
    r2: np.ndarray,
    a: int,
    b: int,
    edges: slice,
    ntypes: int,
    overflow: Overflow | None,
) -> Inputs:
    """Arrays of the centres a to b, followed by the stand-ins."""
    part = vec[edges]
    atype = np.concatenate([batch.atype[a:b], np.arange(ntypes, dtype=np.int64)])
    # The stand-in of type t has number b - a + t.
    j = batch.atype[batch.edges.j[edges]] + (b - a)
    pairs = Edges(batch.edges.i[edges] - a, j, batch.edges.shift[edges])
    slots: list[np.ndarray] = []
    for p in packings:
        if p.layout == "first_type":  # the first atom of the frame may be in another chunk
            first = batch.atype[np.searchsorted(batch.frame, batch.frame[a:b])]
            slots.append(np.concatenate([first, np.arange(ntypes, dtype=np.int64)]))
        else:
            slots += pack([p], pairs, atype, r2[edges], overflow)
    frame = np.concatenate([batch.frame[a:b], np.zeros(ntypes, np.int64)])
    per_atom = {
        name: np.concatenate([value[a:b], np.zeros((ntypes, value.shape[1]))])
        for name, value in atom_inputs(batch).items()
    }
    per_frame = frame_inputs(batch)
    return Inputs(part, pairs.i, pairs.j, atype, frame, per_frame, per_atom, slots)


def predict_in_chunks(
    model: Model,
    batch: Batch,
    forward: Callable[[Inputs], dict[str, np.ndarray]],
    *,
    derivatives: Sequence[str] = ("force", "virial"),
    max_edges: int = EDGES_PER_CHUNK,
    overflow: Overflow | None = None,
) -> dict[str, np.ndarray]:
    """Evaluate a batch chunk by chunk.

    Parameters
    ----------
    model : Model
        The neutral model, asked for its packings and its output definition.
    batch : Batch
        With edges.
    forward : function
        Evaluates one chunk: what :meth:`Model.forward_edges` returns (:meth:`Model.atomic` when
        no derivatives are wanted), as NumPy arrays.
    derivatives : sequence of str
        Which of ``force``, ``virial``, ``atom_virial`` are wanted.
    max_edges, overflow
        See :func:`chunks`.

    Returns
    -------
    dict
        As of :meth:`Model.predict`, NumPy arrays.
    """
    batch = model.expand(batch)
    edge_names = of_level(model.output_def().raw_results(), Level.EDGE)
    raw: dict[str, np.ndarray] = {}
    parts = chunks(
        batch,
        model.packings(),
        ntypes=model.atomic_model.ntypes,
        local=not model.message_passing(),
        max_edges=max_edges,
        overflow=overflow,
    )
    for chunk in parts:
        count = chunk.atoms.stop - chunk.atoms.start
        for name, value in forward(chunk.inputs).items():
            per_edge = name in edge_names
            value = np.asarray(value) if per_edge else np.asarray(value)[:count]
            if name not in raw:
                rows = len(batch.edges) if per_edge else batch.n_atoms
                raw[name] = np.zeros((rows, *value.shape[1:]), value.dtype)
            raw[name][chunk.edges if per_edge else chunk.atoms] = value
    return assemble(model, batch, raw, derivatives)


def assemble(
    model: Model, batch: Batch, raw: dict[str, np.ndarray], derivatives: Sequence[str]
) -> dict[str, np.ndarray]:
    """Sum atomic values and edge gradients of a whole batch, a block of edges at a time.

    ``batch`` is what :meth:`Model.expand` returned.
    """
    nf, e = batch.n_frames, len(batch.edges)
    vec = batch.vectors()
    edge_names = of_level(model.output_def().raw_results(), Level.EDGE)
    out: dict[str, np.ndarray] = {}
    terms = None if model.modifier is None else model.modifier.terms(batch)
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


def numpy_forward(
    model: Model, derivatives: Sequence[str], extra: Sequence[str]
) -> Callable[[Inputs], dict[str, np.ndarray]]:
    """Return the function that evaluates one chunk with the neutral model itself."""

    def forward(inputs: Inputs) -> dict[str, Any]:
        if derivatives:
            return model.forward_edges(inputs, extra)
        return model.atomic(inputs, extra)

    return forward
