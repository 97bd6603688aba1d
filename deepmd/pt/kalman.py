# SPDX-License-Identifier: LGPL-3.0-or-later
"""Training steps of the extended Kalman filter on PyTorch; see :mod:`deepmd.runtime.kalman`."""

from collections.abc import Callable, Mapping

import numpy as np
import torch

from deepmd.dpmodel.batch import Batch
from deepmd.dpmodel.kalman import LKF
from deepmd.dpmodel.loss import Labels
from deepmd.runtime.kalman import KalmanSteps, Measurement, compared

Tensor = torch.Tensor
#: Returns the predictions for a batch with the parameters of this moment.
Predict = Callable[[], Mapping[str, Tensor]]


class TorchKalmanSteps(KalmanSteps):
    """Filter whose covariance is on the device of the parameters, which are changed in place."""

    def __init__(self, chosen: LKF, task: str, params: Mapping[str, Tensor], total: int) -> None:
        super().__init__(chosen, task, params, total)
        self.params = params

    def take_in(self, predict: Predict, labels: Labels, batch: Batch) -> None:
        """Take the steps of a batch."""

        def measure(given: Measurement) -> tuple[dict[str, Tensor], Tensor]:
            rows = torch.as_tensor(given.rows, device=labels.natoms.device)
            value, error = compared(predict(), labels, given.name, rows, given.weight)
            held = list(self.params.values())
            grads = torch.autograd.grad(value, held, allow_unused=True)
            pairs = zip(self.params, held, grads, strict=True)
            return {k: torch.zeros_like(p) if g is None else g for k, p, g in pairs}, error.detach()

        @torch.no_grad()
        def move(changes: Mapping[str, Tensor]) -> None:
            for name, p in self.params.items():
                p += changes[name].to(p.dtype)

        self.step(batch, measure, move)

    def to_host(self, x: Tensor) -> np.ndarray:
        return x.cpu().numpy().copy()

    def from_host(self, x: np.ndarray) -> Tensor:
        like = next(iter(self.params.values()))
        return torch.tensor(x, dtype=torch.float64, device=like.device)
