# SPDX-License-Identifier: LGPL-3.0-or-later
"""Frames that wait in a temporary folder until they are asked for."""

import bisect
import shutil
import tempfile
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from deepmd.base.files import errors_name
from deepmd.data.frames import Frame


class _Part(NamedTuple):
    """Frames of one file, with the names of the arrays that it has."""

    source: str
    names: tuple[str, ...]


class Spool(Sequence[Frame]):
    """Frames of files that are read once, of which one file at a time is in memory.

    The folder goes with the last reference to this object.

    Attributes
    ----------
    folder : Path
    """

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="deepmd-frames-"))
        weakref.finalize(self, shutil.rmtree, self.folder, ignore_errors=True)
        self._parts: list[_Part] = []
        self._ends: list[int] = []
        self._open: tuple[int, dict[str, np.ndarray]] = (-1, {})

    def add(
        self,
        types: np.ndarray,
        coord: np.ndarray,
        cell: np.ndarray | None,
        labels: Mapping[str, np.ndarray],
        source: str,
    ) -> None:
        """Add the frames of a file.

        Parameters
        ----------
        types : (n_atoms,)
        coord : (n_frames, n_atoms, 3) [Å]
        cell : (n_frames, 3, 3) [Å] or None
        labels : dict of str to (n_frames, …)
        source : str
            The file.

        Raises
        ------
        OutputError
            If there is no room for them.
        """
        arrays = {"types": types, "coord": coord, **{f"label_{k}": v for k, v in labels.items()}}
        if cell is not None:
            arrays["cell"] = cell
        place = self._place(len(self._parts))
        with errors_name(place):
            place.mkdir()
            for name, array in arrays.items():
                np.save(place / f"{name}.npy", array, allow_pickle=False)
        self._parts.append(_Part(source, tuple(arrays)))
        self._ends.append(len(self) + len(coord))

    def _place(self, part: int) -> Path:
        return self.folder / str(part)

    def _arrays(self, part: int) -> dict[str, np.ndarray]:
        if self._open[0] != part:
            place = self._place(part)
            names = self._parts[part].names
            self._open = part, {name: np.load(place / f"{name}.npy") for name in names}
        return self._open[1]

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __getitem__(self, k: Any) -> Any:
        if isinstance(k, slice):
            return [self[i] for i in range(*k.indices(len(self)))]
        k = range(len(self))[k]
        part = bisect.bisect_right(self._ends, k)
        number = k - (self._ends[part - 1] if part else 0)
        arrays = self._arrays(part)
        cell = arrays["cell"][number].copy() if "cell" in arrays else None
        labels = {
            name.removeprefix("label_"): array[number].reshape(-1).copy()
            for name, array in arrays.items()
            if name.startswith("label_")
        }
        coord = arrays["coord"][number].copy()
        return Frame(arrays["types"], coord, cell, labels, number, self._parts[part].source)
