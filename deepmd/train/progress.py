# SPDX-License-Identifier: LGPL-3.0-or-later
"""Progress of a training: lines in the log, and on a terminal a bar below them."""

import contextlib
import datetime
import logging
import math
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping

from deepmd.train.metrics import Figures

log = logging.getLogger(__name__)


def figures_line(step: int, kind: str, figures: Figures, lr: float | None = None) -> str:
    """Return ``Batch      1: trn: rmse = 2.85e+01, …, lr = 1.00e-03``."""
    parts = [f"{name} = {value:.2e}" for name, value in figures.items()]
    if lr is not None:
        parts.append(f"lr = {lr:.2e}")
    return f"Batch {step:6d}: {kind}: {', '.join(parts)}"


class Clock:
    """Time taken by steps, and the share of it that was spent waiting for data.

    Parameters
    ----------
    steps : int
        Steps that are to be taken in all.
    done : int
        Steps taken by earlier runs.
    """

    def __init__(self, steps: int, done: int = 0) -> None:
        self.steps, self.first, self.done = steps, done, done
        self.begin = self._row_begin = time.monotonic()
        self._waited, self._row_step = 0.0, done
        #: Seconds spent waiting for data since the start.
        self.waited_in_all = 0.0

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """Count the time inside as waiting for data."""
        start = time.monotonic()
        yield
        self._waited += time.monotonic() - start
        self.waited_in_all += time.monotonic() - start

    def tick(self, step: int) -> None:
        """Note that a step was taken."""
        self.done = step

    def row(self) -> str:
        """Return time, remaining time and share of waiting since the last row."""
        now = time.monotonic()
        elapsed, count = now - self._row_begin, self.done - self._row_step
        share = 100.0 * self._waited / elapsed if elapsed > 0 else 0.0
        left = (now - self.begin) / max(self.done - self.first, 1) * (self.steps - self.done)
        self._row_begin, self._row_step, self._waited = now, self.done, 0.0
        return (
            f"total wall time = {elapsed:.2f} s, "
            f"eta = {datetime.timedelta(seconds=round(left))}, "
            f"{elapsed / max(count, 1):.4f} s per step, data wait = {share:.0f} %"
        )

    def seconds(self) -> float:
        """Return the seconds since the start."""
        return time.monotonic() - self.begin

    def status(self) -> str:
        """Return speed and share of waiting since the start, for the progress line."""
        elapsed, count = self.seconds(), max(self.done - self.first, 1)
        share = 100.0 * self.waited_in_all / elapsed if elapsed > 0 else 0.0
        return f"{elapsed / count:.3g} s/step, data wait {share:.0f} %"

    def summary(self) -> str:
        """Return the mean time of a step."""
        count = max(self.done - self.first, 1)
        return f"average training time: {self.seconds() / count:.4f} s/batch"


#: Units of errors by the last parts of their names; of energies of the energy loss per atom.
_UNITS = {
    **{"e": "eV/atom", "f": "eV/Å", "v": "eV/atom", "ae": "eV", "pf": "eV/Å", "gf": "eV/Å"},
    **{"fr": "eV/Å", "fm": "eV/µB", "h": "eV/Å²"},
}


def unit_of(name: str) -> str:
    """Return the unit of an error by its name, ``rmse_f``; empty where it depends on the label."""
    measure, _, quantity = name.partition("_")
    return _UNITS.get(quantity, "") if measure in ("rmse", "mae") else ""


def units_line(names: Iterable[str]) -> str:
    """Return a line with the units of errors; empty if none is known."""
    known = [f"{name} [{unit_of(name)}]" for name in names if unit_of(name)]
    return f"units: {', '.join(known)}" if known else ""


def summary_table(
    trained: Mapping[str, Figures], valid: Mapping[str, Figures], first: Mapping[str, Figures]
) -> Iterator[str]:
    """Lines of a table: errors of the first row, and of the last one.

    Parameters
    ----------
    trained, valid : dict
        Errors of the last row by task; of training batches and of validation batches.
    first : dict
        Errors of the first row on training batches.
    """
    wide = max((len(name) + 2 for f in trained.values() for name in f), default=0)
    wide = max(14, wide)
    for task, figures in trained.items():
        checked = valid.get(task, {})
        head = (
            f"{task if len(trained) > 1 else 'error':<{wide}}{'first batch':>12}{'last batch':>12}"
        )
        yield head + ("  validation" if checked else "") + "  unit"
        for name, value in figures.items():
            before = first.get(task, {}).get(name, math.nan)
            cells = [before, value, *([checked[name]] if name in checked else [])]
            numbers = "".join(f"{x:12.2e}" for x in cells)
            yield f"{name:<{wide}}{numbers}  {unit_of(name)}".rstrip()


@contextlib.contextmanager
def progress_bar(
    total: int, done: int, *, shown: bool = True
) -> Iterator[Callable[[int, Callable[[], str]], None]]:
    """Give ``update(step, status)``; on a terminal it moves a bar, elsewhere it does nothing.

    ``status()`` is the text behind the bar, asked for on a terminal only.
    """
    if not shown or not sys.stderr.isatty():
        yield lambda step, status: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    from rich.progress import TimeRemainingColumn as Remaining

    console = Console(stderr=True)
    columns = (
        TextColumn("training"),
        BarColumn(),
        MofNCompleteColumn(),
        Remaining(),
        TextColumn("{task.description}"),
    )
    plain = sys.stderr
    with Progress(*columns, console=console, transient=True, refresh_per_second=4) as bar:
        task = bar.add_task("", total=total, completed=done)
        # While the bar is up, rich stands in for stderr and prints lines above it; handlers that
        # were made before must write there, too.
        moved = [h for h in _stream_handlers() if h.stream is plain]
        for handler in moved:
            handler.setStream(sys.stderr)
        try:
            yield lambda step, status: bar.update(task, completed=step, description=status())
        finally:
            for handler in moved:
                handler.setStream(plain)


def _stream_handlers() -> list[logging.StreamHandler]:
    loggers: list[logging.Logger] = [logging.getLogger()]
    loggers += [
        g for g in logging.Logger.manager.loggerDict.values() if isinstance(g, logging.Logger)
    ]
    return [h for g in loggers for h in g.handlers if isinstance(h, logging.StreamHandler)]


def log_row(
    step: int,
    trained: Mapping[str, Figures],
    valid: Mapping[str, Figures],
    lr: float,
    clock: Clock | None,
) -> None:
    """Log the figures of a row, and the time."""
    for task, figures in trained.items():
        branch = f"{task}_" if len(trained) > 1 else ""
        log.info(figures_line(step, f"{branch}trn", figures, lr))
        if task in valid:
            log.info(figures_line(step, f"{branch}val", valid[task]))
    if clock is not None:
        log.info("Batch %6d: %s", step, clock.row())
