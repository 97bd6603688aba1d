# SPDX-License-Identifier: LGPL-3.0-or-later
"""Conformal calibration of standard deviations.

Scales and intervals come from frames that a fit has not seen. Half widths of intervals are
quantiles of |error|/σ by split-conformal prediction, with frames, not components, as the exchangeable
units: Dunn, Wasserman, Ramdas, J. Am. Stat. Assoc. 118, 2491 (2023), eq. 7 (pooled distributions).
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from deepmd.base.errors import ModelFileError

#: Coverages of the intervals that are stored.
COVERAGES = (0.5, 0.68, 0.8, 0.9, 0.95, 0.99)
#: Standard deviations below this [eV, eV/Å] are taken as this: scores divide by them.
FLOOR = 1e-12


@dataclasses.dataclass(frozen=True)
class Calibration:
    """Scale and intervals of one quantity.

    Attributes
    ----------
    scale : float
        Factor that makes raw deviations standard deviations: the errors divided by them have a root
        mean square of 1.
    intervals : tuple of (coverage, factor)
        Half widths of the intervals in units of the scaled deviation. Coverages that the number of
        frames cannot support are missing.
    frames : int
        Frames that it rests on.
    """

    scale: float
    intervals: tuple[tuple[float, float], ...]
    frames: int

    def factor(self, coverage: float) -> float:
        """Half width of the interval of a coverage, in standard deviations; infinite if unknown."""
        return dict(self.intervals).get(coverage, math.inf)

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain values."""
        return {
            "scale": self.scale,
            "intervals": [list(pair) for pair in self.intervals],
            "frames": self.frames,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Calibration":
        """Read it out of a file.

        Raises
        ------
        ModelFileError
            If a number is missing or cannot be one.
        """
        try:
            pairs = tuple((float(c), float(f)) for c, f in data["intervals"])
            made = cls(float(data["scale"]), pairs, int(data["frames"]))
        except (KeyError, TypeError, ValueError):
            raise ModelFileError("uncertainty: the calibration cannot be read") from None
        numbers = [made.scale, *(f for _, f in pairs)]
        if not all(math.isfinite(x) and x >= 0 for x in numbers):
            raise ModelFileError("uncertainty: the calibration holds impossible numbers")
        return made


def conformal_factor(scores: np.ndarray, frame: np.ndarray, coverage: float) -> float:
    """Smallest factor by which intervals cover a new value with at least the given probability.

    Parameters
    ----------
    scores : (n,)
        |error| / deviation.
    frame : (n,) int
        Frame of each; the frames are exchangeable, the scores in one of them need not be.
    coverage : float
        Between 0 and 1.

    Returns
    -------
    float
        Infinite if there are too few frames.
    """
    number, count = np.unique(frame, return_inverse=True, return_counts=True)[1:]
    order = np.argsort(scores, kind="stable")
    mass = np.cumsum(1.0 / count[number[order]])
    # One frame more than there are, of which nothing is known.
    needed = coverage * (len(count) + 1)
    place = int(np.searchsorted(mass, needed - 1e-9))
    return float(scores[order[place]]) if place < len(scores) else math.inf


def calibrate(error: np.ndarray, deviation: np.ndarray, frame: np.ndarray) -> Calibration:
    """Fit scale and intervals to errors.

    Parameters
    ----------
    error, deviation : (n,)
        Differences from the labels, and uncalibrated deviations.
    frame : (n,) int
        Frame of each.
    """
    deviation = np.maximum(deviation, FLOOR)
    scores = np.abs(error) / deviation
    scale = max(float(np.sqrt(np.mean(np.square(scores)))), FLOOR)
    factors = [(c, conformal_factor(scores / scale, frame, c)) for c in COVERAGES]
    known = tuple((c, f) for c, f in factors if math.isfinite(f))
    return Calibration(scale, known, len(np.unique(frame)))
