# SPDX-License-Identifier: LGPL-3.0-or-later
"""One step of training: the only training code a backend has."""

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from deepmd.dpmodel.batch import Batch
from deepmd.dpmodel.loss import Loss
from deepmd.dpmodel.model import Model
from deepmd.dpmodel.neighbors import Overflow
from deepmd.runtime.distributed import ALONE, Distributed

Metrics = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class StepOptions:
    """Options of a step beside the optimizer section.

    Attributes
    ----------
    gradient_max_norm : float, optional
        Clip the global norm of the gradients to this.
    compile : bool
        Compile the step where the backend has a compiler that is not always on.
    widths : dict of str to sequence of int, optional
        Per task, the widths of the neighbor tables that serve every frame of the training data,
        for backends that compile one program per shape.
    ranks : Distributed
        Processes that train together.
    """

    gradient_max_norm: float | None = None
    compile: bool = False
    widths: Mapping[str, Any] | None = None
    ranks: Distributed = ALONE


class TrainStep(ABC):
    """Models, losses and optimizer state of one backend.

    Parameters
    ----------
    models : dict of str to Model
        Neutral models by task; they are not changed.
    losses : dict of str to Loss
        Loss of each task.
    optimizer : dict
        The normalized ``optimizer`` section.
    options : StepOptions
    """

    name: ClassVar[str]
    #: Whether the step adds up losses and gradients over ``StepOptions.ranks``.
    distributes: ClassVar[bool] = False
    #: Whether ``StepOptions.widths`` makes a difference; they are then counted beforehand.
    uses_widths: ClassVar[bool] = False
    #: Atoms with more neighbors than ``sel``, where they are counted.
    overflow: Overflow | None = None

    @abstractmethod
    def __init__(
        self,
        models: dict[str, Model],
        losses: dict[str, Loss],
        optimizer: Mapping[str, Any],
        options: StepOptions,
    ) -> None: ...

    @abstractmethod
    def step(self, task: str, batch: Batch, lr: float) -> Metrics:
        """Take one optimizer step on a batch; return ``loss``, ``rmse``, … before the step.

        The call may return before the work is done: values are scalars of the framework, and
        ``float(value)`` waits for them.
        """

    @abstractmethod
    def evaluate(self, task: str, batch: Batch, lr: float) -> Metrics:
        """Return the same figures without changing anything."""

    @abstractmethod
    def state(self) -> dict[str, np.ndarray]:
        """Return the optimizer's state (not the parameters) as arrays by name."""

    @abstractmethod
    def load_state(self, state: Mapping[str, np.ndarray]) -> None:
        """Restore what :meth:`state` returned."""

    @abstractmethod
    def model(self, task: str) -> Model:
        """Return the neutral model of a task with the parameters of this moment."""
