# SPDX-License-Identifier: LGPL-3.0-or-later
"""A polite end: signals let the running step finish, and a checkpoint is written."""

import signal
import threading
from types import FrameType
from typing import Any

#: Of people, of the system, and of schedulers before the time of a job is over.
SIGNALS = tuple(
    signal.Signals[name]
    for name in ("SIGTERM", "SIGINT", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGXCPU")
    if name in signal.Signals.__members__
)
#: Left alone where they are ignored: ``nohup`` does that.
_MAY_BE_IGNORED = tuple(s for s in SIGNALS if s.name not in ("SIGTERM", "SIGINT"))


class StopRequest:
    """Notes a signal while it is open; a SIGINT after it ends the program the usual way.

    Others after it do not: schedulers and terminals send several at once, and the checkpoint is
    being written.

    Attributes
    ----------
    signal : signal.Signals or None
        The signal that came.
    """

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "StopRequest":
        # Python allows handlers in the main thread only; elsewhere the caller has its own.
        if threading.current_thread() is threading.main_thread():
            noted = [s for s in SIGNALS if not _is_ignored(s)]
            self._before = {s: signal.signal(s, self._note) for s in noted}
        return self

    def __exit__(self, *_: object) -> None:
        self._restore()

    def _note(self, number: int, _frame: FrameType | None) -> None:
        # Nothing is written here: the signal may have come in the middle of a line of the log.
        if self.signal is None:
            self.signal = signal.Signals(number)
        self._restore(signal.SIGINT)

    def _restore(self, *some: signal.Signals) -> None:
        for number in some or tuple(self._before):
            if number in self._before:
                handler = self._before.pop(number)
                # None: a handler that was not set from Python, which cannot be put back.
                signal.signal(number, signal.SIG_DFL if handler is None else handler)


def _is_ignored(number: signal.Signals) -> bool:
    return number in _MAY_BE_IGNORED and signal.getsignal(number) is signal.SIG_IGN
