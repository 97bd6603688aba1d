# SPDX-License-Identifier: LGPL-3.0-or-later
"""``dp train``: train a model."""

import logging
import time
from typing import Any

from deepmd.backend.backend import choose_backend
from deepmd.base.banner import banner
from deepmd.base.errors import InputError, NotAvailableError
from deepmd.base.launcher import Processes, processes
from deepmd.schema import load_input, normalize

log = logging.getLogger(__name__)

#: Launchers end all processes when the first one ends: the one that says why goes first [s].
_HEAD_START = 5.0


def train(
    *,
    INPUT: str,
    backend: str | None = None,
    use_pretrain_script: bool = False,
    **options: Any,
) -> None:
    """Train a model as an input file says.

    The whole input is checked before any file is written. Processes that a launcher started train
    together, where the backend can; else they refuse: the same training several times in one folder
    is in nobody's interest.

    The options are those of ``dp train``; without ``backend`` the first that can be used trains.
    """
    started = processes()
    if started.size > 1:
        group = _join(started, backend)
    else:
        from deepmd.runtime.distributed import ALONE as group
    with group.together():
        # First: the check of the input may load plugins.
        chosen, why = choose_backend(backend, trains=True)
        if not use_pretrain_script:  # or the file that is read later completes the input
            normalize(load_input(INPUT), file=INPUT)
        for line in banner(chosen.packages):
            log.info("%s", line)
        log.info("Backend: %s (%s)", chosen.name, why)
        if group.size > 1:
            log.info("%d processes train together (%s)", group.size, started.launcher)

        from deepmd.train.entry import train as run  # the lines above come first: this takes long

        options |= {"ranks": group, "use_pretrain_script": use_pretrain_script}
        run(INPUT=INPUT, backend=chosen(), **options)


def _join(started: Processes, backend: str | None) -> Any:
    """Join the processes that were started with this one.

    Raises
    ------
    InputError
        In the first process, where that cannot be; the others end with the same status, silently.
    """
    size, rank = started.variables
    try:
        chosen, _ = choose_backend(backend, trains=True)
        if "start_group" not in chosen.hooks:
            raise NotAvailableError(
                f"{started.launcher} started {started.size} processes, but {chosen.name} trains in "
                "one process only",
                where=f"{size}={started.size}",
                fix="train with PyTorch (--pt) or JAX (--jax), or start dp train once; where each "
                f"process is a training of its own, unset {size} and {rank} first",
            )
        return chosen().start_group(started)
    except InputError:
        if started.rank > 0:
            time.sleep(_HEAD_START)
            raise SystemExit(1) from None
        raise
