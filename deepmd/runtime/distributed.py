# SPDX-License-Identifier: LGPL-3.0-or-later
"""Groups of processes that train one model together."""

import atexit
import contextlib
import json
import logging
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from deepmd.base.errors import InputError
from deepmd.base.launcher import Processes
from deepmd.runtime.control import Control, RankLostError

log = logging.getLogger(__name__)


class Distributed:
    """Group of processes of a data-parallel training; this class is the group of one.

    Every rank evaluates its own batch. Losses are sums and weights that are added over the ranks
    (:meth:`deepmd.dpmodel.loss.Loss.call`), gradients are added, so that N ranks take the step that
    one rank would take on the batches of all. A backend derives its own group from this one.

    Attributes
    ----------
    rank, size : int
        Number of this process, from 0, and number of processes.
    control : Control or None
        Messages between the processes; None for one process.
    exchanged : float
        Seconds spent with exchange, waiting for slower processes included; 0 where it is not known.
    """

    #: Whether ``learning_rate/scale_by_worker`` multiplies the rate.
    scales_rate: bool = False
    rank: int = 0
    size: int = 1
    control: Control | None = None
    exchanged: float = 0.0

    @property
    def writes(self) -> bool:
        """Whether this process writes the files of the training."""
        return self.rank == 0

    @property
    def reduce(self) -> Callable[[Any], Any] | None:
        """Sum of an array of the backend over the ranks, or None for one rank."""
        return self.total if self.size > 1 else None

    def total(self, x: Any) -> Any:
        """Return the sum of an array of the backend over the ranks, the same on every rank."""
        return x

    def agree(self, *numbers: float) -> tuple[float, ...]:
        """Return the largest of each number over the ranks, so that all ranks decide alike."""
        if self.control is None:
            return numbers
        mine = json.dumps([float(n) for n in numbers])
        every = [json.loads(text) for text in self.gather(mine)]
        largest = [max(column) for column in zip(*every, strict=True)]
        return tuple(json.loads(self.broadcast(json.dumps(largest))[0]))

    def broadcast(self, text: str = "", **arrays: Any) -> tuple[str, dict[str, np.ndarray]]:
        """Return the text and the arrays that the first process passes, on all processes."""
        if self.control is None:
            return text, arrays
        return self.control.broadcast(text, **arrays)

    def gather(self, text: str) -> list[str]:
        """Return the texts of all processes on the first one; nothing on the others."""
        return [text] if self.control is None else self.control.gather(text)

    @contextlib.contextmanager
    def explained(self) -> Iterator[None]:
        """Raise the failure of another process in place of an error of an exchange with it."""
        try:
            yield
        except RuntimeError as error:
            if self.control is None:
                raise
            raise self.control.lost(error) from error

    def close(self) -> None:
        """Leave the group; nothing may be exchanged any more."""

    def abandon(self) -> None:
        """Let this process end without the framework's own end, which waits for lost processes."""
        if self.size > 1:
            atexit.register(_end)

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """Let all processes end together: one that fails ends all, with one message.

        The first process raises the error, whichever process met it; the others end silently with
        status 1, unless it is a defect of the program: that keeps its traceback.
        """
        control = self.control
        if control is None:
            yield
            return
        try:
            try:
                yield
            except SystemExit:  # stopped by a signal, as all are
                control.finish()
                self.close()
                raise
            control.finish()
            self.close()
        except RankLostError:
            self.abandon()
            if not control.speaks:
                raise SystemExit(1) from None
            raise
        except InputError as error:
            control.report(str(error))
            self.abandon()
            if not self.writes:
                raise SystemExit(1) from None
            raise
        except SystemExit:
            raise
        except BaseException as error:
            control.report(f"process {self.rank} of {self.size} failed: {type(error).__name__}")
            self.abandon()
            raise
        finally:
            control.close()


def unreachable(started: Processes, error: Exception, fix: str) -> InputError:
    """Return the error of a process that cannot join the others."""
    return InputError(
        f"process {started.rank} of {started.size} cannot reach the others "
        f"({str(error).splitlines()[0]})",
        where="several processes",
        fix=fix,
    )


def _end() -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(1)


#: The group of a training in one process.
ALONE = Distributed()
