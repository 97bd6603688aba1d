# SPDX-License-Identifier: LGPL-3.0-or-later
"""A stream of random numbers that all of its users share."""

from collections.abc import Sequence
from typing import Any

import numpy as np

_stream = np.random.RandomState()


def seed(val: int | Sequence[int] | None = None) -> None:
    """Start the stream anew; without a number at an unforeseeable place."""
    _stream.seed(val)


def random(size: int | tuple[int, ...] | None = None) -> Any:
    """Return numbers in [0, 1)."""
    return _stream.random_sample(size)


def choice(
    a: Any, size: int | tuple[int, ...] | None = None, replace: bool = True, p: Any = None
) -> Any:
    """Return elements of an array, or of ``range(a)``; ``p`` are their probabilities."""
    return _stream.choice(a, size=size, replace=replace, p=p)


def shuffle(x: Any) -> None:
    """Put the rows of an array, or the elements of a list, in another order, in place."""
    _stream.shuffle(x)
