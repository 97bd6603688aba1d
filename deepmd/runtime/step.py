# SPDX-License-Identifier: LGPL-3.0-or-later
"""One step of training: the only training code a backend has."""

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from deepmd.base.errors import NotAvailableError
from deepmd.dpmodel.batch import Batch
from deepmd.dpmodel.loss import Loss
from deepmd.dpmodel.model import Model
from deepmd.dpmodel.module import assign
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
    accumulate : int
        Steps whose gradients are added up for one step of the optimizer.
    tf32 : bool
        Let devices multiply matrices of single precision with TF32.
    compute : str
        Number format of the products in networks of single precision, "" for their own.
    numb_steps : int
        Length of the training, for optimizers whose settings change during it.
    zero_stage : int
        What is divided among the ranks: 0 nothing, 1 the states of the optimizer, 2 gradients, too,
        3 parameters, too.
    """

    gradient_max_norm: float | None = None
    compile: bool = False
    widths: Mapping[str, Any] | None = None
    ranks: Distributed = ALONE
    accumulate: int = 1
    tf32: bool = False
    zero_stage: int = 0
    compute: str = ""
    numb_steps: int = 0

    def refuse(self, backend: str, *names: str) -> None:
        """Raise NotAvailableError where options are set that a backend does not have."""
        keys = {"accumulate": "acc_freq", "tf32": "enable_tf32", "zero_stage": "zero_stage"}
        keys["compute"] = "mixed_precision"
        for name in names:
            if getattr(self, name) != getattr(type(self), name):
                raise NotAvailableError(
                    f"{backend} has no such option",
                    where=f"training/{keys[name]}",
                    fix="leave it out, or train with PyTorch (--pt)",
                )


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
    #: Whether :meth:`state` is an exchange with the other ranks.
    gathers: bool = False
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

    # -- parameters as arrays of the framework, e.g. for their average --------------------------

    @abstractmethod
    def parameters(self, task: str) -> dict[str, Any]:
        """Return the trained arrays of a task, which must not be changed, under any names."""

    def to_host(self, task: str, arrays: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """Return arrays like :meth:`parameters` by the paths of the model, of NumPy."""
        return {k: np.array(v, copy=True) for k, v in arrays.items()}

    def from_host(self, task: str, arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
        """Return arrays like :meth:`parameters` from those of :meth:`to_host`."""
        return dict(arrays)

    def model_with(self, task: str, arrays: Mapping[str, Any]) -> Model:
        """Return the neutral model with arrays like :meth:`parameters` in place of those."""
        model = self.model(task)
        assign(model, self.to_host(task, arrays))
        return model
