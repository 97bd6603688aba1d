# SPDX-License-Identifier: LGPL-3.0-or-later
"""Frames written as every kind of data set: NumPy folders, mixed types, HDF5, LMDB, extended XYZ."""

import contextlib
import io
import itertools
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from deepmd.base.errors import InputError, OutputError
from deepmd.base.files import Output, replacing
from deepmd.base.folders import replacing_folder, writing
from deepmd.base.hdf5_output import write_hdf5
from deepmd.data.frames import Frame, Frames, Group, check_numbers
from deepmd.data.lmdb import import_packages
from deepmd.data.path import HDF5_SUFFIXES
from deepmd.data.structure_file import write_group

#: Names of labels in extended XYZ, where they are others.
_XYZ_NAMES = {"force": "forces"}
#: Ends of files that a folder should not have by mistake.
_NO_FOLDER = (
    ".json",
    ".db",
    ".traj",
    ".npy",
    ".npz",
    ".cif",
    ".pdb",
    ".raw",
    ".txt",
    ".csv",
    ".gz",
)
_ELEMENT = re.compile(r"[A-Z][a-z]?")


def kind_of_path(path: str) -> str:
    """Return the kind of data set that the end of a path says; ``npy`` without one.

    Raises
    ------
    InputError
        If it is that of a file which is not written.
    """
    if path.endswith((".extxyz", ".xyz")):
        return "extxyz"
    if path.endswith(_NO_FOLDER):
        raise InputError(
            "files of this kind are not written",
            where=path,
            fix="name a folder, or a file that ends with .extxyz, .hdf5 or .lmdb",
        )
    if path.endswith(HDF5_SUFFIXES):
        return "hdf5"
    return "lmdb" if path.endswith(".lmdb") else "npy"


def write_frames(
    frames: Frames, path: str | os.PathLike[str], kind: str | None = None, *, mixed: bool = False
) -> list[str]:
    """Write a data set; it appears whole or not at all.

    Parameters
    ----------
    frames : Frames
    path : path
    kind : {"npy", "mixed", "hdf5", "lmdb", "extxyz"}, optional
        By default the end of the path decides.
    mixed : bool
        Put frames of one size together, with types of their own, in folders and HDF5.

    Returns
    -------
    list of str
        Names of the systems that were written.

    Raises
    ------
    OutputError
        If the path is taken or cannot be written.
    """
    path = os.fspath(path)
    kind = kind or kind_of_path(path)
    if not frames.frames:
        raise InputError("there is no frame to write", where=path)
    if os.path.isfile(path) or (os.path.isdir(path) and os.listdir(path)):
        raise OutputError("exists already", where=path, fix="remove it or name another output")
    writer: dict[str, Callable[[], list[str]]] = {
        "npy": lambda: _write_folder(frames, path, mixed=mixed),
        "mixed": lambda: _write_folder(frames, path, mixed=True),
        "hdf5": lambda: _write_hdf5(frames, path, mixed=mixed),
        "lmdb": lambda: _write_lmdb(frames, path),
        "extxyz": lambda: _write_extxyz(frames, path),
    }
    return writer[kind]()


def _write_folder(frames: Frames, path: str, *, mixed: bool) -> list[str]:
    groups = frames.systems(mixed=mixed)
    with replacing_folder(path, {}, "type.raw") as folder:
        for name, group in groups.items():
            (first,) = frames.some(group.members[:1])
            for file, text in group.texts(first, mixed=mixed).items():
                with writing(folder / name / file, path) as out:
                    out.write(text.encode())
            _write_arrays(folder / name, path, group, mixed=mixed)
    return list(groups)


def _write_arrays(folder: Path, path: str, group: Group, *, mixed: bool) -> None:
    """Write the arrays of a system, some frames at a time."""
    total = len(group.members)
    with contextlib.ExitStack() as stack:
        files: dict[str, Output] = {}
        for arrays in group.portions(mixed=mixed):
            for name, array in arrays.items():
                if name not in files:
                    files[name] = stack.enter_context(writing(folder / name, path))
                    files[name].write(_npy_header(array, total))
                files[name].write(np.ascontiguousarray(array).tobytes())


def _npy_header(array: np.ndarray, total: int) -> bytes:
    """Return the first bytes of the file of an array with ``total`` rows like those given."""
    memory = io.BytesIO()
    about = np.lib.format.header_data_from_array_1_0(np.ascontiguousarray(array))
    np.lib.format.write_array_header_1_0(memory, about | {"shape": (total, *array.shape[1:])})
    return memory.getvalue()


def _write_hdf5(frames: Frames, path: str, *, mixed: bool) -> list[str]:
    groups = frames.systems(mixed=mixed)

    def fill(handle: Any) -> None:
        for name, group in groups.items():
            stored = handle.create_group(name)
            (first,) = frames.some(group.members[:1])
            write_group(stored, group.texts(first, mixed=mixed))
            _fill_arrays(stored, group, mixed=mixed)

    write_hdf5(path, fill)
    return list(groups)


def _fill_arrays(stored: Any, group: Group, *, mixed: bool) -> None:
    """Store the arrays of a system in its group of the file, some frames at a time."""
    total, start = len(group.members), 0
    for arrays in group.portions(mixed=mixed):
        for name, array in arrays.items():
            if name not in stored:
                stored.create_dataset(name, shape=(total, *array.shape[1:]), dtype=array.dtype)
            stored[name][start : start + len(array)] = array
        start += len(arrays["set.000/coord.npy"])


# -- LMDB -----------------------------------------------------------------------------------------

#: Frames that are written at once.
_COMMIT = 500
_LMDB_NAMES = {"energy": "energies", "force": "forces", "virial": "virials"}


def _write_lmdb(frames: Frames, path: str) -> list[str]:
    lmdb, msgpack = import_packages(path)
    groups = frames.systems(mixed=False)
    system = {k: number for number, g in enumerate(groups.values()) for k in g.members}
    sizes = {k: len(f.types) for g in groups.values() for k, f in _checked(frames, g)}
    count = len(frames.frames)
    about = {
        "nframes": count,
        "frame_idx_fmt": "012d",
        "type_map": frames.names,
        "frame_nlocs": [sizes[k] for k in range(count)],
        "frame_system_ids": [system[k] for k in range(count)],
    }
    head = msgpack.packb(about)
    room = sum(_lmdb_size(frames, n) + 8192 for n in sizes.values()) + len(head)
    with replacing_folder(path, {}, "data.mdb") as folder:
        try:
            with lmdb.open(str(folder), map_size=2 * room + (1 << 20), lock=False) as environment:
                with environment.begin(write=True) as transaction:
                    transaction.put(b"__metadata__", head)
                numbered = enumerate(frames.frames)
                while part := list(itertools.islice(numbered, _COMMIT)):
                    with environment.begin(write=True) as transaction:  # which is in memory
                        for k, frame in part:
                            packed = msgpack.packb(_lmdb_frame(frames, frame))
                            transaction.put(format(k, "012d").encode(), packed)
        except lmdb.Error as error:
            raise OutputError(f"cannot be written: {error}", where=path) from None
    return list(groups)


def _checked(frames: Frames, group: Group) -> Iterator[tuple[int, Frame]]:
    """Iterate over the frames of a group with their numbers, when their values can be used."""
    for k, frame in zip(group.members, frames.some(group.members), strict=True):
        group.arrays_of([frame], mixed=False)
        yield k, frame


def _lmdb_size(frames: Frames, natoms: int) -> int:
    """Return the bytes that a frame of so many atoms takes at most."""
    numbers = 4 * natoms + 9
    for label in frames.labels.values():
        rows = 9 * natoms**2 if label.pairwise else natoms if label.atomic else 1
        numbers += rows * label.size
    return 8 * numbers + 256 * (len(frames.labels) + 3)


def _lmdb_frame(frames: Frames, frame: Frame) -> dict[str, Any]:
    natoms = len(frame.types)
    out = {"atom_types": _packed(frame.types), "coords": _packed(frame.coord)}
    out["cells"] = None if frame.cell is None else _packed(frame.cell)  # type: ignore[assignment]
    for name, values in frame.labels.items():
        label = frames.labels[name]
        shaped = values.reshape(natoms, -1) if label.atomic else values
        out[_LMDB_NAMES.get(name, name)] = _packed(shaped)
    return out


def _packed(array: np.ndarray) -> dict[str, Any]:
    array = np.ascontiguousarray(array)
    return {"type": array.dtype.str, "shape": list(array.shape), "data": array.tobytes()}


# -- extended XYZ ---------------------------------------------------------------------------------


def _write_extxyz(frames: Frames, path: str) -> list[str]:
    odd = next((n for n in frames.names if not _ELEMENT.fullmatch(n)), None)
    if odd is not None:
        raise InputError(
            f'type "{odd}" is no element, which extended XYZ demands',
            where=path,
            fix="write npy, HDF5 or LMDB",
        )
    check_all(frames)
    with replacing(path) as out, out.text() as handle:
        for frame in frames.frames:
            handle.writelines(_xyz_lines(frames, frame))
    return [Path(path).name]


def check_all(frames: Frames) -> None:
    """Raise DataError for a number that cannot be used."""
    for frame in frames.frames:
        for name, values in [("coord", frame.coord), *frame.labels.items()]:
            check_numbers(name, values.reshape(1, -1), [frame])


def _xyz_lines(frames: Frames, frame: Frame) -> Iterator[str]:
    """Lines of one frame; numbers are written so that reading gives the same ones."""
    natoms = len(frame.types)
    properties, columns = "species:S:1:pos:R:3", [frame.coord]
    fields = []
    if frame.cell is not None:
        fields.append(f'Lattice="{_words(frame.cell.reshape(-1))}"')
    for name, values in sorted(frame.labels.items()):
        shown = _XYZ_NAMES.get(name, name)
        if frames.labels[name].atomic:
            columns.append(values.reshape(natoms, -1))
            properties += f":{shown}:R:{columns[-1].shape[1]}"
        elif values.size == 1:
            fields.append(f"{shown}={float(values[0])!r}")
        else:  # matrices of 3 x 3 numbers are written by columns
            ordered = values.reshape(3, 3).T.reshape(-1) if values.size == 9 else values
            fields.append(f'{shown}="{_words(ordered)}"')
    pbc = "F F F" if frame.cell is None else "T T T"
    yield f'{natoms}\nProperties={properties} {" ".join(fields)} pbc="{pbc}"\n'
    rows = np.hstack(columns).tolist()
    for t, row in zip(frame.types.tolist(), rows, strict=True):
        yield f"{frames.names[t]} {' '.join(map(repr, row))}\n"


def _words(values: np.ndarray) -> str:
    return " ".join(map(repr, np.asarray(values, dtype=np.float64).tolist()))
