# SPDX-License-Identifier: LGPL-3.0-or-later
"""Zip archives as PyTorch writes them (``.pth``, ``.pt``), checked before PyTorch opens them.

PyTorch does not compare the checksums that its archives have. It also reads archives by other rules
than Python does where they are ambiguous; so it gets a new archive, written from the checked records.
"""

import io
import math
import os
import zipfile
from pathlib import Path

import numpy as np

from deepmd.base.errors import ModelFileError
from deepmd.io.guard import AGAIN, UNPACKED, regular_size

_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_SECOND = (1980, 1, 1, 0, 0, 0)


def read_archive(path: str | os.PathLike[str]) -> dict[str, bytes]:
    """Return the records of an archive by their names in it, without the name of its only folder.

    Raises
    ------
    ModelFileError
        If it is no archive, a checksum differs, names are ambiguous, or records claim to be larger
        than the file can hold.
    zipfile.BadZipFile
        And others, for damaged archives: call it inside of :func:`deepmd.io.guard.opening`.
    """
    size = regular_size(path)
    with open(path, "rb") as raw, zipfile.ZipFile(raw) as archive:
        entries = archive.infolist()
        _check_entries(entries, size)
        records = {_inside(e.filename): archive.read(e) for e in entries if not e.is_dir()}
    if len({name.lower() for name in records}) < len(entries):
        raise ModelFileError("has two records of one name", fix=AGAIN)
    return records


def read_npz(data: bytes) -> dict[str, np.ndarray]:
    """Return the arrays of an ``.npz`` archive; their headers must say how long they are.

    Raises
    ------
    ModelFileError
        If one claims another size than it has, or holds no numbers.
    """
    arrays = {}
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        _check_sizes(archive.infolist(), len(data))
        for entry in archive.infolist():
            arrays[entry.filename.removesuffix(".npy")] = _array(archive.read(entry))
    return arrays


def _array(data: bytes) -> np.ndarray:
    handle = io.BytesIO(data)
    version = np.lib.format.read_magic(handle)
    if version not in ((1, 0), (2, 0)):
        raise ModelFileError(f"an array is of version {version}")
    read = getattr(np.lib.format, f"read_array_header_{version[0]}_0")
    shape, fortran, dtype = read(handle)
    rest = len(data) - handle.tell()
    if dtype.kind not in "fiubcV" or dtype.hasobject or math.prod(shape) * dtype.itemsize != rest:
        raise ModelFileError(f"an array of {dtype} {shape} does not fit its {rest} bytes")
    flat = np.frombuffer(data, dtype, offset=handle.tell())
    return flat.reshape(shape, order="F" if fortran else "C").copy()


def _check_entries(entries: list[zipfile.ZipInfo], size: int) -> None:
    """Raise ModelFileError if records are too large, or lie in several folders."""
    _check_sizes(entries, size)
    if len({e.filename.partition("/")[0] for e in entries}) != 1:
        raise ModelFileError("is no archive of PyTorch: records are not in one folder", fix=AGAIN)


def _check_sizes(entries: list[zipfile.ZipInfo], size: int) -> None:
    """Raise ModelFileError if records overlap or unpack to too much."""
    stored = sum(e.file_size for e in entries if e.compress_type == zipfile.ZIP_STORED)
    packed = sum(e.file_size for e in entries if e.compress_type != zipfile.ZIP_STORED)
    if stored > size or packed > UNPACKED:
        raise ModelFileError(
            f"its records claim {stored + packed:,} bytes, which the file cannot hold", fix=AGAIN
        )
    if any(e.compress_type not in _METHODS for e in entries):
        raise ModelFileError("a record is compressed in an unusual way", fix=AGAIN)


def _inside(name: str) -> str:
    return name.partition("/")[2]


def packed(records: dict[str, bytes], path: str | os.PathLike[str]) -> io.BytesIO:
    """Return an archive of records for PyTorch to open; ``path`` gives its folder a name."""
    buffer, folder = io.BytesIO(), Path(path).stem
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, data in records.items():
            archive.writestr(zipfile.ZipInfo(f"{folder}/{name}", _SECOND), data)
    buffer.seek(0)
    return buffer
