# SPDX-License-Identifier: LGPL-3.0-or-later
"""Smallest distance and largest numbers of neighbors of a data set, and ``sel: "auto"``."""

import logging
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from deepmd.base.errors import DataError, InputError, located
from deepmd.base.log import with_progress
from deepmd.data.system import System
from deepmd.dpmodel.atomic_model import AtomicModel
from deepmd.dpmodel.batch import Batch
from deepmd.dpmodel.label import SPIN
from deepmd.dpmodel.model.spin import farthest_partner, with_partners
from deepmd.dpmodel.neighbors import batch_edges
from deepmd.schema.descriptor import Selection

log = logging.getLogger(__name__)

_CHUNK_ATOMS = 1024  # larger arrays leave the caches


def neighbor_stat(
    systems: Sequence[System],
    rcut: float,
    ntypes: int,
    *,
    mixed_types: bool = False,
    virtual_scale: Sequence[float] | None = None,
) -> tuple[float, np.ndarray]:
    """Go through all frames.

    Parameters
    ----------
    systems : sequence of System
    rcut : float
        Cutoff [Å].
    ntypes : int
        Number of types.
    mixed_types : bool
        Count neighbors of all types together.
    virtual_scale : sequence of float, optional
        Displacement of virtual atoms per unit of spin [Å], by types: they are counted, too; of a
        type and its virtual one the larger number is returned.

    Returns
    -------
    min_nbor_dist : float
        Smallest distance [Å]; infinite when no atom has a neighbor.
    max_nbor_size : (ntypes,) int64, or (1,) with ``mixed_types``
        Largest number of neighbors, of each type, any atom has.
    """
    min_dist, most = math.inf, np.zeros(1 if mixed_types else ntypes, dtype=np.int64)
    for system in with_progress(systems, "counted neighbors in %d of %d systems"):
        system.count_types(ntypes)  # raises on a type outside of the type map
        for frames in _frame_ranges(system):
            batch = system.load(frames, [SPIN] if virtual_scale is not None else [])
            bad = _coincident(batch)
            if bad.any():
                raise DataError(
                    f"two atoms of frame {frames[bad][0]} are at the same place",
                    where=system.path,
                    fix="remove the duplicate atom or the frame",
                )
            with located(f"{system.path}: frames {frames[0]} to {frames[-1]}"):
                distance, counts = _batch_stat(batch, rcut, ntypes, mixed_types)
                if virtual_scale is not None:
                    counts = _count_with_partners(batch, rcut, virtual_scale, mixed_types)
            min_dist, most = min(min_dist, distance), np.maximum(most, counts)
    return min_dist, most


def drop_close_pairs(systems: Sequence[System], shortest: float) -> None:
    """Leave out frames with atoms closer than ``shortest`` [Å]; a system may be left without any.

    Raises
    ------
    DataError
        If nothing is left.
    """
    if shortest <= 0:
        return
    before = sum(s.nframes for s in systems)
    for system in systems:
        kept = []
        for frames in _frame_ranges(system):
            batch = system.load(frames)
            closest = np.where(_coincident(batch), 0.0, np.inf)
            with located(f"{system.path}: frames {frames[0]} to {frames[-1]}"):
                edges = batch_edges(batch, shortest)
            batch.edges = edges
            vec = batch.vectors()
            np.minimum.at(closest, batch.frame[edges.i], np.sqrt(np.einsum("ea,ea->e", vec, vec)))
            kept.append(frames[closest >= shortest])
        system.keep(np.concatenate(kept))
    dropped = before - sum(s.nframes for s in systems)
    if dropped == before:
        raise DataError(
            f"every frame has atoms closer than {shortest} Å", where="min_pair_dist", fix="lower it"
        )
    if dropped:
        log.info("%d of %d frames have atoms closer than %g Å", dropped, before, shortest)


def _frame_ranges(system: System) -> Iterator[np.ndarray]:
    """Iterate over all frames, a moderate number of atoms at a time."""
    step = max(1, _CHUNK_ATOMS // system.natoms)
    for first in range(0, system.nframes, step):
        yield np.arange(first, min(first + step, system.nframes))


def _batch_stat(
    batch: Batch, rcut: float, ntypes: int, mixed_types: bool
) -> tuple[float, np.ndarray]:
    batch.edges = edges = batch_edges(batch, rcut)
    vec = batch.vectors()
    min_dist = math.sqrt(float(np.einsum("ea,ea->e", vec, vec).min(initial=math.inf)))
    n, width = batch.n_atoms, 1 if mixed_types else ntypes
    key = edges.i if mixed_types else edges.i * ntypes + batch.atype[edges.j]
    return min_dist, np.bincount(key, minlength=n * width).reshape(n, width).max(axis=0)


def _count_with_partners(
    batch: Batch, rcut: float, virtual_scale: Sequence[float], mixed_types: bool
) -> np.ndarray:
    """Largest numbers of neighbors among atoms and their virtual partners."""
    ntypes, twice = len(virtual_scale), with_partners(batch, virtual_scale)
    twice.edges = edges = batch_edges(twice, rcut)
    counts = np.zeros((twice.n_atoms, 2 * ntypes), dtype=np.int64)
    np.add.at(counts, (edges.i, twice.atype[edges.j]), 1)
    # An atom without spin and its partner are at the same place, which no list of pairs has.
    same = np.flatnonzero((twice.coord[0::2] == twice.coord[1::2]).all(axis=1))
    counts[2 * same, twice.atype[2 * same + 1]] += 1
    counts[2 * same + 1, twice.atype[2 * same]] += 1
    if mixed_types:
        return counts.sum(axis=1).max(keepdims=True)
    return counts.max(axis=0).reshape(2, ntypes).max(axis=0)


def longest_shift(systems: Sequence[System], virtual_scale: Sequence[float]) -> float:
    """Return the largest distance of an atom and its virtual partner in any frame [Å]."""
    parts = (s.load(frames, [SPIN]) for s in systems for frames in _frame_ranges(s))
    return max((farthest_partner(batch, virtual_scale) for batch in parts), default=0.0)


def _coincident(batch: Batch) -> np.ndarray:
    """Whether two atoms of a frame are at the same place."""
    return np.isin(np.arange(batch.n_frames), batch.frame[batch.coincident()[:, 0]])


def resolve_sel(
    sel: int | str | Sequence[int], counts: np.ndarray, *, where: str = "sel"
) -> int | list[int]:
    """Replace ``"auto"``, ``"auto:f"`` by the counts times f (1.1), rounded up to multiples of 4.

    Parameters
    ----------
    sel : int, sequence of int or str
        Given numbers are returned as they are; a warning is logged if the data have more.
    counts : (ntypes,) or (1,)
        From :func:`neighbor_stat`; one number for a mixed-type descriptor.
    """
    single = len(counts) == 1
    if not isinstance(sel, str):
        given = np.atleast_1d(np.asarray(sel, dtype=np.int64))
        if single:
            given = given.sum(keepdims=True)
        if given.shape == counts.shape and (given < counts).any():
            log.warning(
                "%s is %s, but the data have up to %s neighbors: the farthest will be left out",
                where,
                given.tolist(),
                counts.tolist(),
            )
        return sel if isinstance(sel, int) else list(sel)
    name, _, factor = sel.partition(":")
    try:
        ratio = float(factor) if factor else 1.1
    except ValueError:
        ratio = math.nan
    if name != "auto" or not 0 < ratio < math.inf:
        raise InputError(f'"{sel}" is not understood', where=where, fix='use "auto" or "auto:1.1"')
    if not counts.any():
        raise InputError(
            "no atom of the data has a neighbor within the cutoff",
            where=where,
            fix='give numbers instead of "auto", or a larger cutoff',
        )
    # Rounded first: 40 * 1.1 is a little above 44 in floating point.
    sizes = [4 * math.ceil(round(int(c) * ratio, 6) / 4) for c in counts]
    return sizes[0] if single else sizes


def model_selections(section: Any, where: str = "model") -> Iterator[Selection]:
    """Iterate over the numbers of neighbors in a model section, as its components declare them."""
    kind = AtomicModel.kind_of(section)
    return iter(()) if kind is None else kind.selections(section, where)


def update_sel(
    found: Iterable[Selection],
    systems: Sequence[System],
    ntypes: int,
    *,
    virtual_scale: Sequence[float] | None = None,
) -> float:
    """Resolve every ``"auto"`` in place; return the smallest distance of the data [Å].

    With ``virtual_scale``, virtual atoms are counted; see :func:`neighbor_stat`.
    """
    known: dict[tuple[float, bool], tuple[float, np.ndarray]] = {}
    for one in found:
        key = one.rcut, one.mixed
        if key not in known:
            known[key] = neighbor_stat(
                systems, one.rcut, ntypes, mixed_types=one.mixed, virtual_scale=virtual_scale
            )
        one.value = resolve_sel(one.value, known[key][1], where=one.where)
    return min((distance for distance, _ in known.values()), default=math.inf)
