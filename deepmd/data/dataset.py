# SPDX-License-Identifier: LGPL-3.0-or-later
"""Data set of a trainer: the next batch, fixed batches, batches for statistics, a state."""

import collections
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from deepmd.base.errors import InputError, located
from deepmd.data.cache import EdgeCache
from deepmd.data.sampler import Sampler
from deepmd.data.system import System
from deepmd.dpmodel.batch import Batch, Edges, join, join_edges
from deepmd.dpmodel.label import Label
from deepmd.dpmodel.neighbors import find_edges

#: Systems that a summary shows, at most.
_LISTED = 50


class Dataset:
    """Systems, a sampler and a cache of neighbors.

    Parameters
    ----------
    systems : sequence of System
    sampler : Sampler
        Made for these systems.
    labels : sequence of Label
        What every batch shall hold. Presence, type and shape of every file are checked here.
    rcut : float
        Cutoff of the edges [Å].
    cache_bytes : int
        Memory for cached edges.
    correction : function, optional
        Returns the terms of a batch with edges that its labels of the same names are less; they are
        kept, since they are the same in every step.
    """

    def __init__(
        self,
        systems: Sequence[System],
        sampler: Sampler,
        labels: Sequence[Label],
        *,
        rcut: float,
        cache_bytes: int = 1 << 30,
        correction: Callable[[Batch], Mapping[str, np.ndarray]] | None = None,
    ) -> None:
        if len(systems) != len(sampler.nframes):
            raise ValueError("the sampler was made for other systems")
        self.systems, self.sampler, self.labels = list(systems), sampler, list(labels)
        self.rcut = float(rcut)
        self.cache = EdgeCache(cache_bytes)
        self.correction = correction
        self._terms: dict[tuple[int, int], Mapping[str, np.ndarray]] = {}
        self.found = [system.check(self.labels) for system in self.systems]

    def next(self) -> Batch:
        """Return the next batch of the stream, with edges.

        Where a system has no frame for this rank, one of weight 0 takes its place.
        """
        parts = self.sampler.parts()
        if sum(len(frames) for _, frames in parts) == 0:
            batch = self.load(parts[0][0], [0])
            return dataclasses.replace(batch, weight=np.zeros(1))
        return join([self.load(*part) for part in parts])

    def load(self, system_index: int, frames: Sequence[int] | np.ndarray) -> Batch:
        """Return given frames of a system, with edges."""
        batch = self.systems[system_index].load(frames, self.labels)
        ends = batch.offsets()
        parts = [
            self._edges(system_index, int(frame), batch, k, slice(ends[k], ends[k + 1]))
            for k, frame in enumerate(frames)
        ]
        batch.edges, batch.reach = join_edges(parts, batch.natoms.tolist()), self.rcut
        self._correct(system_index, frames, batch)
        return batch

    def without_edges(self, system_index: int, frames: Sequence[int] | np.ndarray) -> Batch:
        """Return given frames of a system; edges are found only where a correction needs them."""
        if self.correction is not None:
            return self.load(system_index, frames)
        return self.systems[system_index].load(frames, self.labels)

    def _correct(self, system: int, frames: Sequence[int] | np.ndarray, batch: Batch) -> None:
        """Subtract the terms of the correction from the labels, in place."""
        if self.correction is None:
            return
        parts = []
        for k, frame in enumerate(frames):
            key = system, int(frame)
            if key not in self._terms:
                with located(f"{self.systems[system].path}: frame {frame}"):
                    self._terms[key] = self.correction(batch.frames(k, k + 1))
            parts.append(self._terms[key])
        for name in parts[0]:
            if batch.find.get(name, 0.0) > 0:
                terms = np.concatenate([part[name] for part in parts])
                batch.labels[name] = batch.labels[name] - terms.reshape(batch.labels[name].shape)

    def _edges(self, system: int, frame: int, batch: Batch, k: int, atoms: slice) -> Edges:
        """Edges of frame ``k`` of a batch, numbered within the frame."""
        known = self.cache.get(system, frame)
        if known is not None:
            return known
        cell = batch.cell[k] if batch.periodic[k] else None
        with located(f"{self.systems[system].path}: frame {frame}"):
            edges = find_edges(batch.coord[atoms], cell, self.rcut)
        self.cache.put(system, frame, edges, int(batch.natoms[k]))
        return edges

    def state(self) -> dict[str, np.ndarray]:
        """Return the sampler's state."""
        return self.sampler.state()

    def load_state(self, state: dict[str, np.ndarray]) -> None:
        """Continue the stream where :meth:`state` was taken."""
        self.sampler.load_state(state)

    def summary(self, title: str = "training") -> str:
        """Return a table of the systems: name, atoms, batch size, batches, probability, pbc.

        Of many systems the first are shown, and the sums of all.
        """
        lines = [
            f"---Summary of DataSystem: {title}---",
            f"found {len(self.systems)} system(s):",
            f"{'system':>42}  {'natoms':>6}  {'bch_sz':>6}  {'n_bch':>6}  {'prob':>9}  pbc",
        ]
        for s, size, n, p in zip(
            self.systems,
            self.sampler.batch_sizes,
            self.sampler.nbatches,
            self.sampler.probabilities,
            strict=True,
        ):
            if len(lines) == _LISTED + 3 and len(self.systems) > _LISTED + 1:
                sizes = [s.natoms for s in self.systems]
                lines.append(
                    f"… and {len(self.systems) - _LISTED} more; in all "
                    f"{sum(s.nframes for s in self.systems)} frames of {min(sizes)} to "
                    f"{max(sizes)} atoms, {int(sum(self.sampler.nbatches))} batches"
                )
                break
            pbc = "T" if s.periodic else "F"
            lines.append(
                f"{s.path[-42:]:>42}  {s.natoms:6d}  {size:6d}  {n:6d}  {p:9.3e}  {pbc:>3}"
            )
        return "\n".join(lines)


class Prefetcher:
    """Load batches of a dataset ahead in one thread.

    The stream is that of the dataset, and :meth:`state` tells of batches handed out only, never of
    those waiting. An error while loading is raised by the :meth:`next` that would have got the
    batch, and by later ones. While a prefetcher is open, the dataset itself must not be drawn from.

    Parameters
    ----------
    dataset : Dataset
    depth : int
        Batches being loaded and kept waiting.
    """

    def __init__(self, dataset: Dataset, depth: int = 3) -> None:
        if depth < 1:
            raise InputError(f"found {depth}, expected at least 1", where="prefetch depth")
        self.dataset, self._consumed = dataset, dataset.state()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="prefetch")
        self._ready = collections.deque(self._thread.submit(self._load) for _ in range(depth))

    def _load(self) -> tuple[Batch, dict[str, np.ndarray]]:
        return self.dataset.next(), self.dataset.state()

    def next(self) -> Batch:
        """Return the next batch of the stream."""
        batch, self._consumed = self._ready[0].result()
        self._ready.popleft()
        self._ready.append(self._thread.submit(self._load))
        return batch

    def peek(self) -> Batch:
        """Return the batch that :meth:`next` will return."""
        return self._ready[0].result()[0]

    def give_back(self, state: dict[str, np.ndarray]) -> None:
        """Count batches handed out after ``state`` as not used; nothing more may be asked for."""
        self._consumed = state

    def state(self) -> dict[str, np.ndarray]:
        """Return the sampler's state after the last batch handed out."""
        return {name: value.copy() for name, value in self._consumed.items()}

    def __enter__(self) -> "Prefetcher":
        return self

    def __exit__(self, *_: object) -> None:
        """End the thread; the dataset then stands after the last batch handed out."""
        self._thread.shutdown(cancel_futures=True)
        self.dataset.load_state(self._consumed)


def count_observed(systems: Sequence[System], ntypes: int) -> np.ndarray:
    """Atoms of each type in one pass over the data: (ntypes,)."""
    total = np.zeros(ntypes, dtype=np.int64)
    for system in systems:
        total += system.count_types(ntypes).sum(axis=0) * (1 if system.mixed else system.nframes)
    return total
