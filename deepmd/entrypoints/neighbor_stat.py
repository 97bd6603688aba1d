# SPDX-License-Identifier: LGPL-3.0-or-later
"""``dp neighbor-stat``: smallest distance and largest numbers of neighbors of a data set."""

import logging
from typing import Any

from deepmd.base.errors import InputError
from deepmd.data.neighbor_stat import neighbor_stat as count_neighbors
from deepmd.data.search import open_systems

log = logging.getLogger(__name__)


def neighbor_stat(
    *,
    system: str = ".",
    rcut: float,
    type_map: list[str] | None = None,
    mixed_type: bool = False,
    **_: Any,
) -> tuple[float, list[int]]:
    """Log and return the smallest distance [Å] and the largest numbers of neighbors."""
    if not 0.0 < rcut < float("inf"):
        raise InputError(f"found {rcut}, expected a positive length", where="--rcut")
    systems = open_systems(system, type_map=type_map)
    if type_map is None:
        own = [s.type_map for s in systems]
        if None not in own:
            type_map = list(dict.fromkeys(name for names in own for name in names or ()))
            systems = open_systems(system, type_map=type_map)
        elif any(own):
            raise InputError(
                "some systems have a type_map.raw and some have none",
                where=system,
                fix="name the types with --type-map",
            )
    ntypes = len(type_map) if type_map else 1 + max(int(s.atype.max()) for s in systems)
    min_dist, most = count_neighbors(systems, rcut, ntypes, mixed_types=mixed_type)
    log.info("min_nbor_dist: %f", min_dist)
    log.info("max_nbor_size: %s", most.tolist())
    return min_dist, most.tolist()
