# SPDX-License-Identifier: LGPL-3.0-or-later
"""Division of frames into parts: by frame, by composition, by similarity of structures."""

from collections.abc import Sequence

import numpy as np

from deepmd.base.errors import InputError
from deepmd.data.fingerprint import fingerprints
from deepmd.data.frames import Frames

#: Clusters of similar structures for every part that is divided off.
_CLUSTERS_PER_PART = 8


def split(
    frames: Frames, fractions: Sequence[float], by: str = "frame", seed: int = 0
) -> list[np.ndarray]:
    """Return the numbers of the frames of every part, ascending.

    Parameters
    ----------
    frames : Frames
    fractions : sequence of float
        Sizes of the parts; they add up to 1.
    by : {"frame", "composition", "similarity"}
        What stays together: nothing, frames of one composition, or frames with similar structures
        (clusters of their fingerprints), so that validation data are not copies of training data.
    seed : int

    Raises
    ------
    InputError
        If there is too little to divide.
    """
    shares = np.asarray(fractions, dtype=np.float64)
    if len(shares) < 2 or (shares <= 0).any() or abs(shares.sum() - 1.0) > 1e-6:
        raise InputError(
            f"{' '.join(f'{s:g}' for s in shares)} are no parts of 1",
            where="--fractions",
            fix="write positive numbers whose sum is 1, as 0.9 0.1",
        )
    groups = _groups(frames, by, len(shares), float(shares.min()))
    if len(groups) < len(shares):
        raise InputError(
            f"{len(groups)} different {by}s cannot be divided into {len(shares)} parts",
            where="--by",
            fix="add data, or divide by frame",
        )
    return _deal(groups, shares, np.random.default_rng(seed))


def _groups(frames: Frames, by: str, parts: int, smallest: float) -> list[np.ndarray]:
    count = len(frames.frames)
    if by == "frame":
        return [np.array([k]) for k in range(count)]
    if by == "composition":
        names = np.array([frames.formula(f) for f in frames.frames])
        return [np.flatnonzero(names == n) for n in np.unique(names)]
    wanted = max(_CLUSTERS_PER_PART * parts, int(np.ceil(2.0 / smallest)))
    nearest = clusters(fingerprints(frames), wanted)
    return [np.flatnonzero(nearest == k) for k in np.unique(nearest)]


def clusters(points: np.ndarray, wanted: int) -> np.ndarray:
    """Number of the center that is nearest to every point; centers are chosen farthest first.

    Points at one place are in one cluster.
    """
    distance = np.full(len(points), np.inf)
    nearest = np.zeros(len(points), dtype=np.int64)
    center = int(np.argmin(np.square(points - points.mean(axis=0)).sum(axis=1)))
    for k in range(min(wanted, len(points))):
        new = np.square(points - points[center]).sum(axis=1)
        closer = new < distance
        nearest[closer], distance = k, np.minimum(distance, new)
        center = int(np.argmax(distance))
        if distance[center] <= 1e-18:
            break
    return nearest


def _deal(
    groups: list[np.ndarray], shares: np.ndarray, random: np.random.Generator
) -> list[np.ndarray]:
    """Give every group to the part that lacks most; every part gets at least one."""
    total = sum(len(g) for g in groups)
    parts: list[list[np.ndarray]] = [[] for _ in shares]
    sizes = np.zeros(len(shares))
    # Small parts first take their fill in random order, so that none stays empty.
    for place, number in enumerate(random.permutation(len(groups))):
        left = len(groups) - place
        empty = [k for k, p in enumerate(parts) if not p]
        lack = shares * total - sizes
        part = empty[0] if left <= len(empty) else int(np.argmax(lack))
        parts[part].append(groups[number])
        sizes[part] += len(groups[number])
    return [np.sort(np.concatenate(p)) for p in parts]
