# SPDX-License-Identifier: LGPL-3.0-or-later
"""Structure of an LMDB file, checked before the library maps it.

The library trusts its files: a damaged page makes it read beyond the mapping, or abort. Here the
pages that a reader may come by are followed once: numbers of pages, offsets of nodes and lengths of
values must lie within the file. Format: version 1 of the data file, as in the library's ``mdb.c``
(header of 16 bytes, then offsets of nodes; two pages with the roots first).
"""

import mmap
import os
import struct
from typing import Any, NamedTuple

from deepmd.base.reading import reading

_MAGIC, _VERSION = 0xBEEFC0DE, 1
_BRANCH, _LEAF = 1, 2
_BIG_VALUE = 1
_NONE = 2**64 - 1
_HEADER, _NODE, _MOST_LEVELS = 16, 8, 32


class _Root(NamedTuple):
    """Start of a reader: bytes per page, first page of the tree, last page in use."""

    page_size: int
    page: int
    last: int
    transaction: int


def check_pages(path: str) -> None:
    """Check that a data file can be read without leaving it.

    Raises
    ------
    DataError
        If it cannot.
    """
    with reading(path, fix="copy it again"), open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size < 2 * 512:
            raise ValueError("it is too short for an LMDB file")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            _follow(data, size, _newest_root(data, size))


def _newest_root(data: Any, size: int) -> _Root:
    first = _read_root(data, 0)
    if first.page_size < 512 or first.page_size > 1 << 16 or 2 * first.page_size > size:
        raise ValueError("the size of its pages cannot be")
    second = _read_root(data, first.page_size)
    if second.page_size != first.page_size:
        raise ValueError("its two first pages disagree")
    return second if first.transaction < second.transaction else first


def _read_root(data: Any, at: int) -> _Root:
    magic, version = struct.unpack_from("<II", data, at + _HEADER)
    if (magic, version) != (_MAGIC, _VERSION):
        raise ValueError("it does not begin as an LMDB file")
    (page_size,) = struct.unpack_from("<I", data, at + 40)
    (flags,) = struct.unpack_from("<H", data, at + 92)
    page, last, transaction = struct.unpack_from("<QQQ", data, at + 128)
    if flags:
        raise ValueError("its keys are of a kind that data sets do not have")
    return _Root(page_size, page, last, transaction)


def _follow(data: Any, size: int, root: _Root) -> None:
    """Go through all pages of the tree."""
    pages = size // root.page_size
    if root.last >= pages:
        raise ValueError(f"it ends at page {pages} of {root.last + 1}")
    seen: set[int] = set()
    todo = [] if root.page == _NONE else [(root.page, 1)]
    while todo:
        page, level = todo.pop()
        if not 2 <= page <= root.last or page in seen or level > _MOST_LEVELS:
            raise ValueError(f"a reference to page {page} cannot be")
        seen.add(page)
        todo += [(below, level + 1) for below in _check_page(data, page, root, size)]


def _check_page(data: Any, page: int, root: _Root, size: int) -> list[int]:
    """Check the nodes of a page; return the pages that they refer to."""
    start = page * root.page_size
    number, _, flags, lower, upper = struct.unpack_from("<QHHHH", data, start)
    leaf, count = flags == _LEAF, (lower - _HEADER) // 2
    fits = _HEADER < lower <= upper <= root.page_size and lower % 2 == 0
    if number != page or flags not in (_LEAF, _BRANCH) or not fits or (not leaf and count < 2):
        raise ValueError(f"page {page} is damaged")
    below = []
    for at in struct.unpack_from(f"<{count}H", data, start + _HEADER):
        if at < upper or at + _NODE > root.page_size:
            raise ValueError(f"page {page} is damaged")
        low, high, kind, key = struct.unpack_from("<HHHH", data, start + at)
        end = at + _NODE + key
        if leaf:
            length = low | high << 16
            if kind & ~_BIG_VALUE:
                raise ValueError(f"page {page} has a value of a kind that data sets do not have")
            if kind & _BIG_VALUE and end + 8 <= root.page_size:
                (first,) = struct.unpack_from("<Q", data, start + end)
                pages = -(-(_HEADER + length) // root.page_size)
                if not 2 <= first <= first + pages - 1 <= root.last:
                    raise ValueError(f"a value of page {page} lies outside of the file")
                end += 8
            elif kind & _BIG_VALUE:
                end = root.page_size + 1
            else:
                end += length
        else:
            below.append(low | high << 16 | kind << 32)
        if end > root.page_size:
            raise ValueError(f"page {page} is damaged")
    return below
