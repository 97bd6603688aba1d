# SPDX-License-Identifier: LGPL-3.0-or-later
"""Per-frame arrays on disk: one file or dataset per set, read by frame, checked when read."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from deepmd.base.errors import DataError
from deepmd.data.path import DPPath

#: Larger numbers are no physics, and overflow when they are squared.
LARGEST = 1e100


def describe_odd(values: np.ndarray) -> str:
    """Name a number that cannot be used."""
    odd = values[~(np.abs(values) <= LARGEST)]
    finite = odd[np.isfinite(odd)]
    return f"the number {finite[0]:.3g}" if finite.size == odd.size else "NaN or infinite number"


class FrameArray:
    """The arrays of one name in all sets of a system, as if they were one (n_frames, width).

    Only headers are looked at here; numbers are read by :meth:`rows`.

    Parameters
    ----------
    files : sequence of DPPath
        One per set.
    counts : sequence of int
        Frames of each set.
    widths : sequence of int
        Acceptable numbers per frame; the first one is what error messages ask for.
    meaning : str
        What one frame should hold, for error messages: ``"192 atoms x 3"``.
    hint : str, optional
        How to mend a wrong shape.
    """

    def __init__(
        self,
        files: Sequence[DPPath],
        counts: Sequence[int],
        widths: Sequence[int],
        *,
        meaning: str,
        hint: str | None = None,
    ) -> None:
        self.files, self.counts = list(files), list(counts)
        found = {
            _width(file, count, widths, meaning, hint)
            for file, count in zip(self.files, self.counts, strict=True)
        }
        if len(found) > 1:
            raise DataError(
                f"sets hold {sorted(found)} numbers per frame; all must be alike",
                where=self.files[0].parent.parent,
                fix=f"make {self.files[0].name} alike in every set",
            )
        self.width = found.pop()
        self._ends = np.cumsum([0, *self.counts])

    def rows(self, frames: np.ndarray) -> np.ndarray:
        """Read frames, in any order: (len(frames), width) float64, checked to be finite."""
        out = np.empty((len(frames), self.width))
        which = np.searchsorted(self._ends, frames, side="right") - 1
        for s in np.unique(which):
            at = np.flatnonzero(which == s)
            inside = frames[at] - self._ends[s]
            with np.errstate(invalid="ignore", over="ignore"):  # the numbers are looked at below
                out[at] = read_rows(self.files[s], inside, self.counts[s], self.width)
            good = (np.abs(out[at]) <= LARGEST).all(axis=1)  # NaN is not
            if not good.all():
                bad = int(inside[~good].min())
                raise DataError(
                    f"{describe_odd(out[at][~good])} in frame {bad} of this set",
                    where=self.files[s],
                    fix="remove or recompute the frame",
                )
        return out


def read_rows(file: DPPath, rows: np.ndarray, count: int, width: int) -> np.ndarray:
    """Read rows, in any order, of an array stored as (count, ...) or flat: (len(rows), width)."""
    array = file.open_array()
    if array.ndim == 0 or array.shape[0] != count:
        return np.asarray(array[...]).reshape(count, width)[rows]
    if isinstance(array, np.ndarray):
        return array[rows].reshape(len(rows), width)
    # HDF5 takes ascending indices without repetition only; a run is much faster as a slice.
    unique, inverse = np.unique(rows, return_inverse=True)
    first, last = int(unique[0]), int(unique[-1]) + 1
    part = array[first:last] if last - first == len(unique) else array[unique]
    return np.asarray(part)[inverse].reshape(len(rows), width)


def count_frames(file: DPPath, natoms: int) -> int:
    """Return the number of frames in a ``coord`` array, checking it against the number of atoms."""
    array = check_number(file)
    shape, size = tuple(array.shape), math.prod(array.shape)
    if size == 0:
        raise DataError("holds no frames", where=file, fix="remove the folder")
    count, rest = divmod(size, 3 * natoms)
    single = count == 1 and (array.ndim == 1 or shape == (natoms, 3))
    if rest or not (single or (array.ndim > 1 and shape[0] == count)):
        raise DataError(
            f"found shape {_times(shape)}, expected n_frames x {3 * natoms} "
            f"({natoms} atoms in type.raw)",
            where=file,
            fix="make coord.npy and type.raw agree",
        )
    return count


def check_number(file: DPPath) -> Any:
    """Open an array and make sure that it holds real numbers."""
    array = file.open_array()
    if array.dtype.kind not in "fiub":
        raise DataError(
            f"holds {array.dtype}, real numbers were expected",
            where=file,
            fix="save it as float32 or float64",
        )
    return array


def _width(file: DPPath, count: int, widths: Sequence[int], meaning: str, hint: str | None) -> int:
    """Return the numbers per frame of one file, or say what is wrong with its shape."""
    array = check_number(file)
    shape, size = tuple(array.shape), math.prod(array.shape)
    by_frame = array.ndim < 2 or shape[0] == count or count == 1
    for width in widths:
        if by_frame and size == count * width:
            return width
    raise DataError(
        f"found shape {_times(shape)}, expected {count} frames (as in coord.npy) x {meaning}",
        where=file,
        fix=hint or "complete the file or remove it",
    )


def _times(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape)) or "of a single number"
