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
from deepmd.io.digest import content_key
from deepmd.io.files import OPERATIONS, check_frame
from deepmd.io.guard import MODELS, Allowance, check_model_tree

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


def named_arrays(
    tree: Mapping[str, Any], *, once: bool = False
) -> tuple[str, dict[str, np.ndarray]]:
    """Return a dictionary as JSON, in which arrays are named, and these arrays by name.

    With ``once``, equal arrays have one name.
    """
    arrays: dict[str, np.ndarray] = {}
    known: dict[str, str] = {}

    def store(value: Any) -> dict[str, str]:
        if not isinstance(value, (np.ndarray, np.generic)):
            raise TypeError(f"{type(value).__name__} found in a model dictionary")
        name, array = f"array_{len(arrays):04d}", np.asarray(value)
        name = known.setdefault(content_key(array), name) if once else name
        arrays[name] = array
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
    tree.pop(OPERATIONS, None)
    return tree


def with_arrays(text: str | bytes, arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Return the dictionary of :func:`named_arrays`; raises as :func:`unpack_tree`.

    An array that is named repeatedly is copied, so that each place can be changed alone.
    """
    allowance = Allowance(len(text) + sum(array.nbytes for array in arrays.values()), MODELS)
    seen: set[str] = set()

    def restored(node: dict[str, Any]) -> Any:
        if _ARRAY not in node:
            return node
        name = node[_ARRAY]
        array = arrays[name]
        if name not in seen:
            seen.add(name)
            return array
        allowance.take(array.nbytes, f'the repeated array "{name}"')
        return array.copy()

    tree = json.loads(text, object_hook=restored)
    check_model_tree(tree, len(text))
    if not isinstance(tree, dict):
        raise ModelFileError("holds no dictionary; no model")
    return tree


def tree_in(records: Mapping[str, bytes]) -> dict[str, Any] | None:
    """Return the dictionary in the records of a program of PyTorch, or None if it has none."""
    if "extra/model.json" not in records:
        return None
    return unpack_tree(records["extra/model.json"], records["extra/arrays.npz"])
