# SPDX-License-Identifier: LGPL-3.0-or-later
"""Settings of the allocator of the C library."""

import ctypes
import sys

# Parameters of mallopt(3).
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX, _ARENA_MAX = -1, -2, -4, -8


def keep_freed_memory() -> bool:
    """Let glibc keep freed blocks for the next allocation; return whether it does.

    It gives every large block back to the system otherwise, and the system clears its pages when it
    lends them again: training spends up to half of its time on that. All steps need the same
    memory, so that the peak stays what it was.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False  # another C library
    # Only the first arena keeps blocks of any size; those of further threads map large ones.
    settings = ((_MMAP_MAX, 0), (_TRIM_THRESHOLD, -1), (_TOP_PAD, 1 << 26), (_ARENA_MAX, 1))
    return all(mallopt(name, value) == 1 for name, value in settings)
