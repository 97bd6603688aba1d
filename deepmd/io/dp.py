# SPDX-License-Identifier: LGPL-3.0-or-later
"""Trees of dictionaries with arrays, stored in HDF5 files (``.dp``, ``.hlo``).

Every array below a key ``@variables`` is a root dataset ``variable_0000``, ``variable_0001``, … in
the order of the tree. The tree itself, with the names of the datasets in the places of the arrays,
is JSON in the attribute ``json`` of the root group.
"""

import itertools
import json
from typing import Any

import h5py
import numpy as np

from deepmd.io.tree import map_leaves, plain
from deepmd.utils.errors import ModelFileError


def write_tree(handle: h5py.File, tree: dict[str, Any]) -> None:
    """Store a tree in an open, empty HDF5 file."""
    count = itertools.count()

    def store(value: Any, inside: bool) -> Any:
        if not inside:
            return plain(value)
        if value is None:
            return None
        name = f"/variable_{next(count):04d}"
        value = np.void(value) if isinstance(value, bytes) else np.asarray(value)
        handle.create_dataset(name, data=value)
        return name

    text = json.dumps(map_leaves(tree, store), separators=(",", ":"), ensure_ascii=False)
    handle.attrs["json"] = text


def read_tree(handle: h5py.File) -> dict[str, Any]:
    """Read a tree from an open HDF5 file; arrays come as NumPy arrays.

    Raises
    ------
    ModelFileError
        If the file holds something else, or a dataset is missing.
    """
    text = handle.attrs.get("json")
    if text is None:
        raise ModelFileError('is an HDF5 file without the attribute "json"; no model')
    try:
        tree = json.loads(text)
    except (TypeError, ValueError) as error:
        raise ModelFileError(f'the attribute "json" cannot be read ({error})') from None
    if not isinstance(tree, dict):
        raise ModelFileError('the attribute "json" holds no dictionary; no model')

    def restore(value: Any, inside: bool) -> Any:
        return _dataset(handle, value) if inside and isinstance(value, str) else value

    return map_leaves(tree, restore)


def _dataset(handle: h5py.File, name: str) -> np.ndarray:
    """Read one array; links that lead out of the file are not followed."""
    link = handle.get(name, getlink=True) if name in handle else None
    dataset = handle[name] if isinstance(link, h5py.HardLink) else None
    if not isinstance(dataset, h5py.Dataset) or dataset.dtype.kind not in "fiubcV":
        raise ModelFileError(f'the array "{name}" is missing or is no array of numbers')
    return np.asarray(dataset[()])
