# SPDX-License-Identifier: LGPL-3.0-or-later
"""``dp train``: train a model."""

import logging
import time
from typing import Any

from deepmd.backend.backend import choose_backend
from deepmd.base.banner import banner
from deepmd.base.errors import NotAvailableError
from deepmd.base.launcher import processes
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

    The whole input is checked before any file is written. One of several processes of a launcher
    refuses: the same training several times in one folder is in nobody's interest.

    The options are those of ``dp train``; without ``backend`` the first that can be used trains.
    """
    refuse_several()
    if not use_pretrain_script:  # or the file that is read later completes the input
        normalize(load_input(INPUT), file=INPUT)
    chosen, why = choose_backend(backend)
    for line in banner(chosen.packages):
        log.info("%s", line)
    log.info("Backend: %s (%s)", chosen.name, why)

    from deepmd.train.entry import train as run  # the lines above come first: this takes long

    run(INPUT=INPUT, backend=chosen(), use_pretrain_script=use_pretrain_script, **options)


def refuse_several() -> None:
    """Refuse to be one of several processes that a launcher started.

    Raises
    ------
    NotAvailableError
        In the first process; the others end with the same status, without a word.
    """
    started = processes()
    if started.size == 1:
        return
    if started.rank > 0:
        time.sleep(_HEAD_START)
        raise SystemExit(1)
    size, rank = started.variables
    raise NotAvailableError(
        f"{started.launcher} started {started.size} processes, but training on several devices is "
        "not built yet",
        where=f"{size}={started.size}",
        fix="start dp train once, without a launcher; where each process is a training of its own, "
        f"unset {size} and {rank} first",
    )
