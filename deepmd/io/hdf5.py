# SPDX-License-Identifier: LGPL-3.0-or-later
"""Opening HDF5 files that may be damaged: what the HDF5 library does not check itself."""

import contextlib
import mmap
import os
import re
import struct
from collections.abc import Iterator

import h5py

from deepmd.base.errors import ModelFileError
from deepmd.io.guard import AGAIN, regular_size

_SIGNATURE = b"\x89HDF\r\n\x1a\n"
#: Of global heaps, which hold the texts of attributes: name, version and three zeros.
_HEAP = b"GCOL\x01\x00\x00\x00"
#: Of an attribute that is one text: the datatype (variable length, of characters), the dataspace
#: (scalar, version 1 or 2), and then the length of the text.
_TEXT = re.compile(
    rb"\x19\x01[\x00\x01]\x00\x10\x00{3}.{12}(?:\x00{4}\x01\x00.{6}|\x02\x00..)(.{4})", re.DOTALL
)


@contextlib.contextmanager
def open_hdf5(path: str | os.PathLike[str]) -> Iterator[h5py.File]:
    """Open an HDF5 file for reading; call it inside of :func:`deepmd.io.guard.opening`.

    Raises
    ------
    ModelFileError
        If it is no HDF5 file, or the library would not come to an end with it.
    """
    if regular_size(path) < len(_SIGNATURE):
        raise _no_hdf5()
    # Opened by Python first: its errors name the reason.
    with open(path, "rb") as raw, mmap.mmap(raw.fileno(), 0, access=mmap.ACCESS_READ) as data:
        if data[: len(_SIGNATURE)] != _SIGNATURE:
            raise _no_hdf5()
        check_heaps(data)
        check_texts(data)
    with h5py.File(path, "r", locking=False) as file:
        yield file


def _no_hdf5() -> ModelFileError:
    return ModelFileError("is no HDF5 file, or its beginning is lost", fix=AGAIN)


def check_texts(data: bytes | mmap.mmap) -> None:
    """Raise ModelFileError if a text of an attribute claims to be longer than the file.

    The library takes the memory before it looks for the text. File Format Specification, IV.A.2:
    datatype message of class 9, dataspace message, then length, heap and index of the text.
    """
    for found in _TEXT.finditer(data):
        if int.from_bytes(found[1], "little") > len(data):
            raise ModelFileError("its texts are damaged", fix=AGAIN)


def check_heaps(data: bytes | mmap.mmap) -> None:
    """Raise ModelFileError if the objects of a global heap do not follow each other.

    HDF5 1.8 to 2.0 read a heap forever that has free space of length 0. File Format Specification,
    III.E: the size of the heap, then objects of index, references, size, and data padded to 8.
    """
    start = data.find(_HEAP)
    while start >= 0:
        head = data[start + 8 : start + 16]
        size = struct.unpack("<Q", head)[0] if len(head) == 8 else 0
        at, end = start + 16, min(start + size, len(data))
        while at + 16 <= end:
            index, length = struct.unpack("<H6xQ", data[at : at + 16])
            step = 16 + -(-length // 8) * 8 if index else length
            if step < 16:
                raise ModelFileError("its texts are damaged", fix=AGAIN)
            at += step
        start = data.find(_HEAP, start + 8)
