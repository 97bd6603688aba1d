# SPDX-License-Identifier: LGPL-3.0-or-later
"""``dp data convert``: from any kind of data set to any other."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from deepmd.base.errors import InputError
from deepmd.data.dpdata import read_with_dpdata
from deepmd.data.frames import Frames, frames_of
from deepmd.data.search import open_systems
from deepmd.data.structure_file import parse_keys
from deepmd.data.writers import kind_of_path, write_frames

log = logging.getLogger(__name__)


def data_convert(
    *,
    INPUT: Sequence[str],
    OUTPUT: str,
    kind: str | None = None,
    mixed: bool = False,
    keys: Sequence[str] | None = None,
    dpdata: str | None = None,
    type_map: Sequence[str] | None = None,
    **_: Any,
) -> None:
    """Write all frames and labels of data sets as another kind; options are those of the command."""
    shown = "mixed" if mixed and kind is None else kind or kind_of_path(OUTPUT)
    target = Path(OUTPUT).resolve()
    above = next((p for p in INPUT if Path(p).resolve() in target.parents), None)
    frames = read_frames(INPUT, keys=keys, dpdata=dpdata, type_map=type_map, lazy=True)
    names = write_frames(frames, OUTPUT, kind, mixed=mixed)
    log_written(frames, OUTPUT, shown, names)
    if above is not None:
        log.warning("%s lies in %s, in which these frames are found twice now", OUTPUT, above)


def read_frames(
    paths: Sequence[str],
    *,
    keys: Sequence[str] | None = None,
    dpdata: str | None = None,
    type_map: Sequence[str] | None = None,
    lazy: bool = False,
) -> Frames:
    """Return the frames of the data sets that the options of a command name.

    ``lazy`` ones are read when they are asked for; those of dpdata wait in a temporary folder.
    """
    declared = parse_keys(keys)
    if dpdata is not None:
        if declared:
            raise InputError(
                "has no meaning for what dpdata reads", where="--keys", fix="leave it out"
            )
        return read_with_dpdata(paths, dpdata, type_map)
    systems = open_systems(list(paths), type_map=type_map, keys=declared)
    return frames_of(systems, type_map, lazy=lazy)


def log_written(frames: Frames, path: str, kind: str, names: Sequence[str]) -> None:
    """Log what was written."""
    labels = ", ".join(sorted(frames.labels)) or "no label"
    several = f" in {len(names)} systems" if len(names) > 1 else ""
    log.info("wrote %s (%s): %d frames%s with %s", path, kind, len(frames.frames), several, labels)
