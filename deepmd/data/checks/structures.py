# SPDX-License-Identifier: LGPL-3.0-or-later
"""Checks of structures: overlaps, isolated atoms, copies, leaks into validation data, neighbors."""

import math
from collections.abc import Sequence

import numpy as np

from deepmd.data.checks.finding import Finding
from deepmd.data.fingerprint import fingerprints
from deepmd.data.frames import Frame, Frames
from deepmd.dpmodel.neighbors import find_edges

#: Distances [Å]: atoms do not come closer; no bond is shorter than the second.
OVERLAP, SHORT = 0.4, 0.65
#: Fingerprints that differ less are of one structure, or of nearly one.
_SAME, _NEAR = 1e-6, 1e-2
#: Frames that are looked at for distances and neighbors.
_MOST = 2000


def sampled(count: int, most: int = _MOST) -> np.ndarray:
    """Return numbers of frames, evenly spread."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(np.int64))


def check_structures(
    frames: Frames, rcut: float, sel: int | Sequence[int] | None = None
) -> tuple[list[Finding], list[int], float]:
    """Return findings, the largest number of neighbors of each type within the cutoff, and the mean."""
    nearest, place = math.inf, frames.frames[0]
    pairs = atoms = 0
    most, isolated, alone = np.zeros(len(frames.names), dtype=np.int64), 0, place
    for k in sampled(len(frames.frames)):
        frame = frames.frames[k]
        edges = find_edges(frame.coord, frame.cell, rcut)
        pairs, atoms = pairs + len(edges.i), atoms + len(frame.types)
        counts = np.zeros((len(frame.types), len(frames.names)), dtype=np.int64)
        np.add.at(counts, (edges.i, frame.types[edges.j]), 1)
        most = np.maximum(most, counts.max(axis=0, initial=0))
        lonely = counts.sum(axis=1) == 0
        if lonely.any() and len(frame.types) > 1:
            isolated, alone = isolated + 1, frame
        distance = _nearest(frame, edges)
        if distance < nearest:
            nearest, place = float(distance), frame
    out = _distances(nearest, place)
    if isolated:
        text = f"atoms without a neighbor within {rcut:g} Å in {isolated} frames"
        where = f"{alone.source}: frame {alone.number}"
        fix = "a larger cutoff, or leave these frames out"
        out.append(Finding("warning", "isolated", text, isolated, where, fix))
    needed = most.tolist()
    if sel is not None:
        out += _overflow(sel, needed, rcut)
    return out, needed, pairs / max(atoms, 1)


def _nearest(frame: Frame, edges: object) -> float:
    if len(np.unique(frame.coord, axis=0)) < len(frame.coord):
        return 0.0
    i, j, shift = edges.i, edges.j, edges.shift  # type: ignore[attr-defined]
    vector = frame.coord[j] - frame.coord[i]
    if frame.cell is not None:
        vector = vector + shift @ frame.cell
    return float(np.sqrt(np.square(vector).sum(axis=1).min(initial=math.inf)))


def _distances(nearest: float, frame: Frame) -> list[Finding]:
    where = f"{frame.source}: frame {frame.number}"
    if nearest < OVERLAP:
        text = f"two atoms are {nearest:.3f} Å apart"
        return [
            Finding("error", "overlap", text, nearest, where, "remove such frames (min_pair_dist)")
        ]
    if nearest < SHORT:
        text = f"two atoms are {nearest:.3f} Å apart"
        return [Finding("warning", "short-distance", text, nearest, where, "are positions in Å?")]
    return []


def _overflow(sel: int | Sequence[int], needed: Sequence[int], rcut: float) -> list[Finding]:
    given = [sel] if isinstance(sel, int) else list(sel)
    wanted = [sum(needed)] if len(given) == 1 else list(needed)
    if len(given) != len(wanted) or all(g >= n for g, n in zip(given, wanted, strict=True)):
        return []
    text = f"sel is {given}, but atoms have up to {wanted} neighbors within {rcut:g} Å"
    fix = f'write "auto", or {[4 * math.ceil(1.1 * n / 4) for n in wanted]}'
    return [Finding("error", "sel", text, max(wanted), "model/descriptor/sel", fix)]


def check_copies(train: Frames, valid: Frames | None = None) -> list[Finding]:
    """Return findings about equal and nearly equal structures within and between data sets."""
    points = fingerprints(train)
    twins = _twins(points, points, same=True)
    out = []
    if len(twins):
        one, two = (train.frames[k] for k in twins[0])
        text = f"{len(np.unique(twins[:, 1]))} of {len(train.frames)} frames repeat another one"
        where = f"{two.source}: frame {two.number} is frame {one.number} of {one.source}"
        out.append(Finding("warning", "duplicates", text, len(twins), where, "remove them"))
    if valid is not None:
        same_names = Frames(train.names, valid.labels, valid.frames)
        out += _leaks(train, same_names, points, fingerprints(same_names))
    return out


def _leaks(train: Frames, valid: Frames, one: np.ndarray, two: np.ndarray) -> list[Finding]:
    for limit, level, code, what in (
        (_SAME, "error", "leak", "are in the training data, too"),
        (_NEAR, "warning", "near-leak", "hardly differ from one of the training data"),
    ):
        pairs = _twins(one, two, same=False, limit=limit)
        if len(pairs):
            count = len(np.unique(pairs[:, 1]))
            first, second = train.frames[pairs[0, 0]], valid.frames[pairs[0, 1]]
            text = f"{count} of {len(valid.frames)} validation frames {what}"
            where = (
                f"{second.source}: frame {second.number} (frame {first.number} of {first.source})"
            )
            fix = "divide the data anew: dp data split --by similarity"
            return [Finding(level, code, text, count / len(valid.frames), where, fix)]
    return []


def _twins(one: np.ndarray, two: np.ndarray, *, same: bool, limit: float = _SAME) -> np.ndarray:
    """Pairs (n, 2) of points nearer than ``limit``: of the first and the second set."""
    scale = 1.0 / max(float(np.abs(one).max(initial=0.0)), 1e-12)
    direction = np.asarray(np.random.default_rng(0).normal(size=one.shape[1]))
    direction = direction / np.linalg.norm(direction)
    order = np.argsort(one @ direction, kind="stable")
    line = (one @ direction)[order]
    reach = limit / scale
    found = []
    for k, point in enumerate(two):
        place = float(point @ direction)
        low, high = np.searchsorted(line, [place - reach, place + reach])
        near = order[low:high]
        near = near[near < k] if same else near
        close = near[np.square(one[near] - point).sum(axis=1) <= reach**2]
        if len(close):
            found.append((int(close[0]), k))
    return np.array(found, dtype=np.int64).reshape(-1, 2)
