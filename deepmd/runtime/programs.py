# SPDX-License-Identifier: LGPL-3.0-or-later
"""Compiled functions, shared by models that differ in their numbers only.

The members of an ensemble, the tasks of a training and a model before and after a restart have one
architecture. Frameworks compile per function object, so they are given the same one.
"""

import json
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import numpy as np

from deepmd.dpmodel.module import Module, walk

_MOST = 32
_made: OrderedDict[tuple[str, ...], Any] = OrderedDict()


def architecture(module: Module) -> str:
    """Return everything that a compiled function depends on but its arguments."""
    return json.dumps(
        [
            type(module).__qualname__,
            _outline(module.serialize()),
            [(path, list(np.shape(x)), trained) for path, x, trained in walk(module)],
        ],
        sort_keys=True,
    )


def _outline(node: Any) -> Any:
    """Replace arrays by their shapes and dtypes."""
    if isinstance(node, dict):
        return {str(k): _outline(v) for k, v in node.items()}
    if isinstance(node, (list, tuple)):
        return [_outline(v) for v in node]
    if isinstance(node, np.ndarray):
        return [node.dtype.name, *node.shape]
    return node.item() if isinstance(node, np.generic) else node


def shared(make: Callable[[], Any], *key: str) -> Any:
    """Return what ``make`` made for the same key before, or make it; the last few are kept."""
    if key not in _made:
        _made[key] = make()
        while len(_made) > _MOST:
            _made.popitem(last=False)
    _made.move_to_end(key)
    return _made[key]
