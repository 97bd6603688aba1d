# SPDX-License-Identifier: LGPL-3.0-or-later
"""Named random streams, functions of the seed and the path of a node only."""

import zlib

import numpy as np

Seed = int | tuple[int, ...] | None


def child_seed(seed: Seed, name: str | int) -> Seed:
    """Return the seed of the part called ``name``; None stays None."""
    if seed is None:
        return None
    head = (seed,) if isinstance(seed, int) else seed
    return (*head, zlib.crc32(str(name).encode()))


def stream(seed: Seed) -> np.random.Generator:
    """Return a generator of random numbers; fresh entropy from the system when seed is None."""
    if seed is None:
        return np.random.default_rng()
    return np.random.default_rng([seed] if isinstance(seed, int) else list(seed))
