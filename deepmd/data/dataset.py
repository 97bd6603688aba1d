# SPDX-License-Identifier: LGPL-3.0-or-later
"""What a trainer asks of data: the next batch, fixed batches, batches for statistics, a state."""

import collections
import queue
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np

from deepmd.data.cache import EdgeCache
from deepmd.data.sampler import Sampler
from deepmd.data.system import System
from deepmd.dpmodel.batch import Batch, Edges, join, join_edges
from deepmd.dpmodel.label import Label
from deepmd.dpmodel.neighbors import find_edges
from deepmd.utils.errors import InputError


class Dataset:
    """Systems, a sampler and a cache of neighbours.

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
    """

    def __init__(
        self,
        systems: Sequence[System],
        sampler: Sampler,
        labels: Sequence[Label],
        *,
        rcut: float,
        cache_bytes: int = 1 << 30,
    ) -> None:
        if len(systems) != len(sampler.nframes):
            raise ValueError("the sampler was made for other systems")
        self.systems, self.sampler, self.labels = list(systems), sampler, list(labels)
        self.rcut = float(rcut)
        self.cache = EdgeCache(cache_bytes)
        self.found = [system.check(self.labels) for system in self.systems]

    def next(self) -> Batch:
        """Return the next batch of the stream, with edges."""
        return join([self.load(*part) for part in self.sampler.parts()])

    def load(self, system_index: int, frames: Sequence[int] | np.ndarray) -> Batch:
        """Return given frames of a system, with edges."""
        batch = self.systems[system_index].load(frames, self.labels)
        ends = batch.offsets()
        parts = [
            self._edges(system_index, int(frame), batch, k, slice(ends[k], ends[k + 1]))
            for k, frame in enumerate(frames)
        ]
        batch.edges, batch.reach = join_edges(parts, batch.natoms.tolist()), self.rcut
        return batch

    def _edges(self, system: int, frame: int, batch: Batch, k: int, atoms: slice) -> Edges:
        """Edges of frame ``k`` of a batch, numbered within the frame."""
        known = self.cache.get(system, frame)
        if known is not None:
            return known
        cell = batch.cell[k] if batch.periodic[k] else None
        edges = find_edges(batch.coord[atoms], cell, self.rcut)
        self.cache.put(system, frame, edges, int(batch.natoms[k]))
        return edges

    def statistics_batches(self, nbatch: int) -> list[list[Batch]]:
        """Return, per system in use, up to ``nbatch`` batches of different frames, with edges.

        The same ones on every call, whatever was drawn before; all frames where there are fewer.
        """
        out = []
        for index, size in enumerate(self.sampler.batch_sizes):
            if size == 0:
                continue
            frames = self.sampler.selection(index, nbatch * size)
            out.append(
                [self.load(index, frames[k : k + size]) for k in range(0, len(frames), size)]
            )
        return out

    def state(self) -> dict[str, np.ndarray]:
        """Return the sampler's state."""
        return self.sampler.state()

    def load_state(self, state: dict[str, np.ndarray]) -> None:
        """Continue the stream where :meth:`state` was taken."""
        self.sampler.load_state(state)

    def summary(self, title: str = "training") -> str:
        """Return a table of the systems: name, atoms, batch size, batches, probability, pbc."""
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
            pbc = "T" if s.periodic else "F"
            lines.append(
                f"{s.path[-42:]:>42}  {s.natoms:6d}  {size:6d}  {n:6d}  {p:9.3e}  {pbc:>3}"
            )
        return "\n".join(lines)


class Prefetcher:
    """Load batches of a dataset ahead in one thread.

    The stream is that of the dataset, and :meth:`state` tells of batches handed out only, never of
    those waiting. An error while loading is raised by the :meth:`next` that would have got the
    batch. While a prefetcher is open, the dataset itself must not be drawn from.

    Parameters
    ----------
    dataset : Dataset
    depth : int
        Batches kept waiting.
    """

    def __init__(self, dataset: Dataset, depth: int = 2) -> None:
        if depth < 1:
            raise InputError(f"found {depth}, expected at least 1", where="prefetch depth")
        self.dataset, self.depth = dataset, depth
        self._consumed = dataset.state()
        self._start()

    def _start(self) -> None:
        self._stop = threading.Event()
        self._ready: queue.Queue[Any] = queue.Queue(maxsize=self.depth)
        self._thread = threading.Thread(target=self._work, daemon=True, name="prefetch")
        self._thread.start()

    def _work(self) -> None:
        item: Any
        while not self._stop.is_set():
            try:
                item = self.dataset.next(), self.dataset.state()
            except BaseException as error:  # noqa: BLE001 - handed to the thread that asks for the batch
                item = error
            while not self._stop.is_set():
                try:
                    self._ready.put(item, timeout=0.1)
                    break
                except queue.Full:
                    continue
            if isinstance(item, BaseException):
                return

    def next(self) -> Batch:
        """Return the next batch of the stream."""
        item = self._ready.get()
        if isinstance(item, BaseException):
            self._ready.put(item)  # a later call meets it again instead of waiting for ever
            raise item
        batch, self._consumed = item
        return batch

    def state(self) -> dict[str, np.ndarray]:
        """Return the sampler's state after the last batch handed out."""
        return {name: value.copy() for name, value in self._consumed.items()}

    def load_state(self, state: dict[str, np.ndarray]) -> None:
        """Drop what is waiting and continue where ``state`` was taken."""
        self._halt()
        self.dataset.load_state(state)
        self._consumed = self.dataset.state()
        self._start()

    def close(self) -> None:
        """End the thread; the dataset then stands after the last batch handed out."""
        self._halt()
        self.dataset.load_state(self._consumed)

    def _halt(self) -> None:
        self._stop.set()
        self._thread.join()

    def __enter__(self) -> "Prefetcher":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def count_observed(systems: Sequence[System], ntypes: int) -> np.ndarray:
    """Atoms of each type in one pass over the data: (ntypes,)."""
    total: collections.Counter[int] = collections.Counter()
    for system in systems:
        counts = system.count_types(ntypes).sum(axis=0) * (1 if system.mixed else system.nframes)
        total.update({t: int(c) for t, c in enumerate(counts)})
    return np.array([total[t] for t in range(ntypes)], dtype=np.int64)
