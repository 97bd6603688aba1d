# SPDX-License-Identifier: LGPL-3.0-or-later
"""LMDB data sets: one file with frames of any size, each a msgpack map of arrays."""

import functools
import os
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from deepmd.base.errors import DataError, NotAvailableError
from deepmd.base.reading import reading, reason, shown
from deepmd.data.lmdb_pages import check_pages
from deepmd.data.storage import LARGEST, describe_odd
from deepmd.data.system import COORD, TYPES, System, match_types
from deepmd.dpmodel.label import Label

#: Names of arrays in a frame that are called otherwise here.
NAMES = {
    "coords": "coord",
    "cells": "box",
    "energies": "energy",
    "forces": "force",
    "virials": "virial",
    "atom_types": TYPES.name,
    "atype": TYPES.name,
}
METADATA = b"__metadata__"


class LmdbFile:
    """An LMDB data set, opened for reading.

    Parameters
    ----------
    path : str
        Folder with ``data.mdb``, or the file itself.

    Attributes
    ----------
    natoms : (nframes,) int64
        Atoms of every frame, virtual ones included.
    system : (nframes,) int64
        System of every frame; all 0 if the file does not say.
    names : list of str
        What the types mean.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._environment = _open(os.path.realpath(path), _modified(path))
        about = self._unpack(METADATA, "its metadata")
        try:
            self.names = [_text(name) for name in about["type_map"]]
            count, self._format = int(about["nframes"]), _text(about["frame_idx_fmt"])
            if not re.fullmatch(r"[0-9]{0,3}[dxXob]?", self._format):
                raise ValueError(f"frame_idx_fmt {shown(self._format)}")
            format(0, self._format)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise DataError(
                f"the metadata lack nframes, frame_idx_fmt or type_map ({reason(error)})",
                where=path,
                fix="write the data set again",
            ) from None
        entries = int(self._environment.stat()["entries"])
        if not 0 <= count < entries:
            raise DataError(
                f"the metadata speak of {count} frames, there are {entries - 1}",
                where=path,
                fix="write the data set again",
            )
        natoms = about.get("frame_nlocs")
        if natoms is None:
            natoms = [len(np.ravel(self.frame(k)[TYPES.name])) for k in range(count)]
        self.natoms = self._per_frame("frame_nlocs", natoms, count)
        self.system = self._per_frame(
            "frame_system_ids", about.get("frame_system_ids", [0] * count), count
        )

    def _per_frame(self, name: str, values: Any, count: int) -> np.ndarray:
        with reading(f"{self.path}: {name}"):
            array = np.asarray(values)
        if array.shape != (count,) or array.dtype.kind not in "iu" or (array < 0).any():
            raise DataError(
                f"{name} of the metadata is no list of {count} whole numbers",
                where=self.path,
                fix="write the data set again",
            )
        return array.astype(np.int64)

    def frame(self, number: int) -> dict[str, Any]:
        """Arrays and numbers of a frame by name.

        Raises
        ------
        DataError
            If the frame is missing or damaged, or without positions or types.
        """
        what = f"frame {number}"
        found = self._unpack(format(number, self._format).encode(), what)
        out = {NAMES.get(k, k): v for k, v in found.items()}
        for name in (COORD.name, TYPES.name):
            if name not in out:
                raise DataError(f"{what} has no {name}", where=self.path, fix="remove the frame")
        return out

    def _unpack(self, key: bytes, what: str) -> dict[str, Any]:
        import msgpack

        with reading(f"{self.path}: {what}"), self._environment.begin() as transaction:
            packed = transaction.get(key)
        if packed is None:
            raise DataError(f"{what} is missing", where=self.path, fix="write the data set again")
        try:
            raw = msgpack.unpackb(packed, raw=False, strict_map_key=False)
            return {_text(name): _value(value) for name, value in raw.items()}
        except Exception as error:
            raise DataError(
                f"{what} cannot be read ({reason(error)})",
                where=self.path,
                fix="write the data set again",
            ) from error


class LmdbSystem(System):
    """Frames of one size of an LMDB data set; every frame has its own types.

    Parameters
    ----------
    file : LmdbFile
    frames : (nframes,) int64
        As they are numbered in the file; all with the same number of atoms.
    type_map : sequence of str, optional
        The model's types.
    """

    types_name = "atom_types"

    def __init__(
        self, file: LmdbFile, frames: np.ndarray, *, type_map: Sequence[str] | None = None
    ) -> None:
        self.file, self._frames = file, frames
        self.natoms = int(file.natoms[frames[0]])
        self.path = f"{file.path} ({self.natoms} atoms)"
        self._remap, self.type_map = match_types(file.names, type_map, file.path)
        self.mixed, self.atype = True, np.zeros(self.natoms, dtype=np.int64)
        self._last: tuple[bytes, list[dict[str, Any]]] = b"", []
        self.periodic = bool(self._read_cells(frames[:1]).any())

    def _decoded(self, frames: np.ndarray) -> list[dict[str, Any]]:
        """Read frames; those of the last call are kept, for they are asked for by array."""
        key, decoded = self._last
        if key != frames.tobytes():
            decoded = [self.file.frame(int(k)) for k in frames]
            self._last = frames.tobytes(), decoded
        return decoded

    def _numbers(
        self, frame: dict[str, Any], number: int, name: str, widths: Sequence[int]
    ) -> np.ndarray:
        """Numbers of one array of a frame, checked and flat."""
        with reading(f"{self.file.path}: {name} of frame {number}", fix="remove the frame"):
            array = np.asarray(frame[name])
            if array.dtype.kind in "fiub":
                with np.errstate(
                    invalid="ignore", over="ignore"
                ):  # the numbers are looked at below
                    array = array.astype(np.float64)
        what = None
        if array.dtype.kind != "f":
            what = f"holds {array.dtype}, real numbers were expected"
        elif array.size not in widths:
            what = f"has {array.size} numbers, expected {' or '.join(map(str, widths))}"
        elif not (np.abs(array) <= LARGEST).all():
            what = f"has a {describe_odd(array).removeprefix('the ')}"
        if what is not None:
            raise DataError(
                f"{name} of frame {number} {what}", where=self.file.path, fix="remove the frame"
            )
        return array.reshape(-1)

    def _read_cells(self, frames: np.ndarray) -> np.ndarray:
        cell = np.zeros((len(frames), 9))
        for k, frame in enumerate(self._decoded(frames)):
            if frame.get("box") is not None:
                cell[k] = self._numbers(frame, frames[k], "box", [9])
        return cell.reshape(-1, 3, 3)

    def check(self, labels: Sequence[Label]) -> dict[str, bool]:
        """Say what the first frame has; frames are looked at when they are read."""
        first = self._frames[:1]
        return {la.name: len(first) > 0 and self._read(la, first) is not None for la in labels}

    def scan(self, labels: Sequence[Label]) -> None:
        for frames in self._portions(labels):
            # A label counts for frames that are read together if all have it.
            alike: dict[tuple[bool, ...], list[int]] = {}
            for number, frame in zip(frames, self._decoded(self._frames[frames]), strict=True):
                has = tuple(any(_has(frame, n) for n in la.file_names()) for la in labels)
                alike.setdefault(has, []).append(int(number))
            for some in alike.values():
                self.load(some, labels)

    def _read(self, label: Label, frames: np.ndarray) -> np.ndarray | None:
        """Values of frames; None where any of them has none."""
        widths = [label.size * (self.natoms if label.atomic else 1)]
        if label.pairwise:
            widths = [(3 * self.natoms) ** 2]
        types = None if label.sel_type is None else self._types(frames)
        rows = []
        for k, frame in enumerate(self._decoded(frames)):
            name = next((n for n in label.file_names() if _has(frame, n)), None)
            if name is None and label.required:
                raise DataError(
                    f"frame {frames[k]} has no {label.name}",
                    where=self.file.path,
                    fix="add it, or leave out the term that needs it",
                )
            if name is None:
                return None
            if types is None:
                rows.append(self._numbers(frame, frames[k], name, widths))
            else:
                some = label.size * int(np.isin(types[k], label.sel_type or ()).sum())
                values = self._numbers(frame, frames[k], name, [*widths, some])
                rows.append(self._spread(values[None], label, types[k : k + 1])[0])
        return np.stack(rows)


def open_lmdb(
    path: str,
    *,
    type_map: Sequence[str] | None = None,
    blocks: Sequence[tuple[int, int]] = (),
    first: int = 0,
) -> list[System]:
    """Open an LMDB data set as systems of frames of one size each.

    Parameters
    ----------
    path : str
    type_map : sequence of str, optional
        The model's types.
    blocks : sequence of (int, int)
        Ranges of systems, by ``auto_prob``, whose frames must not be put together with others.
    first : int
        Number of the first system of the file among those of the input.
    """
    file = LmdbFile(path)
    number = file.system + first
    block = np.full(len(number), -1)
    for k, (begin, end) in enumerate(blocks):
        block[(number >= begin) & (number < end)] = k
    out: list[System] = []
    for of_block in np.unique(block):
        for natoms in np.unique(file.natoms[block == of_block]):
            frames = np.flatnonzero((block == of_block) & (file.natoms == natoms))
            system = LmdbSystem(file, frames, type_map=type_map)
            system.numbers = int(number[frames].min()), int(number.max())
            out.append(system)
    if not out:
        raise DataError("has no frame", where=path, fix="write the data set again")
    return out


def is_lmdb(path: str) -> bool:
    """Whether a path names an LMDB data set."""
    return path.rstrip("/").endswith(".lmdb") or os.path.isfile(os.path.join(path, "data.mdb"))


def _modified(path: str) -> int:
    file = os.path.join(path, "data.mdb") if os.path.isdir(path) else path
    if not os.path.isfile(file):
        raise DataError("there is no such data set", where=path, fix="check the path")
    return os.stat(file).st_mtime_ns


def import_packages(path: str) -> tuple[Any, Any]:
    """Return the packages lmdb and msgpack; raise NotAvailableError if one is not installed."""
    try:
        import lmdb
        import msgpack
    except ImportError as error:
        raise NotAvailableError(
            f"the package {error.name} is not installed",
            where=path,
            fix='pip install "deepmd-kit[lmdb]"',
        ) from None
    return lmdb, msgpack


@functools.lru_cache(maxsize=16)
def _open(path: str, _mtime: int) -> Any:
    """Open a file once: a process may not have it open twice."""
    lmdb, _ = import_packages(path)
    file = os.path.join(path, "data.mdb") if os.path.isdir(path) else path
    check_pages(file)
    try:
        return lmdb.open(
            path, subdir=os.path.isdir(path), readonly=True, lock=False, readahead=False
        )
    except lmdb.Error as error:
        raise DataError(
            f"is no readable LMDB file ({error})", where=path, fix="copy it again"
        ) from None


def _text(name: Any) -> str:
    return name.decode() if isinstance(name, bytes) else str(name)


def _value(value: Any) -> Any:
    """Return an array for a map of type, shape and bytes; other values as they are."""
    if isinstance(value, list) and value and all(isinstance(v, dict) for v in value):
        return np.stack([_value(v) for v in value])
    if not isinstance(value, dict):
        return value
    fields = {_text(k): v for k, v in value.items()}
    if "data" not in fields:
        return fields
    array = np.frombuffer(fields["data"], dtype=np.dtype(_text(fields["type"])))
    return array.reshape(fields.get("shape", (-1,)))


def _has(frame: dict[str, Any], name: str) -> bool:
    """Whether a frame has a label: it is there, and its flag does not say otherwise."""
    return frame.get(name) is not None and bool(np.all(frame.get(f"find_{name}", 1.0)))
