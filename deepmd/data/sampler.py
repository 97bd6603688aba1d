# SPDX-License-Identifier: LGPL-3.0-or-later
"""Choice of the frames of the next batch: batch sizes, probabilities, reproducible draws."""

import math
from collections.abc import Sequence

import numpy as np

from deepmd.base.errors import DataError, InputError


class Sampler:
    """A reproducible stream of (system, frames).

    Every step draws one system by the probabilities and takes the next frames of its current
    shuffle. A frame comes once per pass; when fewer frames than a batch are left, the pass ends and
    the system is shuffled anew, so batches keep their size. A system smaller than a batch is taken
    whole.

    Random numbers depend on (seed, step) and (seed, system, pass) only. So the state is three small
    arrays of counters, it is the same on every rank, and a restart continues the exact stream. With
    several ranks all draw the same system and take neighboring parts of one shuffle: together the
    frames that one process with a ``world`` times larger batch would take.

    A mixed batch, ``mixed:N`` or ``mix:N``, is put together of single frames: every one is drawn like
    a batch of one, until there are N frames, or N atoms. Ranks deal these batches out in turn.

    Parameters
    ----------
    nframes, natoms : sequence of int
        Of every system.
    batch_size : int, sequence of int or str
        A number, one per system, or ``auto``, ``auto:N``, ``max:N``, ``filter:N``, ``mixed:N``,
        ``mix:N``.
    auto_prob : str
        ``prob_uniform``, ``prob_sys_size`` or ``prob_sys_size;first:end:weight;...``.
    sys_probs : sequence of float, optional
        Probabilities; systems with a negative one share the rest in proportion to their batches.
    seed : int
    rank, world : int
        Number of this process, and number of processes; ``batch_size`` is that of each.
    numbers : sequence of (int, int), optional
        First and last of the systems that each of these stands for, as the blocks of ``auto_prob``
        count them; by default they count these.

    Attributes
    ----------
    batch_sizes, nbatches : list of int
        Frames that all processes take in a step, and such steps, per system; both 0 for a system that ``filter:N`` drops. Of mixed batches, the first says
        how many frames a batch for statistics has, the second counts frames.
    mixing : (str, int) or None
        Rule and limit of mixed batches.
    probabilities : (n_systems,) float64
    """

    def __init__(
        self,
        nframes: Sequence[int],
        natoms: Sequence[int],
        *,
        batch_size: int | Sequence[int] | str = "auto",
        auto_prob: str = "prob_sys_size",
        sys_probs: Sequence[float] | None = None,
        seed: int | None = 0,
        rank: int = 0,
        world: int = 1,
        numbers: Sequence[tuple[int, int]] | None = None,
    ) -> None:
        self.nframes, self._natoms = np.asarray(nframes, dtype=np.int64), list(natoms)
        self.batch_sizes = [world * b for b in batch_sizes(batch_size, natoms)]
        rule = _rule(batch_size) if isinstance(batch_size, str) else ("", 0)
        self.mixing = rule if rule[0] in ("mixed", "mix") else None
        self._drawn = self.batch_sizes if self.mixing is None else [1] * len(self.batch_sizes)
        self.nbatches = [
            max(1, f // b) if b > 0 and f > 0 else 0
            for f, b in zip(nframes, self._drawn, strict=True)
        ]
        self.probabilities = (
            block_probabilities(auto_prob, self.nbatches, numbers)
            if sys_probs is None
            else given_probabilities(sys_probs, self.nbatches)
        )
        cumulative = np.cumsum(self.probabilities)
        self._cumulative = cumulative / cumulative[-1]
        self._seed = int(seed or 0) % 2**63
        self.rank, self.world = rank, world
        self._step = 0
        self._pass = np.zeros(len(self.nframes), dtype=np.int64)
        self._cursor = np.zeros(len(self.nframes), dtype=np.int64)
        self._orders: dict[int, tuple[int, np.ndarray]] = {}

    def parts(self) -> list[tuple[int, np.ndarray]]:
        """Return the (system, frames) that the next batch is put together of.

        There is no frame for a rank if the system has fewer frames than there are ranks.
        """
        if self.mixing is None:
            return [self.draw()]
        # Every rank draws all batches and keeps its own.
        batches = [self._mixed_parts(*self.mixing) for _ in range(self.world)]
        return batches[self.rank]

    def _mixed_parts(self, kind: str, limit: int) -> list[tuple[int, np.ndarray]]:
        parts: dict[int, list[np.ndarray]] = {}
        total = 0
        while total < limit:
            system, frames = self.draw()
            parts.setdefault(system, []).append(frames)
            total += 1 if kind == "mixed" else self._natoms[system]
        return [(system, np.concatenate(frames)) for system, frames in parts.items()]

    def draw(self) -> tuple[int, np.ndarray]:
        """Return the next (system, frames); of mixed batches, the next frame."""
        u = np.random.default_rng([self._seed, 0, self._step]).random()
        system = int(np.searchsorted(self._cumulative, u, side="right"))
        self._step += 1
        return system, self._next_frames(system)

    def _next_frames(self, system: int) -> np.ndarray:
        total = int(self.nframes[system])
        block = min(self._drawn[system], total)
        if self._cursor[system] + block > total:
            self._cursor[system] = 0
            self._pass[system] += 1
        start = int(self._cursor[system])
        self._cursor[system] += block
        mine = slice(start, start + block)
        if self.mixing is None:
            rank, world = self.rank, self.world
            mine = slice(start + rank * block // world, start + (rank + 1) * block // world)
        return self._order(system)[mine]

    def _order(self, system: int) -> np.ndarray:
        """Return the shuffle of the current pass; kept, being needed until the pass ends."""
        now = int(self._pass[system])
        kept = self._orders.get(system)
        if kept is None or kept[0] != now:
            random = np.random.default_rng([self._seed, 1, system, now])
            kept = self._orders[system] = now, random.permutation(self.nframes[system])
        return kept[1]

    def steps_per_epoch(self) -> int:
        """Return the steps after which every system is expected to have been seen once."""
        used = self.probabilities > 0
        draws = (np.asarray(self.nbatches)[used] / self.probabilities[used]).max()
        per_step = 1.0
        if self.mixing is not None:
            kind, limit = self.mixing
            mean = 1.0 if kind == "mixed" else float(self.probabilities @ self._natoms)
            per_step = self.world * max(limit / mean, 1.0)
        return math.ceil(draws / per_step)

    def selection(self, system: int, count: int) -> np.ndarray:
        """Frames for statistics: at most ``count``, without repetition, always the same ones."""
        total = int(self.nframes[system])
        if count >= total:
            return np.arange(total)
        random = np.random.default_rng([self._seed, 2, system])
        return np.sort(random.choice(total, size=count, replace=False))

    def state(self) -> dict[str, np.ndarray]:
        """Return what a restart needs to go on with the next draw."""
        return {
            "step": np.array(self._step, dtype=np.int64),
            "seed": np.array(self._seed, dtype=np.int64),
            "pass": self._pass.copy(),
            "cursor": self._cursor.copy(),
            "nframes": self.nframes.copy(),
        }

    def load_state(self, state: dict[str, np.ndarray]) -> None:
        """Continue where :meth:`state` was taken.

        Raises
        ------
        DataError
            If the state belongs to other data.
        """
        known = np.asarray(state["nframes"])
        if not np.array_equal(known, self.nframes):
            raise DataError(
                f"the data have {len(self.nframes)} systems with {self.nframes.sum()} frames, "
                f"the checkpoint was written with {known.size} systems and {known.sum()} frames",
                where="training data",
                fix="restart with the same data, or start anew from the model (--init-model)",
            )
        self._step, self._seed = int(state["step"]), int(state["seed"])
        self._pass = np.array(state["pass"], dtype=np.int64)
        self._cursor = np.array(state["cursor"], dtype=np.int64)
        self._orders.clear()


def batch_sizes(rule: int | Sequence[int] | str, natoms: Sequence[int]) -> list[int]:
    """Batch size of every system; 0 where the rule drops it."""
    where, n = "batch_size", len(natoms)
    if isinstance(rule, str):
        kind, limit = _rule(rule)
        if kind == "mixed":
            return [limit] * n
        if kind == "auto":
            return [-(-limit // a) for a in natoms]
        sizes = [max(1, limit // a) for a in natoms]
        if kind in ("max", "mix"):
            return sizes
        if min(natoms) > limit:
            raise InputError(
                f'"{rule}" drops every system; the smallest has {min(natoms)} atoms',
                where=where,
                fix="raise the limit",
            )
        return [b if a <= limit else 0 for a, b in zip(natoms, sizes, strict=True)]
    if isinstance(rule, int | np.integer):
        sizes = [int(rule)] * n
    else:
        sizes = [int(b) for b in rule]
        if len(sizes) != n:
            raise InputError(
                f"{len(sizes)} numbers for {n} systems",
                where=where,
                fix="give one number, or one per system (a folder may hold several systems)",
            )
    if min(sizes) < 1:
        raise InputError(f"found {min(sizes)}, expected at least 1", where=where)
    return sizes


def _rule(rule: str) -> tuple[str, int]:
    """Read ``kind:limit``; "auto" means "auto:32"."""
    kind, _, number = ("auto:32" if rule == "auto" else rule).partition(":")
    known = ("auto", "max", "filter", "mixed", "mix")
    if kind not in known or not number.isdecimal() or int(number) < 1:
        rules = ", ".join(f'"{k}:N"' for k in known)
        raise InputError(
            f'"{rule}" is not a rule',
            where="batch_size",
            fix=f'use a number, a list, "auto", {rules}',
        )
    return kind, int(number)


def read_blocks(style: str, n: int | None = None) -> list[tuple[int, int, float]]:
    """Return (first, end, weight) of the blocks in ``auto_prob``, of ``n`` systems if known."""
    where, out = "auto_prob", []
    for block in _parts(style)[1:]:
        try:
            first_word, end_word, share_word = block.split(":")
            first, end, share = int(first_word), int(end_word), float(share_word)
        except ValueError:
            raise InputError(f'"{block}" is not first:end:weight', where=where) from None
        fits = 0 <= first < end and (n is None or end <= n)
        if not fits or not (0 <= share < math.inf):
            raise InputError(
                f'block "{block}" does not fit {n or "the"} systems',
                where=where,
                fix="0 <= first < end <= number of systems, weight >= 0",
            )
        out.append((first, end, share))
    return out


def _parts(style: str) -> list[str]:
    return [part.strip() for part in style.split(";") if part.strip()]


def block_probabilities(
    style: str, nbatches: Sequence[int], numbers: Sequence[tuple[int, int]] | None = None
) -> np.ndarray:
    """Probabilities by ``auto_prob``; see :class:`Sampler` for ``numbers``."""
    where, weight = "auto_prob", np.asarray(nbatches, dtype=np.float64)
    if _parts(style) == ["prob_uniform"]:
        return (weight > 0) / np.count_nonzero(weight)
    if _parts(style)[:1] != ["prob_sys_size"]:
        raise InputError(
            f'"{style}" is not a rule',
            where=where,
            fix='use "prob_uniform", "prob_sys_size" or "prob_sys_size;first:end:weight;..."',
        )
    spans = np.array([(k, k) for k in range(len(weight))] if numbers is None else numbers)
    n = int(spans[:, 1].max()) + 1
    out = np.zeros(len(weight))
    taken = np.zeros(len(weight), dtype=bool)
    for first, end, share in read_blocks(style, n) or [(0, n, 1.0)]:
        inside = (spans[:, 0] >= first) & (spans[:, 0] < end)
        if taken[inside].any():
            raise InputError(f'block "{first}:{end}" overlaps another one', where=where)
        taken |= inside
        if share > 0 and weight[inside].sum() > 0:
            out[inside] = share * weight[inside] / weight[inside].sum()
    if not out.sum() > 0:
        raise InputError("every system has probability 0", where=where, fix="give positive weights")
    return out / out.sum()


def given_probabilities(probs: Sequence[float], nbatches: Sequence[int]) -> np.ndarray:
    """Probabilities by ``sys_probs``."""
    where, weight = "sys_probs", np.asarray(nbatches, dtype=np.float64)
    out = np.array(probs, dtype=np.float64)
    if out.shape != weight.shape:
        raise InputError(
            f"{out.size} numbers for {weight.size} systems", where=where, fix="give one per system"
        )
    if not np.isfinite(out).all():
        raise InputError("a number is NaN or infinite", where=where)
    free = out < 0
    rest = 1.0 - out[~free].sum()
    if rest < -1e-6 or (not free.any() and rest > 1e-6):
        raise InputError(
            f"the given numbers sum to {1.0 - rest:g}",
            where=where,
            fix="make them sum to 1, or use negative ones for systems that share the rest",
        )
    if free.any() and weight[free].sum() > 0:
        out[free] = max(rest, 0.0) * weight[free] / weight[free].sum()
    out[weight == 0] = 0.0
    if not out.sum() > 0:
        raise InputError("every system that is left has probability 0", where=where)
    return out / out.sum()
