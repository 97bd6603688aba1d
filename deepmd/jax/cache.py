# SPDX-License-Identifier: LGPL-3.0-or-later
"""Compiled functions: shared by models that differ in their numbers only, and not too many of them.

The members of an ensemble, the tasks of a training and a model before and after a restart have one
architecture. JAX compiles per function object, so they are given the same one.
"""

import gc
import json
import logging
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from deepmd.dpmodel.module import Module

log = logging.getLogger(__name__)

_MOST = 32
_made: OrderedDict[tuple[str, ...], Any] = OrderedDict()


def architecture(module: Module) -> str:
    """Return everything that a compiled function depends on but its arguments."""
    return json.dumps([type(module).__qualname__, _outline(module.serialize())], sort_keys=True)


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


def make_room(limit: int | None = None) -> bool:
    """Drop all compiled programs if there are too many; called before one is compiled.

    A program takes some hundred areas of memory. The system allows a process 65530, as a rule, and
    XLA crashes where it gets no more.

    Parameters
    ----------
    limit : int, optional
        How many areas there may be; half of what the system allows.

    Returns
    -------
    bool
        Whether programs were dropped. They are compiled anew when they are needed again.
    """
    areas, allowed = Path("/proc/self/maps"), Path("/proc/sys/vm/max_map_count")
    if not areas.exists() or not allowed.exists():  # no Linux
        return False
    limit = int(allowed.read_text()) // 2 if limit is None else limit
    if areas.read_bytes().count(b"\n") <= limit:
        return False
    log.info("many compiled programs: all are dropped, and made again as they are needed")
    jax.clear_caches()
    gc.collect()
    return True
