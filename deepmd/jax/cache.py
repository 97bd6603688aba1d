# SPDX-License-Identifier: LGPL-3.0-or-later
"""Compiled programs: not too many of them."""

import gc
import logging
from pathlib import Path

import jax

log = logging.getLogger(__name__)


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
