# SPDX-License-Identifier: LGPL-3.0-or-later
"""The dictionary of a model as two pieces of bytes, JSON and an archive of arrays.

Files that hold programs beside it (``.pth``, ``.pb``) keep it in this form. Equal dictionaries give
equal bytes.
"""

import io
import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from deepmd.base.errors import ModelFileError
from deepmd.io.archive import read_npz
from deepmd.io.files import check_frame
from deepmd.io.guard import check_model_tree

_ARRAY = "@array"


def pack_tree(tree: Mapping[str, Any]) -> tuple[str, bytes]:
    """Return a dictionary as JSON, in which arrays are named, and these arrays as ``.npz``.

    Raises
    ------
    TypeError
        If it holds something else.
    """
    text, arrays = named_arrays(tree)
    packed = io.BytesIO()
    np.savez(packed, **arrays)  # type: ignore[arg-type]
    return text, packed.getvalue()


def named_arrays(tree: Mapping[str, Any]) -> tuple[str, dict[str, np.ndarray]]:
    """Return a dictionary as JSON, in which arrays are named, and these arrays by name."""
    arrays: dict[str, np.ndarray] = {}

    def store(value: Any) -> dict[str, str]:
        if not isinstance(value, (np.ndarray, np.generic)):
            raise TypeError(f"{type(value).__name__} found in a model dictionary")
        name = f"array_{len(arrays):04d}"
        arrays[name] = np.asarray(value)
        return {_ARRAY: name}

    return json.dumps(tree, default=store), arrays


def unpack_tree(text: str | bytes, packed: bytes) -> dict[str, Any]:
    """Return the dictionary of :func:`pack_tree`.

    Raises
    ------
    ModelFileError
        If it is no dictionary of a model; and others, for damaged pieces: call it inside of
        :func:`deepmd.io.guard.opening`.
    """
    tree = with_arrays(text, read_npz(packed))
    check_frame(tree)
    return tree


def with_arrays(text: str | bytes, arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Return the dictionary of :func:`named_arrays`; raises as :func:`unpack_tree`."""

    def restored(node: dict[str, Any]) -> Any:
        return arrays[node[_ARRAY]] if _ARRAY in node else node

    tree = json.loads(text, object_hook=restored)
    check_model_tree(tree, len(text))
    if not isinstance(tree, dict):
        raise ModelFileError("holds no dictionary; no model")
    return tree
