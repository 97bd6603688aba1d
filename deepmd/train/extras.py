# SPDX-License-Identifier: LGPL-3.0-or-later
"""What a training does beside its steps, where the input asks for it: base class."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from deepmd.runtime.checkpoint import Checkpoint

if TYPE_CHECKING:
    from deepmd.train.trainer import Trainer


class Extra:
    """Follows a training; called on every process.

    Attributes
    ----------
    name : str
        Prefix of its state in checkpoints.
    finished : bool
        Whether the training shall end, on all processes alike.
    """

    name: ClassVar[str]
    finished: bool = False

    def after_step(self, trainer: "Trainer") -> None:
        """Act after a step."""

    def save(self, trainer: "Trainer", checkpoint: Checkpoint) -> None:
        """Write what belongs to a checkpoint; called where files are written."""

    def state(self) -> dict[str, Any]:
        """Return what a restart needs: arrays, numbers and texts under flat names."""
        return {}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Restore what :meth:`state` returned; it is empty if the checkpoint has nothing."""

    def files(self, step: int) -> list[Path]:
        """Return the files of an earlier run that one which goes on after ``step`` replaces."""
        return []
