# SPDX-License-Identifier: LGPL-3.0-or-later
"""Trees of dictionaries with arrays, stored in HDF5 files (``.dp``, ``.hlo``).

Every array below a key ``@variables`` is a root dataset ``variable_0000``, ``variable_0001``, … in
the order of the tree; equal ones of several models, whose parts may be shared, are one dataset. The
tree itself, with the names of the datasets in the places of the arrays,
is JSON in the attribute ``json`` of the root group. The attribute ``digest`` is the checksum of
both; a file without it is read unchecked.
"""

import itertools
import json
import os
from collections.abc import Callable
from typing import Any

import h5py
import numpy as np

from deepmd.base.errors import ModelFileError
from deepmd.io.digest import DIGEST, check_digest, content_key, digest_of
from deepmd.io.guard import Allowance, check_model_tree
from deepmd.io.hdf5 import open_hdf5
from deepmd.io.tree import map_leaves, plain


def write_tree(handle: h5py.File, tree: dict[str, Any]) -> None:
    """Store a tree in an open, empty HDF5 file."""
    count = itertools.count()
    arrays: list[np.ndarray] = []
    known: dict[str, str] | None = {} if "models" in tree else None

    def store(value: Any, inside: bool) -> Any:
        if not inside:
            return plain(value)
        if value is None:
            return None
        value = np.void(value) if isinstance(value, bytes) else np.asarray(value)
        arrays.append(np.asarray(value))
        return store_once(handle, value, lambda: f"/variable_{next(count):04d}", known)

    text = json.dumps(map_leaves(tree, store), separators=(",", ":"), ensure_ascii=False)
    handle.attrs["json"] = text
    handle.attrs[DIGEST] = digest_of(text, arrays)


def store_once(
    group: h5py.Group, value: Any, name: Callable[[], str], known: dict[str, str] | None
) -> str:
    """Store an array, unless an equal one is ``known`` by its content; return its name."""
    key = "" if known is None else content_key(np.asarray(value))
    if known is not None and key in known:
        return known[key]
    stored = name()
    group.create_dataset(stored, data=value)
    if known is not None:
        known[key] = stored
    return stored


def read_tree(handle: h5py.File) -> dict[str, Any]:
    """Read a tree from an open HDF5 file; arrays come as NumPy arrays.

    Raises
    ------
    ModelFileError
        If the file holds something else, a dataset is missing, or the checksum differs.
    """
    size = handle.id.get_filesize()
    text = read_text(handle, "json")
    if text is None:
        raise ModelFileError('is an HDF5 file without the attribute "json"; no model')
    tree = parsed(text, size)
    several = tree.get("models")
    models = len(several) if isinstance(several, dict) else 1
    allowance, arrays = Allowance(size, models), []

    def restore(value: Any, inside: bool) -> Any:
        if not inside or not isinstance(value, str):
            return value
        arrays.append(read_array(handle, value, allowance))
        return arrays[-1]

    tree = map_leaves(tree, restore)
    check_digest(
        read_text(handle, DIGEST),
        digest_of(text, arrays),
        'delete its attribute "digest", and "probes" from its attribute "json"',
    )
    return tree


def has_digest(path: str | os.PathLike[str]) -> bool:
    """Whether a file has a checksum, which :func:`read_tree` compares."""
    with open_hdf5(path) as handle:
        return DIGEST in handle.attrs


def read_text(group: h5py.Group, name: str) -> str | None:
    """Return an attribute that is one string, or None if there is no attribute of that name."""
    if name not in group.attrs:
        return None
    attribute = group.attrs.get_id(name)
    kind = h5py.check_string_dtype(attribute.dtype)
    if attribute.shape != () or kind is None:
        raise ModelFileError(f'the attribute "{name}" is no text')
    value = group.attrs[name]
    return value.decode() if isinstance(value, bytes) else str(value)


def parsed(text: str, size: int) -> dict[str, Any]:
    """Return the dictionary of a JSON text from a file of ``size`` bytes."""
    try:
        tree = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ModelFileError(f'the attribute "json" cannot be read ({error})') from None
    if not isinstance(tree, dict):
        raise ModelFileError('the attribute "json" holds no dictionary; no model')
    check_model_tree(tree, size)
    return tree


def read_array(group: h5py.Group, name: str, allowance: Allowance) -> np.ndarray:
    """Read one array, if the file is large enough to hold it; links out of the file are refused."""
    link = group.get(name, getlink=True) if name in group else None
    dataset = group[name] if isinstance(link, h5py.HardLink) else None
    if (
        not isinstance(dataset, h5py.Dataset)
        or dataset.dtype.kind not in "fiubcV"
        or dataset.dtype.hasobject
        or dataset.shape is None
        or dataset.is_virtual
        or dataset.external
    ):
        raise ModelFileError(f'the array "{name}" is missing or is no array of numbers')
    allowance.take(int(dataset.size) * dataset.dtype.itemsize, f'the array "{name}"')
    return np.asarray(dataset[()])
