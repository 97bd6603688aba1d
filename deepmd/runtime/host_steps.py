# SPDX-License-Identifier: LGPL-3.0-or-later
"""Training steps whose optimizer is in NumPy, on a backend that gives the gradients."""

from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from deepmd.dpmodel.batch import Batch
from deepmd.runtime.host_optimizer import HostOptimizer
from deepmd.runtime.kalman import KalmanSteps, Measurement
from deepmd.runtime.step import Metrics, TrainStep

Arrays = Mapping[str, np.ndarray]


class HostedTrainStep(TrainStep):
    """Step of a backend on which :class:`KalmanSteps` and :class:`HostOptimizer` can train.

    Attributes
    ----------
    host : KalmanSteps or HostOptimizer or None
        None where the optimizer of the backend trains.
    """

    host: KalmanSteps | HostOptimizer | None

    @abstractmethod
    def gradients(self, task: str, batch: Batch, lr: float) -> tuple[Metrics, Arrays]:
        """Return the figures of a batch and the gradient of every parameter."""

    @abstractmethod
    def measure(self, task: str, batch: Batch) -> Callable[[Measurement], tuple[Arrays, Any]]:
        """Return what gives the gradients and the error of a measurement in a batch.

        They are those of :func:`deepmd.runtime.kalman.compared`, with the parameters of the moment.
        """

    @abstractmethod
    def replace(self, task: str, arrays: Arrays) -> None:
        """Take arrays as the parameters of a task, and of those that share them."""

    def host_step(
        self, host: KalmanSteps | HostOptimizer, task: str, batch: Batch, lr: float
    ) -> Metrics:
        """Take one step on a batch; return the figures before it."""

        def parameters() -> dict[str, np.ndarray]:
            return self.to_host(task, self.parameters(task))

        if isinstance(host, HostOptimizer):
            metrics, grads = self.gradients(task, batch, lr)
            self.replace(task, host.step(task, parameters(), grads, lr))
            return metrics

        def move(changes: Arrays) -> None:
            moved = {k: p + changes[k].astype(p.dtype) for k, p in parameters().items()}
            self.replace(task, moved)

        metrics = self.evaluate(task, batch, lr)
        host.step(batch, self.measure(task, batch), move)
        return metrics
