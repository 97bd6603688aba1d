# SPDX-License-Identifier: LGPL-3.0-or-later
"""The folder of a run: one training at a time, and results of earlier runs are never lost.

Before a new run writes, files of an earlier one get numbered names, ``#lcurve.out.1#``, as GROMACS
names them. What the run itself reads stays where it is, and a copy gets the number.
"""

import contextlib
import logging
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from deepmd.base.files import calls
from deepmd.train.checkpoints import POINTER, CheckpointStore, numbered
from deepmd.train.lock import Lock

log = logging.getLogger(__name__)

LOCK = ".dp-train.lock"


class RunFolder:
    """Owner of the files of a training, from before the first one is written to the end.

    Parameters
    ----------
    overwrite : bool
        Overwrite results of an earlier run in place of giving them other names.
    """

    def __init__(self, *, overwrite: bool = False) -> None:
        self.overwrite = overwrite
        self._locks = contextlib.ExitStack()
        self._held: list[Lock] = []

    def __enter__(self) -> "RunFolder":
        return self

    def __exit__(self, *_: object) -> None:
        self._locks.close()
        self._held.clear()

    def claim(self, store: CheckpointStore, others: Iterable[str | os.PathLike[str]]) -> None:
        """Lock the current folder, that of the checkpoints, and outputs that lie elsewhere.

        Raises
        ------
        InputError
            If another training, which is running, has one of them.
        """
        here = dict.fromkeys(p.resolve() for p in (Path.cwd(), store.link.parent))
        locks = [Lock(folder / LOCK, "this run folder") for folder in here]
        elsewhere = [store.folder / store.prefix.name, *map(Path, others)]
        for path in dict.fromkeys(p.parent.resolve() / p.name for p in elsewhere):
            if path.parent not in here:
                locks.append(Lock(path.with_name(f".{path.name}{LOCK}"), path.name))
        for lock in locks:
            lock.take()
            self._held.append(lock)
            self._locks.callback(lock.release)

    def check(self) -> None:
        """Make sure that the locks are still those of this process."""
        for lock in self._held:
            lock.check()

    def set_aside(
        self,
        paths: Iterable[str | os.PathLike[str]],
        reads: Iterable[str | os.PathLike[str] | None],
    ) -> None:
        """Give files numbered names, ``#name.1#``; those that are read are copied.

        Parameters
        ----------
        paths : iterable of path
            What the run would overwrite; names without a file are skipped.
        reads : iterable of path or None
            Files that must stay where they are.
        """
        found = list(dict.fromkeys(p for p in map(Path, paths) if os.path.lexists(p)))
        if self.overwrite or not found:
            return
        kept = {os.path.realpath(p) for p in reads if p is not None}
        number = _free_number(found)
        files = {os.path.realpath(p) for p in found if not p.is_symlink()}
        for path in found:
            real = os.path.realpath(path)
            _set_aside(path, number, keep=real in kept, follow=path.is_symlink() and real in files)
        for folder in dict.fromkeys(p.parent for p in found):
            calls.fsync(folder)
        names = ", ".join(p.name for p in found[:4])
        more = f" and {len(found) - 4} more" if len(found) > 4 else ""
        log.warning("results of an earlier run are kept as #NAME.%d#: %s%s", number, names, more)


def _backup(path: Path, number: int) -> Path:
    return path.with_name(f"#{path.name}.{number}#")


def _free_number(paths: Sequence[Path]) -> int:
    """Return the first number with which no backup of any of these files is there."""
    number = 1
    while any(os.path.lexists(_backup(path, number)) for path in paths):
        number += 1
    return number


def _set_aside(path: Path, number: int, *, keep: bool, follow: bool) -> None:
    """Move a file, or copy it to ``keep`` it; a link ``follow``-s the file that it names."""
    target = _backup(path, number)
    if follow or (keep and path.is_symlink()):
        to = Path(os.readlink(path))
        os.symlink(_backup(to, number) if follow else to, target)
        if not keep:
            path.unlink()
    elif keep:
        fragment = target.with_name(f".{target.name}.tmp")
        shutil.copyfile(path, fragment)
        calls.fsync(fragment)
        calls.rename(fragment, target)
    else:
        calls.rename(path, target)


# -- what a run overwrites ------------------------------------------------------------------------


def results(store: CheckpointStore, curve: Path) -> list[Path]:
    """Return the files of an earlier run that a new one would overwrite or remove."""
    steps = numbered(store.folder, store.prefix.name, store.suffix)
    return [
        curve,
        store.link.with_name(POINTER),
        *store.files(store.link),
        *(file for path in steps.values() for file in store.files(path)),
        *sorted(store.link.parent.glob("diverged-step-*.npz")),
    ]


def later_results(store: CheckpointStore, curve: Path, source: Path, step: int) -> list[Path]:
    """Return what a run overwrites that goes on after a step; nothing if that is the newest one.

    Parameters
    ----------
    store : CheckpointStore
    curve : path
    source : path
        Checkpoint of that step. If it is none of the store, all of those are another run's.
    step : int
    """
    steps = numbered(store.folder, store.prefix.name, store.suffix)
    if os.path.realpath(source) in map(os.path.realpath, steps.values()):
        later = [path for number, path in steps.items() if number > step]
    else:
        later = [store.link.with_name(POINTER), store.link, *steps.values()]
    later = [
        file
        for path in later
        for file in (store.files(path) if path.name.endswith(store.suffix) else [path])
        if os.path.lexists(file)
    ]
    return [curve, *later] if later else []


def differing(texts: Mapping[str, str]) -> list[Path]:
    """Return the files that are there with other contents than the text that will be written."""
    out = []
    for name, text in texts.items():
        path = Path(name)
        with contextlib.suppress(FileNotFoundError):
            if path.read_bytes() != text.encode("utf-8"):
                out.append(path)
    return out
