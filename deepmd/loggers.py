# SPDX-License-Identifier: LGPL-3.0-or-later
"""Set-up of log lines under the name that clients import; see :mod:`deepmd.base.log`."""

import os

from deepmd.base.log import LEVELS, set_up_logging


def set_log_handles(
    level: int, log_path: "str | os.PathLike[str] | None" = None, mpi_log: str | None = None
) -> None:
    """Send log lines to stderr, and to a file.

    Parameters
    ----------
    level : int
        Of :mod:`logging`: the lines of the nearest level that is not lower appear.
    log_path : path, optional
    mpi_log : {"master", "collect", "workers"}, optional
        See :func:`deepmd.base.log.set_up_logging`.
    """
    known = sorted({n: name for name, n in LEVELS.items() if name.isalpha()}.items())
    name = next((name for n, name in known if n >= level), known[-1][1])
    set_up_logging(name, log_path, mpi_log or "master")
