# SPDX-License-Identifier: LGPL-3.0-or-later
"""Steps of optimizers in NumPy: those of the NumPy backend, and AdaMuon and HybridMuon of compiled ones."""

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

from deepmd.base.errors import NotAvailableError
from deepmd.dpmodel.muon import Muon, muon_of
from deepmd.dpmodel.muon_step import Arithmetic, muon_rule
from deepmd.dpmodel.optimizer import Adam, Moments, adam_settings, clip_factor, global_norm, part_of
from deepmd.runtime.sharing import Sharing
from deepmd.runtime.step import StepOptions

Arrays = Mapping[str, np.ndarray]


class Updates(Protocol):
    """Optimizer of one task."""

    counts: dict[str, int]
    first: dict[str, np.ndarray]
    second: dict[str, np.ndarray]

    def update(self, params: Arrays, grads: Arrays, lr: float) -> dict[str, np.ndarray]:
        """Return the parameters after one step."""

    def state(self) -> dict[str, np.ndarray]:
        """Return counts and moments as arrays by name."""

    def load_state(self, state: Arrays) -> None:
        """Restore what :meth:`state` returned."""


class MuonUpdates(Moments):
    """AdaMuon or HybridMuon on arrays by name.

    Parameters
    ----------
    chosen : Muon
    """

    def __init__(self, chosen: Muon) -> None:
        self.rule = muon_rule(chosen, Arithmetic())
        self.build()

    def update(self, params: Arrays, grads: Arrays, lr: float) -> dict[str, np.ndarray]:
        """Return the parameters after one step."""
        out = {}
        for name, p in params.items():
            count = self.counts[name] = self.counts.get(name, 0) + 1
            moments = (self.first.get(name), self.second.get(name))
            new, self.first[name], second = self.rule.step(p, grads[name], count, *moments, lr)
            if second is not None:
                self.second[name] = second
            out[name] = self.rule.arithmetic.like(new, p)
        return out


class HostOptimizer:
    """Optimizers of all tasks, on NumPy arrays.

    Parameters
    ----------
    section : dict
        The checked ``optimizer`` section.
    sharing : Sharing
    max_norm : float or None
        Greatest norm of all gradients of a step.
    """

    def __init__(
        self, section: Mapping[str, Any], sharing: Sharing, max_norm: float | None
    ) -> None:
        self.sharing, self.max_norm = sharing, max_norm
        self.tasks: dict[str, Updates] = {task: _updates(section) for task in sharing.others}

    def step(self, task: str, params: Arrays, grads: Arrays, lr: float) -> dict[str, np.ndarray]:
        """Return the parameters of a task after one step, of whose moments other tasks share some."""
        if self.max_norm is not None:
            factor = clip_factor(global_norm(grads), self.max_norm)
            grads = {k: factor * g for k, g in grads.items()}
        new = self.tasks[task].update(params, grads, lr)
        self.sharing.spread(task, lambda name: self.tasks[name].counts)
        self.sharing.spread(task, lambda name: self.tasks[name].first)
        self.sharing.spread(task, lambda name: self.tasks[name].second)
        return new

    def state(self) -> dict[str, np.ndarray]:
        """Return counts and moments as arrays by name."""
        return {
            f"{task}/{name}": value
            for task, updates in self.tasks.items()
            for name, value in updates.state().items()
        }

    def load_state(self, state: Arrays) -> None:
        """Restore what :meth:`state` returned."""
        for task, updates in self.tasks.items():
            updates.load_state(part_of(state, f"{task}/"))


def _updates(section: Mapping[str, Any]) -> Updates:
    muon = muon_of(section)
    return Adam(**adam_settings(section)) if muon is None else MuonUpdates(muon)


def host_muon(
    section: Mapping[str, Any], sharing: Sharing, options: StepOptions
) -> HostOptimizer | None:
    """Return AdaMuon or HybridMuon for a backend whose own optimizer is Adam, None for another section.

    Raises
    ------
    NotAvailableError
        With several processes.
    """
    if muon_of(section) is None:
        return None
    if options.ranks.size > 1:
        raise NotAvailableError(
            f"{section['type']} is built with several processes on PyTorch only",
            where="optimizer/type",
            fix="train with PyTorch (--pt), in one process, or with Adam or AdamW",
        )
    return HostOptimizer(section, sharing, options.gradient_max_norm)
