# SPDX-License-Identifier: LGPL-3.0-or-later
"""Number of frames evaluated at a time. It changes the time and memory, never a result."""

import logging
import os
from collections.abc import Callable
from typing import Any

import numpy as np

from deepmd.base.errors import InputError

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
        self.current = atoms_per_call(VARIABLE, int(initial_batch_size))
        if self.current < 1:
            raise InputError(f"{initial_batch_size} is no batch size", where="auto_batch_size")

    def frames(self, n_atoms: int) -> int:
        """Return how many frames of ``n_atoms`` atoms are evaluated at a time, at least one."""
        return max(1, self.current // max(n_atoms, 1))

    def execute_all(
        self, function: Callable[..., Any], total_size: int, natoms: int, *args: Any, **kwargs: Any
    ) -> Any:
        """Call a function on successive ranges of frames and join what it returns.

        Parameters
        ----------
        function : callable
            Of arrays of frames; returns an array of frames, or a tuple or dict of these.
        total_size : int
            Number of frames.
        natoms : int
            Atoms of a frame.
        *args, **kwargs
            Arrays with ``total_size`` rows are cut, everything else is handed over as it is.
        """

        def cut(value: Any, part: slice) -> Any:
            frames = getattr(value, "shape", ())[:1] == (total_size,)
            return value[part] if frames else value

        results: list[Any] = []
        start = 0
        while start < total_size:
            count = min(self.frames(natoms), total_size - start)
            part = slice(start, start + count)
            try:
                named = {k: cut(v, part) for k, v in kwargs.items()}
                results.append(function(*(cut(a, part) for a in args), **named))
            except (RuntimeError, MemoryError) as error:
                if count == 1 or not out_of_memory(error):
                    raise
                self.current = max(1, count // 2 * max(natoms, 1))
                log.info("out of memory: going on with %d atoms per call", self.current)
                continue
            start += count
        first = results[0]
        if isinstance(first, dict):
            return {k: np.concatenate([r[k] for r in results]) for k in first}
        if isinstance(first, tuple):
            return tuple(np.concatenate(parts) for parts in zip(*results, strict=True))
        return np.concatenate(results)


def out_of_memory(error: BaseException) -> bool:
    """Whether an error of any framework says that memory ran out."""
    text = str(error).lower()
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or "out of memory" in text
        or "resource_exhausted" in text
    )


def atoms_per_call(variable: str, default: int) -> int:
    """Number of atoms that an environment variable says, or the default."""
    text = os.environ.get(variable, "").strip()
    if text and not (text.isdecimal() and int(text)):
        raise InputError(
            f'"{text}" is no positive number of atoms',
            where=variable,
            fix=f"unset it, or say {default}",
        )
    return int(text) if text else default
