# SPDX-License-Identifier: LGPL-3.0-or-later
"""Exponential moving average of the parameters, and its checkpoints."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deepmd.dpmodel.model import Model
from deepmd.dpmodel.optimizer import part_of
from deepmd.runtime.checkpoint import Checkpoint
from deepmd.runtime.step import TrainStep
from deepmd.train.checkpoints import CheckpointStore, numbered
from deepmd.train.extras import Extra

if TYPE_CHECKING:
    from deepmd.train.trainer import Trainer

log = logging.getLogger(__name__)


class Average(Extra):
    """θ̄ ← decay · θ̄ + (1 - decay) · θ after every step, from the parameters at the start.

    Parameters
    ----------
    stepper : TrainStep
    tasks : sequence of str
    decay : float
    store : CheckpointStore
        Of the averaged models.
    """

    name = "ema"

    def __init__(
        self, stepper: TrainStep, tasks: list[str], decay: float, store: CheckpointStore
    ) -> None:
        self.stepper, self.decay, self.store = stepper, decay, store
        self._values = {
            task: {k: 1.0 * v for k, v in stepper.parameters(task).items()} for task in tasks
        }

    def after_step(self, trainer: "Trainer") -> None:
        """Follow the parameters; those that tasks share change with a step of any."""
        rest = 1.0 - self.decay
        for task, mean in self._values.items():
            now = self.stepper.parameters(task)
            self._values[task] = {k: m + rest * (now[k] - m) for k, m in mean.items()}

    def models(self) -> dict[str, Model]:
        """Return neutral models with the averaged parameters."""
        return {task: self.stepper.model_with(task, mean) for task, mean in self._values.items()}

    def save(self, trainer: "Trainer", checkpoint: Checkpoint) -> None:
        """Write the averaged models beside a checkpoint."""
        self.store.save(trainer.checkpoint(self.models(), checkpoint.optimizer))

    def state(self) -> dict[str, Any]:
        """Return the averages by task and path."""
        return {
            f"{task}/{path}": value
            for task, mean in self._values.items()
            for path, value in self.stepper.to_host(task, mean).items()
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Restore the averages; without any they begin with the parameters of this moment."""
        if not state:
            log.warning("the checkpoint has no averaged parameters; the average begins anew")
        for task in self._values:
            mine = part_of(state, f"{task}/")
            self._values[task] = (
                self.stepper.from_host(task, mine)
                if mine
                else {k: 1.0 * v for k, v in self.stepper.parameters(task).items()}
            )

    def files(self, step: int) -> list[Path]:
        """Return checkpoints of later steps; from the start on, the link to the newest, too."""
        store = self.store
        found = numbered(store.folder, store.prefix.name, store.suffix)
        paths = [path for number, path in found.items() if number > step]
        if step == 0 or paths:
            paths = [store.link, *paths]
        return [file for path in paths for file in store.files(path)]


def ema_prefix(prefix: Path) -> Path:
    """Return the prefix of averaged models: ``model_ema.ckpt`` for ``model.ckpt``."""
    return prefix.with_name(f"{prefix.stem}_ema{prefix.suffix}")
