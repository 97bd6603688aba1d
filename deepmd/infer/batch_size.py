# SPDX-License-Identifier: LGPL-3.0-or-later
"""How many frames are evaluated at a time. It changes the time and memory, never a result."""

import logging
import os
from collections.abc import Callable

from deepmd.utils.errors import InputError

log = logging.getLogger(__name__)

#: Frames × atoms of one call.
VARIABLE = "DP_INFER_BATCH_SIZE"


class AutoBatchSize:
    """A budget of atoms per call, halved when the memory does not suffice.

    Parameters
    ----------
    initial_batch_size : int
        Frames × atoms of one call; the environment variable ``DP_INFER_BATCH_SIZE`` comes first.
    """

    def __init__(self, initial_batch_size: int = 1024) -> None:
        self.current = _from_environment() or int(initial_batch_size)
        if self.current < 1:
            raise InputError(f"{initial_batch_size} is no batch size", where="auto_batch_size")

    def frames(self, n_atoms: int) -> int:
        """Return how many frames of ``n_atoms`` atoms are evaluated at a time, at least one."""
        return max(1, self.current // max(n_atoms, 1))

    def run(self, evaluate: Callable[[slice], None], n_frames: int, n_atoms: int) -> None:
        """Call ``evaluate`` on successive ranges of frames that cover all."""
        start = 0
        while start < n_frames:
            count = min(self.frames(n_atoms), n_frames - start)
            try:
                evaluate(slice(start, start + count))
            except (RuntimeError, MemoryError) as error:
                if count == 1 or not out_of_memory(error):
                    raise
                self.current = max(1, count // 2 * max(n_atoms, 1))
                log.info("out of memory: going on with %d atoms per call", self.current)
                continue
            start += count


def out_of_memory(error: BaseException) -> bool:
    """Whether an error of any framework says that memory ran out."""
    text = str(error).lower()
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or "out of memory" in text
        or "resource_exhausted" in text
    )


def _from_environment() -> int | None:
    value = os.environ.get(VARIABLE, "").strip()
    if not value:
        return None
    try:
        number = int(value)
    except ValueError:
        number = 0
    if number < 1:
        raise InputError(
            f'"{value}" is no positive number of atoms', where=VARIABLE, fix="unset it, or say 1024"
        )
    return number
