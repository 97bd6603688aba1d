# SPDX-License-Identifier: LGPL-3.0-or-later
"""Trees of model files: plain values, mapping over leaves, differences."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

VARIABLES = "@variables"


def map_leaves(node: Any, change: Callable[[Any, bool], Any], inside: bool = False) -> Any:
    """Return a copy of a tree with ``change(leaf, inside)`` in the places of its leaves.

    ``inside`` says whether a leaf is below the key ``@variables``. Keys become strings, tuples
    lists.
    """
    if isinstance(node, Mapping):
        return {str(k): map_leaves(v, change, inside or k == VARIABLES) for k, v in node.items()}
    if isinstance(node, (list, tuple)):
        return [map_leaves(v, change, inside) for v in node]
    return change(node, inside)


def plain(value: Any) -> Any:
    """Return a value of the part of a tree that holds no arrays, as JSON and YAML know it."""
    if isinstance(value, np.generic):
        return value.item()
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TypeError(f"{type(value).__name__} found outside of {VARIABLES} in a model dictionary")


def difference(a: Any, b: Any, path: str = "") -> str | None:
    """Return the path of the first difference between two trees, or None.

    Keys, their order, dtypes, shapes and values count; a tuple equals a list, a scalar below
    ``@variables`` an array without axes, and NaN itself.
    """
    if isinstance(a, dict) and isinstance(b, dict):
        if list(a) != list(b):
            return path or "/"
        pairs = [(f"{path}/{k}", a[k], b[k]) for k in a]
    elif isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)):
        if len(a) != len(b):
            return path
        pairs = [(f"{path}/{k}", x, y) for k, (x, y) in enumerate(zip(a, b, strict=True))]
    else:
        return None if _same(a, b) else path
    for where, x, y in pairs:
        found = difference(x, y, where)
        if found is not None:
            return found
    return None


def _same(a: Any, b: Any) -> bool:
    if a is None or b is None or isinstance(a, str) or isinstance(b, str):
        return a is b or (type(a) is type(b) and a == b)
    if isinstance(a, (dict, list, tuple)) or isinstance(b, (dict, list, tuple)):
        return False
    if isinstance(a, bytes) or isinstance(b, bytes):
        return np.asarray(a).tobytes() == np.asarray(b).tobytes()
    x, y = np.asarray(a), np.asarray(b)
    # A NumPy scalar among plain values becomes a plain number.
    scalar = isinstance(a, np.generic) or isinstance(b, np.generic)
    if x.shape != y.shape or (x.dtype != y.dtype and not scalar):
        return False
    return np.array_equal(x, y, equal_nan=x.dtype.kind in "fc")
