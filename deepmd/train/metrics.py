# SPDX-License-Identifier: LGPL-3.0-or-later
"""The figures of training steps between two rows of the learning curve."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

from deepmd.dpmodel.optimizer import part_of

Figures = dict[str, float]


def nan_mean(rows: Iterable[Mapping[str, Any]], names: Iterable[str]) -> Figures:
    """Average figures; a NaN (label absent) does not count, and stays where there is nothing else."""
    rows = list(rows)
    out = {}
    for name in names:
        values = [v for v in (float(row.get(name, math.nan)) for row in rows) if not math.isnan(v)]
        out[name] = math.fsum(values) / len(values) if values else math.nan
    return out


class StepFigures:
    """Metrics of the training batches since the last row: the last one of every task, or means.

    Values of steps are numbers of the framework and are not waited for before a row asks.

    Parameters
    ----------
    names : dict of str to list of str
        Figures of each task.
    average : bool
        Show means over the steps since the last row.
    """

    def __init__(self, names: Mapping[str, list[str]], *, average: bool = False) -> None:
        self.names, self.average = dict(names), average
        self._rows: dict[str, list[Mapping[str, Any]]] = {task: [] for task in names}

    def add(self, task: str, metrics: Mapping[str, Any]) -> None:
        """Take the figures of a step."""
        if not self.average:
            self._rows[task].clear()
        self._rows[task].append(metrics)

    def idle(self) -> list[str]:
        """Return the tasks that had no step since the last row."""
        return [task for task, rows in self._rows.items() if not rows]

    def latest(self) -> dict[str, Figures]:
        """Return what would be shown now of the tasks that had steps."""
        shown = [(k, names) for k, names in self.names.items() if self._rows[k]]
        return {task: nan_mean(self._rows[task], names) for task, names in shown}

    def row(self) -> dict[str, Figures]:
        """Return what is to be shown of all tasks, and begin anew."""
        out = {task: nan_mean(self._rows[task], names) for task, names in self.names.items()}
        for rows in self._rows.values():
            rows.clear()
        return out

    def state(self) -> dict[str, float]:
        """Return what a restart needs, so that its next row is the same."""
        return {
            f"{task}.{k}.{name}": float(row[name])
            for task, names in self.names.items()
            for k, row in enumerate(self._rows[task])
            for name in names
            if name in row
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Restore what :meth:`state` returned."""
        for task in self.names:
            rows: dict[int, Figures] = {}
            for key, value in part_of(state, f"{task}.").items():
                number, _, name = key.partition(".")
                rows.setdefault(int(number), {})[name] = float(value)
            self._rows[task] = [rows[k] for k in sorted(rows)]
