# SPDX-License-Identifier: LGPL-3.0-or-later
"""Rows of mutants, and the processes that make them.

A program that opens mutants prints, for each, ``{"begins": number}`` before and the row after it, as
lines of JSON: a crash then leaves the number of its mutant behind. All programs do it alike, those
of model files, of data, and of the C interface.
"""

import json
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

#: Nothing that is opened takes longer [s of the processor: a machine may be busy], or more memory [MiB].
SECONDS, MEMORY = 10.0, 1024
#: Outcomes that are allowed.
FINE = ("right", "refused", "edited")


class Row(NamedTuple):
    """Outcome of one mutant.

    Outcomes: ``right`` (opened, with the results of the original; data: complete and finite),
    ``refused`` (one line that names the file), ``edited`` (opened with other results, after an edit
    that keeps checksums right), ``wrong`` (other results after damage), ``raised`` (anything else),
    ``crashed`` (the end of the process).
    """

    number: int
    mutator: str
    outcome: str
    what: str
    seconds: float
    mebibytes: int

    def fault(self, fine: Iterable[str] = FINE) -> str | None:
        """Name of what may not be, or None."""
        if self.outcome not in fine:
            return self.outcome
        if self.seconds > SECONDS:
            return "slow"
        return "large" if self.mebibytes > MEMORY else None


def begin(number: int) -> None:
    """Announce a mutant."""
    print(json.dumps({"begins": number}), flush=True)


def end(row: Row) -> None:
    """Print the row of a mutant."""
    print(json.dumps(row), flush=True)


def run(program: str, first: int, last: int, arguments: Sequence[object]) -> list[Row]:
    """Open mutants in processes of their own; a process that ends is followed by another.

    Parameters
    ----------
    program : str
        Beside this file; called as ``PROGRAM FIRST LAST ARGUMENTS``.
    first, last : int
        Numbers of the mutants, without the last.
    arguments : sequence
        Of the program.
    """
    path = Path(__file__).parent / program
    found: list[Row] = []
    while first < last:
        done = subprocess.run(
            [sys.executable, str(path), str(first), str(last), *map(str, arguments)],
            capture_output=True,
            text=True,
            timeout=3600,
            check=False,
        )
        lines = [json.loads(line) for line in done.stdout.splitlines()]
        rows = [Row(*line) for line in lines if isinstance(line, list)]
        begun = [line["begins"] for line in lines if isinstance(line, dict)]
        assert begun, done.stderr[-2000:]
        found += rows
        first = begun[-1] + 1
        if len(begun) > len(rows):
            why = f"exit {done.returncode}: {done.stderr[-500:]}"
            found.append(Row(begun[-1], "?", "crashed", why, 0.0, 0))
    return found


def check(rows: Sequence[Row], fine: Iterable[str] = FINE) -> None:
    """Raise AssertionError for rows that may not be, or if no mutant was refused."""
    bad = [(row.fault(fine), *row) for row in rows if row.fault(fine)]
    assert not bad, "\n".join(map(str, bad[:10]))
    assert any(row.outcome == "refused" for row in rows)
