# SPDX-License-Identifier: LGPL-3.0-or-later
"""Frameworks in forked processes."""

import os

from deepmd.base.errors import InputError

#: Framework -> process it was started in.
_STARTED: dict[str, int] = {}


def refuse_fork(framework: str) -> None:
    """Refuse a framework in a process that was forked after it had started: it would hang.

    Raises
    ------
    InputError
        Naming the framework and the way out.
    """
    if _STARTED.setdefault(framework, os.getpid()) != os.getpid():
        raise InputError(
            f"{framework} was started before this process was forked, and its threads are missing "
            "here",
            fix='start processes with multiprocessing.get_context("spawn"), or open the model in '
            "the new processes only",
        )
