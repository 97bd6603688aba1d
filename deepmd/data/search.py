# SPDX-License-Identifier: LGPL-3.0-or-later
"""From what ``systems`` says in an input file to opened systems."""

import logging
import os
from collections.abc import Mapping, Sequence
from typing import Any

from deepmd.base.errors import DataError
from deepmd.base.log import with_progress
from deepmd.data.lmdb import is_lmdb, open_lmdb
from deepmd.data.path import DPH5Path, DPPath
from deepmd.data.structure_file import SUFFIX, is_structure_file, open_structures
from deepmd.data.system import System

log = logging.getLogger(__name__)

#: Files whose labels are logged, at most.
_LISTED = 20


def expand_systems(paths: str | Sequence[str], patterns: Sequence[str] | None = None) -> list[str]:
    """Find the systems that paths stand for.

    Parameters
    ----------
    paths : str or sequence of str
        Systems, LMDB data sets (``data.lmdb``), files that ASE reads (``a.extxyz``), or folders and
        HDF5 files (``file.hdf5``, ``file.hdf5#/group``) that hold systems at any depth.
    patterns : sequence of str, optional
        Take only systems whose path below a searched folder fits one of these patterns.

    Returns
    -------
    list of str
        In the order given, those of one folder sorted by name.
    """
    found: list[str] = []
    for path in [paths] if isinstance(paths, str | os.PathLike) else paths:
        root = DPPath(path)
        known = is_lmdb(str(path)) or is_structure_file(str(path))
        if known or (root / "type.raw").is_file():
            found.append(str(path))
            continue
        if not root.is_dir():
            raise DataError("there is no such system or folder", where=path, fix="check the path")
        below = _search(root, patterns)
        if not below:
            tried = "" if patterns is None else f" that fits {' or '.join(patterns)}"
            raise DataError(
                f"no system (folder or group with type.raw, or {SUFFIX}) found here{tried}",
                where=path,
                fix="check the path" if patterns is None else "check rglob_patterns",
            )
        found += below
    if not found:
        raise DataError("the list of systems is empty", where="systems", fix="give at least one")
    return found


def open_systems(
    paths: str | Sequence[str],
    *,
    type_map: Sequence[str] | None = None,
    patterns: Sequence[str] | None = None,
    blocks: Sequence[tuple[int, int]] = (),
    keys: Mapping[str, str | None] | None = None,
) -> list[System]:
    """Open all systems that paths stand for; see :func:`expand_systems` and :class:`System`.

    An LMDB data set gives a system for every size of its frames, separately for every one of the
    ``blocks``, ranges of systems as ``auto_prob`` has them. So does a file that ASE reads, whose names
    of labels the ``keys`` declare; it is one system of the blocks.
    """
    out: list[System] = []
    number = files = 0
    for path in with_progress(expand_systems(paths, patterns), "opened %d of %d systems"):
        if is_lmdb(path):
            out += open_lmdb(path, type_map=type_map, blocks=blocks, first=number)
        elif is_structure_file(path):
            files += 1
            found = open_structures(path, type_map=type_map, keys=keys, quiet=files > _LISTED)
            for system in found:
                system.numbers = number, number
            out += found
        else:
            out.append(System(path, type_map=type_map))
            out[-1].numbers = number, number
        number = out[-1].numbers[1] + 1
    if files > _LISTED:
        log.info("%d more files of structures: dp -v DEBUG shows their labels", files - _LISTED)
    return out


def _search(root: DPPath, patterns: Sequence[str] | None) -> list[str]:
    """Paths below ``root`` that hold a system, and fit a pattern if there are any, sorted.

    Of several paths to one system the one without links is taken, else the first.
    """
    marks = ("type.raw",) if isinstance(root, DPH5Path) else ("type.raw", "data.mdb")
    found: dict[Any, str] = {}
    for folder, members in root.walk(lambda name: not name.startswith("set.")):
        if not isinstance(root, DPH5Path):
            found |= _structure_files(folder, members, root, patterns)
        if not any(members.get(mark) is False for mark in marks):
            continue
        if patterns is not None and not any(folder.fits(p, root) for p in patterns):
            continue
        path, key = str(folder), folder.identity()
        if key not in found or os.path.realpath(path) == os.path.abspath(path):
            found[key] = path
    return sorted(found.values())


def _structure_files(
    folder: DPPath, members: Mapping[str, bool], root: DPPath, patterns: Sequence[str] | None
) -> dict[Any, str]:
    """Extended XYZ files in a folder, by what is the same for all paths to one."""
    files = [folder / n for n, is_folder in members.items() if n.endswith(SUFFIX) and not is_folder]
    if patterns is not None:
        files = [f for f in files if any(f.fits(p, root) for p in patterns)]
    return {f.identity(): str(f) for f in files}
