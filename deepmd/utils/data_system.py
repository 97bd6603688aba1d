# SPDX-License-Identifier: LGPL-3.0-or-later
"""Several systems under the names that clients import; see :mod:`deepmd.data.arrays`."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from deepmd.base.errors import NotAvailableError
from deepmd.data.arrays import DeepmdDataSystem
from deepmd.data.sampler import block_probabilities
from deepmd.data.search import expand_systems

log = logging.getLogger(__name__)

__all__ = ["DeepmdDataSystem", "get_data", "print_summary", "prob_sys_size_ext", "process_systems"]


def process_systems(
    systems: str | Sequence[str], patterns: Sequence[str] | None = None
) -> list[str]:
    """Find the systems that an input names; see :func:`deepmd.data.search.expand_systems`."""
    return expand_systems(systems, patterns)


def prob_sys_size_ext(keywords: str, nsystems: int, nbatch: Sequence[int]) -> list[float]:
    """Return the probabilities of systems by ``prob_sys_size;first:end:weight;…``.

    Parameters
    ----------
    keywords : str
    nsystems : int
        Follows from ``nbatch``; there for the sake of old callers.
    nbatch : (n_systems,)
        Batches of the systems.
    """
    return block_probabilities(keywords, list(nbatch)[:nsystems]).tolist()


def get_data(
    jdata: Mapping[str, Any],
    rcut: float,
    type_map: list[str] | None,
    modifier: Any = None,
    multi_task_mode: bool = False,
) -> DeepmdDataSystem:
    """Open the systems of a section ``training_data`` or ``validation_data``.

    Raises
    ------
    NotAvailableError
        If a modifier is given.
    """
    if modifier is not None:
        raise NotAvailableError("data modifiers are not built", where="modifier")
    return DeepmdDataSystem(
        expand_systems(jdata["systems"], jdata.get("rglob_patterns")),
        jdata.get("batch_size", "auto"),
        test_size=1,
        rcut=rcut,
        type_map=type_map,
        sys_probs=jdata.get("sys_probs"),
        auto_prob_style=jdata.get("auto_prob", "prob_sys_size"),
    )


def print_summary(
    name: str,
    nsystems: int,
    system_dirs: Sequence[str],
    natoms: Sequence[int],
    batch_size: Sequence[int],
    nbatches: Sequence[int],
    sys_probs: Sequence[float],
    pbc: Sequence[bool],
) -> None:
    """Log a table of systems, one per line."""
    log.info("%s data: %d systems", name, nsystems)
    log.info("%50s %7s %7s %7s %10s %4s", "system", "natoms", "batch", "batches", "prob", "pbc")
    rows = zip(system_dirs, natoms, batch_size, nbatches, sys_probs, pbc, strict=True)
    for path, atoms, size, number, prob, periodic in rows:
        short = path if len(path) <= 50 else f"…{path[-49:]}"
        log.info(
            "%50s %7d %7d %7d %10.3e %4s",
            short,
            atoms,
            size,
            number,
            prob,
            "T" if periodic else "F",
        )
