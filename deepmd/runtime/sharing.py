# SPDX-License-Identifier: LGPL-3.0-or-later
"""Parameters that tasks share, for steps that keep the arrays of every task by their paths."""

from collections.abc import Callable, Iterable, Mapping, MutableMapping
from typing import Any

from deepmd.dpmodel.model import Model
from deepmd.dpmodel.module import places, split


class Sharing:
    """Trained arrays that stand in the trees of several tasks, because these share nodes.

    Parameters
    ----------
    models : dict of str to Model
        Models by task.
    """

    def __init__(self, models: Mapping[str, Model]) -> None:
        found: dict[Any, list[tuple[str, str]]] = {}
        for task, model in models.items():
            trained = split(model)[0]
            for node, name, index, path in places(model):
                if path in trained:
                    found.setdefault((id(node), name, index), []).append((task, path))
        #: Where else an array of a task is: {task: {path: [(other task, path there)]}}.
        self.others: dict[str, dict[str, list[tuple[str, str]]]] = {task: {} for task in models}
        for at in found.values():
            for task, path in at if len(at) > 1 else ():
                self.others[task][path] = [place for place in at if place != (task, path)]

    def groups(self, task: str, paths: Iterable[str]) -> dict[tuple[str, ...], list[str]]:
        """Return the paths of a task's arrays by the tasks that share them, () for its own."""
        out: dict[tuple[str, ...], list[str]] = {(): []}
        for path in paths:
            others = {other for other, _ in self.others[task].get(path, ())}
            out.setdefault(tuple(sorted({task, *others})) if others else (), []).append(path)
        return out

    def spread(self, task: str, table: Callable[[str], MutableMapping[str, Any]]) -> None:
        """Give the other tasks what one has in its table by paths, after a step of this one."""
        mine = table(task)
        # Some optimizers have no second moment of some parameters.
        shared = ((path, at) for path, at in self.others[task].items() if path in mine)
        for path, places_there in shared:
            for other, there in places_there:
                table(other)[there] = mine[path]

    def paths(self, task: str, other: str) -> dict[str, str]:
        """Return the paths in another task of the arrays that one shares with it, by its own."""
        found = self.others[task].items()
        return {path: there for path, at in found for name, there in at if name == other}
