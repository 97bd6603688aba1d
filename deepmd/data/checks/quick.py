# SPDX-License-Identifier: LGPL-3.0-or-later
"""Checks that cost next to nothing, for the start of every training."""

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np

from deepmd.base.errors import DataError
from deepmd.data.checks.finding import Finding, ordered
from deepmd.data.checks.structures import OVERLAP
from deepmd.data.checks.work import check_groups, groups_of
from deepmd.data.frames import Frames, frames_of
from deepmd.data.system import System

#: Systems and frames of each that are looked at, and atoms in all.
_SYSTEMS, _FRAMES, _ATOMS = 5, 30, 20_000


def quick_check(
    train: Sequence[System],
    valid: Sequence[System] | None,
    *,
    min_nbor_dist: float | None,
    batch_sizes: Sequence[int],
    unused: Sequence[str] = (),
    where: str = "training/training_data",
) -> list[Finding]:
    """Return what is suspicious, the worst first.

    Parameters
    ----------
    train, valid : sequence of System
    min_nbor_dist : float or None
        Smallest distance [Å], if it is known.
    batch_sizes : sequence of int
        Frames of a step, by system.
    unused : sequence of str
        Labels that data have and the loss does not use.
    where : str
        Section of the input.
    """
    out = []
    if min_nbor_dist is not None and min_nbor_dist < OVERLAP:
        text = f"two atoms are {min_nbor_dist:.3f} Å apart; are positions in Å?"
        fix = "leave such frames out with min_pair_dist"
        out.append(Finding("error", "overlap", text, min_nbor_dist, where, fix))
    out += [f for f in _units(train, where) if f.level != "note"]
    for name in unused:
        text = f"the data have {name}, which the loss does not use"
        fix = f"set start_pref_{name[0]} and limit_pref_{name[0]} in loss"
        out.append(Finding("note", "unused", text, None, where, fix))
    large = [(b, s) for b, s in zip(batch_sizes, train, strict=False) if b > s.nframes > 0]
    if large:
        text = f"a batch has {large[0][0]} frames, but {large[0][1].path} has {large[0][1].nframes}"
        several = f" ({len(large)} systems are smaller than their batch)" if len(large) > 1 else ""
        where_batch = f"{where}/batch_size"
        out.append(Finding("note", "batch", text + several, large[0][0], where_batch, ""))
    out += _zero_boxes(train, where)
    out += _copies(train, valid or (), where)
    return ordered(out)


def _few(systems: Sequence[System]) -> Iterator[System]:
    left = _ATOMS
    for number in np.unique(np.linspace(0, len(systems) - 1, _SYSTEMS).round().astype(int)):
        left -= min(systems[number].nframes, _FRAMES) * systems[number].natoms
        if left < 0 or systems[number].nframes == 0:
            continue
        yield systems[number]


def _units(systems: Sequence[System], where: str) -> list[Finding]:
    groups = []
    for system in _few(systems):
        try:
            frames = _beginning(system)
        except DataError:  # a label that the training does not read
            continue
        groups += groups_of(frames)
    if not groups:
        return []
    found, _ = check_groups(groups)
    return [
        dataclasses.replace(f, where=f"{where}: {f.where}" if f.where else where) for f in found
    ]


def _beginning(system: System) -> Frames:
    names = system.type_map or [str(t) for t in range(int(system.atype.max()) + 1)]
    return frames_of([system], names, most=_FRAMES, only=("energy", "force", "virial"))


def _zero_boxes(systems: Sequence[System], where: str) -> Iterator[Finding]:
    for system in _few(systems):
        if not system.periodic or system.nframes == 0:
            continue
        batch = system.load([0])
        if not batch.periodic.any() and not system.path.endswith(".lmdb"):
            text = f"{system.path}: the box is all zero, so boundaries are open"
            fix = "put an empty file nopbc beside type.raw, or correct box.npy"
            yield Finding("warning", "zero-box", text, 0.0, where, fix)
            return


def _copies(train: Sequence[System], valid: Sequence[System], where: str) -> Iterator[Finding]:
    """Compare the first validation frames with the training frames of systems of their size, by positions."""
    found = 0
    looked = 0
    known: dict[int, set[bytes]] = {}
    for system in _few(valid) if valid else ():
        count = min(system.nframes, _FRAMES)
        if system.natoms not in known:
            same = [
                s for s in train if s.natoms == system.natoms and s.nframes * s.natoms < 10 * _ATOMS
            ]
            known[system.natoms] = {p for s in same for p in _positions(s, s.nframes)}
        here = list(_positions(system, count))
        looked += count
        found += sum(p in known[system.natoms] for p in here)
    if found:
        text = f"{found} of {looked} validation frames are in the training data, too"
        fix = "divide the data anew: dp data split"
        yield Finding(
            "warning", "leak", text, found, where.replace("training_data", "validation_data"), fix
        )


def _positions(system: System, count: int) -> Iterator[bytes]:
    for start in range(0, count, 200):
        batch = system.load(np.arange(start, min(start + 200, count)))
        ends = batch.offsets()
        for k in range(batch.n_frames):
            atoms = slice(ends[k], ends[k + 1])
            rounded = np.round(batch.coord[atoms], 6) + 0.0
            yield rounded.tobytes() + batch.atype[atoms].tobytes()
