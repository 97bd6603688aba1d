# SPDX-License-Identifier: LGPL-3.0-or-later
"""Tensors of TensorFlow's checkpoints, ``model.ckpt-N.{index,data-00000-of-00001}``.

The index is a sorted table in blocks, in which keys share prefixes with those before them, as in
the files of LevelDB; its values say where the numbers of a tensor lie in the data.
"""

import functools
import math
import os
import struct
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from deepmd.base.errors import ModelFileError
from deepmd.io.graph.messages import message
from deepmd.io.graph.tensors import dtype_of, kind_of, shape_of
from deepmd.io.guard import AGAIN, Allowance, opening, regular_size

_MAGIC = 0xDB4775248B80FB57
_FOOTER = 48
#: Compression and checksum behind every block.
_TRAILER = 5
_POLYNOMIAL = 0x82F63B78


def read_bundle(
    prefix: str | os.PathLike[str], wanted: Callable[[str], bool] = lambda name: True
) -> dict[str, np.ndarray]:
    """Read tensors of a checkpoint.

    Parameters
    ----------
    prefix : path
        Without the suffixes of the three files: ``model.ckpt-1000``.
    wanted : callable, optional
        Whether a name is read.

    Returns
    -------
    dict of str to array

    Raises
    ------
    ModelFileError
        If a file is missing or damaged, or the tensors are no numbers.
    """
    index = Path(f"{os.fspath(prefix)}.index")
    with opening(index):
        regular_size(index)
        entries = dict(_entries(index.read_bytes()))
        header = _message("BundleHeaderProto", entries.pop(b"", b""))
        if header.endianness:
            raise ModelFileError("was written on a big-endian machine, which is not read")
        if not 0 < header.num_shards <= 10_000:
            raise ModelFileError("does not say in how many files its data are", fix=AGAIN)
        found = {k.decode(): _message("BundleEntryProto", v) for k, v in entries.items()}
        found = {k: v for k, v in found.items() if wanted(k) and kind_of(v.dtype) != "STRING"}
    return _arrays(os.fspath(prefix), header.num_shards, found)


def _message(kind: str, data: bytes) -> Any:
    made = message(kind)
    made.ParseFromString(data)
    return made


def _arrays(prefix: str, shards: int, entries: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Read the arrays of entries, each from the file that it names."""
    arrays = {}
    for shard in sorted({e.shard_id for e in entries.values()}):
        path = Path(f"{prefix}.data-{shard:05d}-of-{shards:05d}")
        with opening(path):
            size = regular_size(path)
            data, allowance = path.read_bytes(), Allowance(size)
            for name, entry in entries.items():
                if entry.shard_id == shard:
                    arrays[name] = _array(name, entry, data, allowance)
    return {name: arrays[name] for name in entries}


def _array(name: str, entry: Any, data: bytes, allowance: Allowance) -> np.ndarray:
    """Return one array."""
    dtype, shape = dtype_of(entry.dtype, name), shape_of(entry.shape, name)
    size = math.prod(shape) * dtype.itemsize
    inside = entry.offset >= 0 and entry.offset + size <= len(data)
    if entry.slices or size != entry.size or not inside:
        raise ModelFileError(
            f'the tensor "{name}" does not lie in the file as it should', fix=AGAIN
        )
    allowance.take(size, f'the tensor "{name}"')
    part = data[entry.offset : entry.offset + size]
    if _masked(checksum(part)) != entry.crc32c:
        raise ModelFileError(f'the checksum of the tensor "{name}" differs', fix=AGAIN)
    flat = np.frombuffer(part, dtype)
    return flat.astype(dtype.newbyteorder("=")).reshape(shape)


# -- table ----------------------------------------------------------------------------------------


def _entries(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Iterate over the keys and values of a table."""
    if len(data) < _FOOTER or struct.unpack("<Q", data[-8:])[0] != _MAGIC:
        raise ModelFileError("is no index of a checkpoint of TensorFlow, or its end is lost")
    footer = data[-_FOOTER:]
    _, at = _handle(footer, 0)  # of a block about the file
    (start, size), _ = _handle(footer, at)
    for _, value in _pairs(_block(data, start, size)):
        (start, size), _ = _handle(value, 0)
        yield from _pairs(_block(data, start, size))


def _handle(data: bytes, at: int) -> tuple[tuple[int, int], int]:
    """Return (begin, size) of a block, and where the next handle begins."""
    start, at = _varint(data, at)
    size, at = _varint(data, at)
    return (start, size), at


def _block(data: bytes, start: int, size: int) -> bytes:
    """Return the entries of a block, after comparing its checksum."""
    end = start + size
    if end + _TRAILER > len(data):
        raise ModelFileError("a block lies beyond its end", fix=AGAIN)
    if data[end]:
        raise ModelFileError("its blocks are compressed, which is not read")
    stored = struct.unpack("<I", data[end + 1 : end + _TRAILER])[0]
    if _masked(checksum(data[start : end + 1])) != stored:
        raise ModelFileError("the checksum of a block differs", fix=AGAIN)
    # Behind the entries: where keys are written in full, and how many such there are.
    restarts = struct.unpack("<I", data[end - 4 : end])[0] if size >= 4 else 0
    last = end - 4 - 4 * restarts
    if last < start:
        raise ModelFileError("a block is cut", fix=AGAIN)
    return data[start:last]


def _pairs(block: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Iterate over the keys and values of a block."""
    at, key = 0, b""
    while at < len(block):
        shared, at = _varint(block, at)
        fresh, at = _varint(block, at)
        length, at = _varint(block, at)
        if shared > len(key) or at + fresh + length > len(block):
            raise ModelFileError("an entry of a block is cut", fix=AGAIN)
        key = key[:shared] + block[at : at + fresh]
        at += fresh
        yield key, block[at : at + length]
        at += length


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """Return the integer that begins at a position, and the position behind it."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            break
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ModelFileError("a number of its index is cut", fix=AGAIN)


# -- checksums ------------------------------------------------------------------------------------


def checksum(data: bytes) -> int:
    """Return the CRC-32C of bytes.

    The remainder of parts is linear in their bits: all parts of one length advance together, and
    are then put together by their powers.
    """
    lanes = max(1, min(1024, len(data) // 64))
    length = len(data) // lanes
    head = len(data) - lanes * length
    crc = _bytewise(data[:head], 0xFFFFFFFF)
    table = _table()
    columns = np.frombuffer(data, np.uint8, offset=head).reshape(lanes, length)
    remainders = np.zeros(lanes, np.uint32)
    for column in columns.T:
        remainders = table[(remainders ^ column) & 0xFF] ^ (remainders >> np.uint32(8))
    shift = _advance(length)
    for remainder in remainders:
        crc = _shifted(crc, shift) ^ int(remainder)
    return crc ^ 0xFFFFFFFF


def _bytewise(data: bytes, crc: int) -> int:
    table = _table()
    for byte in data:
        crc = int(table[(crc ^ byte) & 0xFF]) ^ (crc >> 8)
    return crc


@functools.cache
def _table() -> np.ndarray:
    """Remainders of all bytes, (256,) uint32."""
    crc = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        crc = np.where(crc & 1, (crc >> 1) ^ np.uint32(_POLYNOMIAL), crc >> 1).astype(np.uint32)
    return crc


@functools.lru_cache(maxsize=64)
def _advance(length: int) -> tuple[int, ...]:
    """Images of the 32 bits of a remainder after as many zero bytes."""
    columns = tuple(1 << k for k in range(32))
    power = tuple(_bytewise(b"\0", 1 << k) for k in range(32))
    while length:
        if length & 1:
            columns = tuple(_shifted(c, power) for c in columns)
        power = tuple(_shifted(c, power) for c in power)
        length >>= 1
    return columns


def _shifted(crc: int, columns: tuple[int, ...]) -> int:
    """Apply a linear map of bits, given by its columns."""
    out = 0
    for column in columns:
        if not crc:
            break
        if crc & 1:
            out ^= column
        crc >>= 1
    return out


def _masked(crc: int) -> int:
    """Return a checksum in the form that is stored beside data."""
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF
