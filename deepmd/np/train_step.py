# SPDX-License-Identifier: LGPL-3.0-or-later
"""The training step of the NumPy backend, the reference for the others."""

import copy
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from autograd import value_and_grad

from deepmd.dpmodel import ops
from deepmd.dpmodel.batch import Batch
from deepmd.dpmodel.loss import Loss, labels_of
from deepmd.dpmodel.model import Model, prepare
from deepmd.dpmodel.module import assign, bind, split
from deepmd.dpmodel.neighbors import Overflow
from deepmd.np.ops import RECORDING
from deepmd.runtime.host_optimizer import HostOptimizer
from deepmd.runtime.host_steps import HostedTrainStep
from deepmd.runtime.kalman import KalmanSteps, Measurement, compared, kalman_steps
from deepmd.runtime.sharing import Sharing
from deepmd.runtime.step import Metrics, StepOptions


class NumPyTrainStep(HostedTrainStep):
    """Training on the neutral tree, with derivatives by the ``autograd`` package."""

    name = "dpmodel"

    def __init__(
        self,
        models: dict[str, Model],
        losses: dict[str, Loss],
        optimizer: Mapping[str, Any],
        options: StepOptions,
    ) -> None:
        options.refuse("NumPy", "accumulate", "tf32", "zero_stage", "compute")
        self._models, self._losses, self._options = dict(models), dict(losses), options
        self._params = {task: split(m)[0] for task, m in models.items()}
        self._sharing, norm = Sharing(models), options.gradient_max_norm
        kalman = kalman_steps(optimizer, self._params, losses, options, KalmanSteps)
        self.host: KalmanSteps | HostOptimizer = kalman or HostOptimizer(
            optimizer, self._sharing, norm
        )
        self.overflow = Overflow()

    def _loss(
        self, task: str, batch: Batch, lr: float, params: Mapping[str, Any], *, training: bool
    ) -> tuple[Any, dict[str, Any]]:
        model, loss = bind(self._models[task], params), self._losses[task]
        inputs = prepare(model.expand(batch), model.packings(), self.overflow)
        labels = labels_of(batch)
        pred = loss.predict(model, inputs, batch.n_frames, labels, order=2 if training else 1)
        return loss(lr, pred, labels)

    def gradients(
        self, task: str, batch: Batch, lr: float
    ) -> tuple[Metrics, dict[str, np.ndarray]]:
        """Return the figures of a batch and the gradient of every parameter."""
        figures: Metrics = {}

        def objective(params: dict[str, Any]) -> Any:
            value, more = self._loss(task, batch, lr, params, training=True)
            for k, v in more.items():
                # A figure without a label is the number NaN, not an array.
                figures[k] = v if isinstance(v, float) else float(ops.stop_gradient(v))
            return value

        with RECORDING:
            value, grads = value_and_grad(objective)(self._params[task])
        return {"loss": float(value), **figures}, grads

    def measure(
        self, task: str, batch: Batch
    ) -> Callable[[Measurement], tuple[dict[str, np.ndarray], Any]]:
        labels, errors, neutral = labels_of(batch), [], self._models[task]
        inputs = prepare(neutral.expand(batch), neutral.packings(), self.overflow)

        def measured(given: Measurement) -> tuple[dict[str, np.ndarray], Any]:
            def objective(params: dict[str, Any]) -> Any:
                pred = bind(neutral, params).predict(
                    inputs, batch.n_frames, derivatives=("force",), order=2
                )
                value, error = compared(pred, labels, given.name, given.rows, given.weight)
                errors.append(float(ops.stop_gradient(error)))
                return value

            with RECORDING:
                _, grads = value_and_grad(objective)(self._params[task])
            return grads, errors[-1]

        return measured

    def replace(self, task: str, arrays: Mapping[str, np.ndarray]) -> None:
        self._params[task] = dict(arrays)
        self._sharing.spread(task, self._params.__getitem__)

    def step(self, task: str, batch: Batch, lr: float) -> Metrics:
        return self.host_step(self.host, task, batch, lr)

    def evaluate(self, task: str, batch: Batch, lr: float) -> Metrics:
        value, more = self._loss(task, batch, lr, self._params[task], training=False)
        return {"loss": float(value), **{k: float(v) for k, v in more.items()}}

    def state(self) -> dict[str, np.ndarray]:
        return self.host.state()

    def load_state(self, state: Mapping[str, np.ndarray]) -> None:
        self.host.load_state(state)

    def parameters(self, task: str) -> dict[str, Any]:
        return self._params[task]

    def model(self, task: str) -> Model:
        model = copy.deepcopy(self._models[task])
        assign(model, self._params[task])
        return model
