# SPDX-License-Identifier: LGPL-3.0-or-later
"""Frames in memory, whatever file they come from, and their division into systems."""

import dataclasses
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from deepmd.base.errors import DataError
from deepmd.base.log import with_progress
from deepmd.data.quantities import labels_of, union
from deepmd.data.storage import LARGEST, describe_odd
from deepmd.data.system import FIELDS, System
from deepmd.dpmodel.label import Label

#: Frames of a system that are read at once.
_CHUNK = 1000


@dataclasses.dataclass(slots=True)
class Frame:
    """One configuration.

    Attributes
    ----------
    types : (n_atoms,) int64
        Numbers in the names of the :class:`Frames`.
    coord : (n_atoms, 3) float64
        Positions [Å].
    cell : (3, 3) float64 or None
        Rows are cell vectors [Å]; None: open boundaries.
    labels : dict of str to (any,) float64
        By name, flat.
    number : int
        In the file that it comes from.
    source : str
        That file or system.
    """

    types: np.ndarray
    coord: np.ndarray
    cell: np.ndarray | None
    labels: dict[str, np.ndarray]
    number: int = 0
    source: str = ""


@dataclasses.dataclass
class Frames:
    """Frames with the names of their types and the kinds of their labels."""

    names: list[str]
    labels: dict[str, Label]
    frames: Any  # list[Frame], or LazyFrames

    def some(self, numbers: Sequence[int]) -> Iterator[Frame]:
        """Iterate over some of the frames; of lazy ones only these are read."""
        if isinstance(self.frames, LazyFrames):
            yield from self.frames.take(numbers)
        else:
            yield from (self.frames[k] for k in numbers)

    def formula(self, frame: Frame) -> str:
        """Return the composition, ``H64O32``."""
        counts = Counter(frame.types.tolist())
        return "".join(
            f"{self.names[t]}{counts[t]}" for t in sorted(counts, key=self.names.__getitem__)
        )

    def subset(self, numbers: Sequence[int] | np.ndarray) -> "Frames":
        """Return some of the frames."""
        return dataclasses.replace(self, frames=[self.frames[int(k)] for k in numbers])

    def systems(self, *, mixed: bool) -> "dict[str, Group]":
        """Divide the frames into systems, by name.

        Parameters
        ----------
        mixed : bool
            Put frames of one number of atoms together; otherwise those with the same atoms in the
            same order.
        """
        groups: dict[tuple[object, ...], list[int]] = {}
        for k, frame in enumerate(self.frames):
            what: object = len(frame.types) if mixed else frame.types.tobytes()
            key = (what, frame.cell is None, tuple(sorted(frame.labels)))
            groups.setdefault(key, []).append(k)
        out: dict[str, Group] = {}
        for members in groups.values():
            (first,) = self.some(members[:1])
            stem = str(len(first.types)) if mixed else self.formula(first)
            name, again = stem, 1
            while name in out:
                name, again = f"{stem}.{again}", again + 1
            out[name] = Group(self, members)
        return out


@dataclasses.dataclass
class Group:
    """Frames of one system: the same number of atoms, boundaries and labels."""

    whole: Frames
    members: list[int]

    @property
    def frames(self) -> list[Frame]:
        """The frames themselves."""
        return list(self.whole.some(self.members))

    @property
    def one_order(self) -> bool:
        """Whether all have the same atoms in the same order."""
        frames = self.frames
        return all(np.array_equal(f.types, frames[0].types) for f in frames)

    def arrays(self, *, mixed: bool) -> dict[str, np.ndarray | str]:
        """Return the files of the system: arrays and texts by the names of the data format."""
        frames = self.frames
        return self.texts(frames[0], mixed=mixed) | self.arrays_of(frames, mixed=mixed)

    def portions(self, *, mixed: bool) -> Iterator[dict[str, np.ndarray]]:
        """Iterate over the arrays of successive frames."""
        for start in range(0, len(self.members), _CHUNK):
            frames = list(self.whole.some(self.members[start : start + _CHUNK]))
            yield self.arrays_of(frames, mixed=mixed)

    def texts(self, first: Frame, *, mixed: bool) -> dict[str, Any]:
        """Return the texts of the system, by the names of the data format."""
        types = np.zeros(len(first.types), dtype=np.int64) if mixed else first.types
        out = {
            "type.raw": "".join(f"{t}\n" for t in types.tolist()),
            "type_map.raw": "".join(f"{n}\n" for n in self.whole.names),
        }
        return out | ({"nopbc": ""} if first.cell is None else {})

    def arrays_of(self, frames: Sequence[Frame], *, mixed: bool) -> dict[str, np.ndarray]:
        """Return the arrays of some frames, by the names of the data format."""
        first, out = frames[0], {}
        arrays = {"coord": np.stack([f.coord.reshape(-1) for f in frames])}
        if first.cell is not None:
            arrays["box"] = np.stack([np.asarray(f.cell).reshape(-1) for f in frames])
        for name in sorted(first.labels):
            arrays[name] = np.stack([f.labels[name] for f in frames])
            if self.whole.labels[name].size == 1 and arrays[name].shape[1] == 1:
                arrays[name] = arrays[name][:, 0]
        for name, array in arrays.items():
            check_numbers(name, array, frames)
            out[f"set.000/{name}.npy"] = array
        if mixed:
            out["set.000/real_atom_types.npy"] = np.stack([f.types for f in frames])
        return out


def check_numbers(name: str, array: np.ndarray, frames: Sequence[Frame]) -> None:
    """Raise DataError, with file and frame, for a number that cannot be used."""
    flat = array.reshape(len(frames), -1)
    good = (np.abs(flat) <= LARGEST).all(axis=1)  # NaN is not
    if not good.all():
        bad = frames[int(np.argmin(good))]
        raise DataError(
            f"{describe_odd(flat[~good])} in {name} of frame {bad.number}",
            where=bad.source,
            fix="remove or recompute the frame",
        )


class LazyFrames(Sequence[Frame]):
    """Frames of systems that are read when they are asked for, some hundred at a time.

    Parameters
    ----------
    parts : sequence of (System, labels, place, count)
        ``place`` has the numbers of the system's types in the common names; the first ``count``
        frames are meant.
    """

    def __init__(self, parts: Sequence[tuple[System, Sequence[Label], np.ndarray, int]]) -> None:
        self.parts = list(parts)
        self._ends = np.cumsum([count for *_, count in self.parts])

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def __getitem__(self, k: Any) -> Any:
        if isinstance(k, slice):
            return list(self.take(range(*k.indices(len(self)))))
        (frame,) = self.take([range(len(self))[k]])
        return frame

    def __iter__(self) -> Iterator[Frame]:
        return self.take(range(len(self)))

    def take(self, numbers: Sequence[int] | range) -> Iterator[Frame]:
        """Read frames in their order, neighboring ones of a system together."""
        for start in range(0, len(numbers), _CHUNK):
            wanted = np.asarray(numbers[start : start + _CHUNK], dtype=np.int64)
            part = np.searchsorted(self._ends, wanted, side="right")
            for run in np.split(np.arange(len(wanted)), np.flatnonzero(np.diff(part)) + 1):
                if len(run):
                    system, labels, place, count = self.parts[part[run[0]]]
                    first = self._ends[part[run[0]]] - count
                    yield from _read(system, labels, place, wanted[run] - first)


def frames_of(
    systems: Sequence[System],
    names: Sequence[str] | None = None,
    *,
    most: int | None = None,
    only: Sequence[str] | None = None,
    lazy: bool = False,
    of_all_atoms: bool = False,
) -> Frames:
    """Read all frames of systems with all of their labels.

    Parameters
    ----------
    systems : sequence of System
    names : sequence of str, optional
        Of the types; by default those of the systems in order of appearance.
    most : int, optional
        Frames of each system, its first ones; all by default.
    only : sequence of str, optional
        Labels; all by default.
    lazy : bool
        Read them when they are asked for.
    of_all_atoms : bool
        Leave out labels of some of the atoms, see :func:`labels_of`.
    """
    order = list(names or ())
    for system in systems:
        if system.type_map is None and names is None:
            raise DataError(
                "the types have no names",
                where=system.path,
                fix="write type_map.raw, or give --type-map",
            )
        order += [n for n in system.type_map or () if n not in order]
    labels = [labels_of(system, only, of_all_atoms=of_all_atoms) for system in systems]
    parts = []
    for number, system in enumerate(systems):
        own = order if system.type_map is None else system.type_map
        place = np.array([order.index(n) for n in own], dtype=np.int64)
        count = system.nframes if most is None else min(most, system.nframes)
        parts.append((system, labels[number], place, count))
    if lazy:
        return Frames(order, union(labels), LazyFrames(parts))
    out = Frames(order, union(labels), [])
    for part in with_progress(parts, "read %d of %d systems"):
        out.frames += LazyFrames([part])
    return out


def _read(
    system: System, labels: Sequence[Label], place: np.ndarray, numbers: np.ndarray
) -> Iterator[Frame]:
    """Read frames of a system at once."""
    batch = system.load(numbers, labels)
    ends = batch.offsets()
    for k, number in enumerate(numbers):
        atoms = slice(ends[k], ends[k + 1])
        values = {}
        for label in labels:
            array = getattr(batch, label.name) if label.name in FIELDS else batch.labels[label.name]
            if label.pairwise:
                width = 9 * (ends[k + 1] - ends[k])
                values[label.name] = array[atoms, :width].reshape(-1)
            else:
                values[label.name] = (array[atoms] if label.atomic else array[k]).reshape(-1)
        yield Frame(
            place[batch.atype[atoms]],
            batch.coord[atoms],
            batch.cell[k] if batch.periodic[k] else None,
            values,
            int(number),
            system.path,
        )
