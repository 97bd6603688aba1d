# SPDX-License-Identifier: LGPL-3.0-or-later
"""Files of statistics as clients open them; ours are written by :mod:`deepmd.data.statistics`."""

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path

import h5py
import numpy as np

from deepmd.data.path import DPPath


@dataclasses.dataclass(frozen=True)
class StatFileSpec:
    """Place of a file of statistics: path (None for none), and whether it may be written."""

    path: str | None
    mode: str = "update"


@contextlib.contextmanager
def open_stat_file(spec: StatFileSpec) -> Iterator[DPPath | None]:
    """Open a file of statistics; an absent one is made first, unless it is only read."""
    if spec.path is None:
        yield None
        return
    path = Path(spec.path)
    if spec.mode == "update" and not path.exists():
        if path.suffix in (".h5", ".hdf5"):
            h5py.File(path, "w").close()
        else:
            path.mkdir(parents=True)
    yield DPPath(str(path), "a" if spec.mode == "update" else "r")


def load_required_items(path: DPPath | None, names: Sequence[str]) -> dict[str, np.ndarray] | None:
    """Return the arrays of these names, or None if one is absent."""
    if path is None or not all((path / name).is_file() for name in names):
        return None
    return {name: (path / name).load_numpy() for name in names}
