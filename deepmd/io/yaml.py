# SPDX-License-Identifier: LGPL-3.0-or-later
"""Trees of dictionaries with arrays as YAML text (``.yaml``, ``.yml``)."""

from collections.abc import Mapping
from typing import Any, TextIO

import numpy as np
import yaml

from deepmd.io.tree import VARIABLES, map_leaves, plain
from deepmd.utils.errors import ModelFileError

_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Dumper(getattr(yaml, "CSafeDumper", yaml.SafeDumper)):  # type: ignore[misc]
    """The safe writer without references between equal parts."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def write_tree(handle: TextIO, tree: Mapping[str, Any]) -> None:
    """Write a tree as YAML, in its own order."""
    yaml.dump(
        map_leaves(tree, _text),
        handle,
        Dumper=_Dumper,
        sort_keys=False,
        default_flow_style=None,
        width=100,
    )


def _text(node: Any, inside: bool) -> Any:
    if not inside or node is None:
        return plain(node)
    value = np.asarray(node)
    if value.dtype.kind not in "fiub":
        raise ModelFileError(
            f"arrays of {value.dtype} cannot be written as text", fix="write a .dp file instead"
        )
    if value.ndim == 0 and value.dtype in (np.float64, np.int64):
        return value.item()
    # Lists cannot tell the shape of an array without elements.
    shape = {"shape": list(value.shape)} if value.size == 0 and value.ndim > 1 else {}
    return {
        "@class": "np.ndarray",
        "@is_variable": True,
        "@version": 1,
        "dtype": value.dtype.name,
        **shape,
        "value": value.tolist(),
    }


def read_tree(handle: TextIO) -> dict[str, Any]:
    """Read a tree; arrays come as NumPy arrays.

    Raises
    ------
    ModelFileError
        If the text is no YAML, or holds something else.
    """
    try:
        tree = yaml.load(handle, Loader=_Loader)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        line = " ".join(str(error).split())
        raise ModelFileError(f"cannot be read as YAML ({line})") from None
    if not isinstance(tree, dict):
        raise ModelFileError("holds no dictionary; no model")
    return _arrays(tree, False)


def _arrays(node: Any, inside: bool) -> Any:
    if isinstance(node, dict):
        if node.get("@class") == "np.ndarray":
            return _array(node)
        return {k: _arrays(v, inside or k == VARIABLES) for k, v in node.items()}
    if isinstance(node, list):
        return [_arrays(v, inside) for v in node]
    return np.asarray(node) if inside and isinstance(node, (int, float)) else node


def _array(node: dict[str, Any]) -> np.ndarray:
    try:
        dtype = np.dtype(node["dtype"])
        if dtype.kind not in "fiub":
            raise TypeError(f"{dtype} is no type of numbers")
        value = np.array(node["value"], dtype=dtype)
        return value.reshape(node["shape"]) if "shape" in node else value
    except (KeyError, TypeError, ValueError) as error:
        raise ModelFileError(f"an array cannot be read ({error})") from None
