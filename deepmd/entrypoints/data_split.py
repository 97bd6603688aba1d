# SPDX-License-Identifier: LGPL-3.0-or-later
"""``dp data split``: training, validation and test data out of one data set."""

import os
from collections.abc import Sequence
from typing import Any

from deepmd.base.errors import InputError
from deepmd.data.split import split
from deepmd.data.writers import write_frames
from deepmd.entrypoints.data_convert import log_written, read_frames

#: Names of the parts, and endings of the kinds that are one file.
PARTS = ("train", "valid", "test")
_ENDINGS = {"extxyz": ".extxyz", "hdf5": ".hdf5", "lmdb": ".lmdb"}


def data_split(
    *,
    INPUT: Sequence[str],
    OUTPUT: str,
    fractions: Sequence[float] = (0.9, 0.1),
    by: str = "frame",
    seed: int = 0,
    kind: str = "npy",
    keys: Sequence[str] | None = None,
    type_map: Sequence[str] | None = None,
    **_: Any,
) -> None:
    """Write parts of data sets into a folder; options are those of the command."""
    if len(fractions) > len(PARTS):
        raise InputError(
            f"{len(fractions)} parts",
            where="--fractions",
            fix=f"write at most {len(PARTS)} numbers",
        )
    paths = [os.path.join(OUTPUT, name + _ENDINGS.get(kind, "")) for name in PARTS]
    for path in paths[: len(fractions)]:
        if os.path.exists(path):
            raise InputError("exists already", where=path, fix="remove it or name another folder")
    frames = read_frames(INPUT, keys=keys, type_map=type_map)
    for path, numbers in zip(paths, split(frames, fractions, by, seed), strict=False):
        part = frames.subset(numbers)
        log_written(part, path, kind, write_frames(part, path, kind))
