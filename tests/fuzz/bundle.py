# SPDX-License-Identifier: LGPL-3.0-or-later
"""Writer of TensorFlow's tensor files, without TensorFlow: ``.index`` and ``.data-00000-of-00001``."""

import struct
from collections.abc import Mapping

import numpy as np

from deepmd.io.graph.bundle import _entries, _masked, checksum
from deepmd.io.graph.messages import message
from deepmd.io.graph.tensors import KINDS

_NUMBERS = {"FLOAT": 1, "DOUBLE": 2, "INT32": 3, "INT64": 9, "BOOL": 10}
_MAGIC = 0xDB4775248B80FB57


def bundle(arrays: Mapping[str, np.ndarray]) -> tuple[bytes, bytes]:
    """Return index and data of arrays by name."""
    kinds = {np.dtype(KINDS[k][0]): n for k, n in _NUMBERS.items()}
    entries, data = {}, b""
    for name, value in sorted(arrays.items()):
        array = np.asarray(value)
        entry = message("BundleEntryProto")
        entry.dtype, entry.offset = kinds[array.dtype], len(data)
        entry.shape.SetInParent()
        for n in array.shape:
            entry.shape.dim.add(size=n)
        part = array.tobytes()
        entry.size, entry.crc32c = len(part), crc(part)
        data += part
        entries[name.encode()] = entry.SerializeToString()
    header = message("BundleHeaderProto")
    header.num_shards = 1
    return table({b"": header.SerializeToString(), **entries}), data


def crc(data: bytes) -> int:
    """Return the checksum as it stands beside data."""
    return _masked(checksum(data))


def entries_of(index: bytes) -> dict[bytes, bytes]:
    """Return the keys and values of an index."""
    return dict(_entries(index))


def table(entries: Mapping[bytes, bytes]) -> bytes:
    """Return a sorted table of one block."""
    out = b""
    handles = []
    pairs = b"".join(_pair(k, entries[k]) for k in sorted(entries))
    for body in (pairs, b""):
        handles.append(_varint(len(out)) + _varint(len(body) + 8))
        out += _block(body)
    root = _pair(max(entries), handles[0])
    footer = handles[1] + _varint(len(out)) + _varint(len(root) + 8)
    return out + _block(root) + footer.ljust(40, b"\0") + struct.pack("<Q", _MAGIC)


def _block(pairs: bytes) -> bytes:
    # One place where a key is written in full, no compression.
    body = pairs + struct.pack("<II", 0, 1) + b"\0"
    return body + struct.pack("<I", crc(body))


def _pair(key: bytes, value: bytes) -> bytes:
    return _varint(0) + _varint(len(key)) + _varint(len(value)) + key + value


def _varint(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])
