# SPDX-License-Identifier: LGPL-3.0-or-later
"""Lines about the program and the machine at the beginning of a log."""

import os
import platform
from collections.abc import Iterable, Iterator
from importlib import metadata

from deepmd import __version__

THREADS = ("OMP_NUM_THREADS", "DP_INTRA_OP_PARALLELISM_THREADS", "DP_INTER_OP_PARALLELISM_THREADS")


def banner(packages: Iterable[str] = ()) -> Iterator[str]:
    """Lines about versions, the machine and threads.

    Parameters
    ----------
    packages : iterable of str
        Distributions whose versions matter.
    """
    yield f"DeePMD-kit v{__version__}"
    versions = [f"Python {platform.python_version()}"]
    for name in dict.fromkeys(("numpy", *packages)):
        try:
            versions.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            continue
    yield f"with {', '.join(versions)}"
    given = [f"{name}={os.environ[name]}" for name in THREADS if name in os.environ]
    threads = ", ".join(given) if given else "threads as the libraries choose"
    yield f"on {platform.node()}, {usable_cpus()} CPUs, {threads}"


def usable_cpus() -> int:
    """Return the number of CPUs this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
