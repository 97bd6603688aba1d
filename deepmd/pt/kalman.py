# SPDX-License-Identifier: LGPL-3.0-or-later
"""Training steps of the extended Kalman filter on PyTorch; see :mod:`deepmd.dpmodel.kalman`."""

import math
from collections.abc import Callable, Mapping

import numpy as np
import torch

from deepmd.base.errors import InputError, NotAvailableError
from deepmd.dpmodel.kalman import GROUP, LKF, KalmanFilter, blocks_of, groups_of_atoms
from deepmd.dpmodel.loss import Labels, Loss
from deepmd.runtime.step import StepOptions

Tensor = torch.Tensor
#: Returns the predictions for a batch with the parameters of this moment.
Predict = Callable[[], Mapping[str, Tensor]]


class KalmanSteps:
    """Filter of the parameters of a model.

    Parameters
    ----------
    chosen : LKF
    params : dict of str to Tensor
        Which are changed in place.
    options : StepOptions
    """

    def __init__(self, chosen: LKF, params: Mapping[str, Tensor], options: StepOptions) -> None:
        self.chosen, self.params, self.total = chosen, list(params.values()), options.numb_steps
        sizes = [p.numel() for p in self.params]
        self.filter = KalmanFilter(blocks_of(sizes, chosen.kf_blocksize))
        self.count = 0

    def step(self, predict: Predict, labels: Labels) -> None:
        """Take in the energies of a batch, then the forces of some of its atoms, group by group."""
        weights = self.chosen.weights(self.count / max(self.total, 1))
        natoms = labels.natoms
        pred = predict()
        if labels.find.get("energy"):
            self._measure(pred["energy"], labels.values["energy"], weights[0], natoms.mean(), 1)
        if labels.find.get("force"):
            first = torch.cumsum(natoms, 0) - natoms
            for chosen in groups_of_atoms(int(natoms.min()), self.count):
                rows = first.long()[:, None] + torch.as_tensor(chosen, device=first.device)
                found, wanted = predict()["force"][rows], labels.values["force"][rows]
                size = 3 * GROUP
                self._measure(found, wanted, weights[1], natoms.mean(), size)
        self.count += 1

    def _measure(
        self, found: Tensor, wanted: Tensor, weight: float, natoms: Tensor, size: int
    ) -> None:
        """Take in the mean absolute error of predictions, as one number per batch.

        Parameters
        ----------
        found, wanted : (n_frames, …)
        weight : float
        natoms : scalar
            Atoms of a frame.
        size : int
            Numbers that are predicted for a frame.
        """
        differences = weight * (wanted - found.detach())
        sign = torch.ones_like(differences).masked_fill(differences < 0, -1.0)
        error = differences.abs().mean() / natoms * math.sqrt(len(found))
        grads = torch.autograd.grad((weight * sign * found).sum(), self.params, allow_unused=True)
        pairs = zip(self.params, grads, strict=True)
        flat = [torch.zeros_like(p) if g is None else g for p, g in pairs]
        gradient = torch.cat([columns(g) for g in flat]).to(torch.float64)
        change = self.filter.update(gradient / (natoms * size), error)
        with torch.no_grad():
            begin = 0
            for p in self.params:
                part = change[begin : begin + p.numel()].reshape(p.shape[::-1])
                p += part.permute(*range(p.ndim)[::-1]).to(p.dtype)
                begin += p.numel()

    def state(self) -> dict[str, np.ndarray]:
        """Return the state as arrays by name."""
        out = {"count": np.array(self.count), "forgetting": np.array(self.filter.forgetting)}
        covariance = enumerate(self.filter.covariance)
        return out | {f"covariance.{k}": p.cpu().numpy().copy() for k, p in covariance}

    def load_state(self, state: Mapping[str, np.ndarray]) -> None:
        """Restore what :meth:`state` returned."""
        self.count, self.filter.forgetting = int(state["count"]), float(state["forgetting"])
        like = self.params[0]
        self.filter.covariance = [
            torch.tensor(state[f"covariance.{k}"], dtype=torch.float64, device=like.device)
            for k in range(len(self.filter.blocks))
            if f"covariance.{k}" in state
        ]


def columns(x: Tensor) -> Tensor:
    """Elements of an array, column by column, as they come in DeePMD-kit's blocks."""
    return x.permute(*range(x.ndim)[::-1]).reshape(-1)


def kalman_steps(
    chosen: LKF,
    params: Mapping[str, Mapping[str, Tensor]],
    losses: Mapping[str, Loss],
    options: StepOptions,
) -> KalmanSteps:
    """Return the filter of a training.

    Raises
    ------
    InputError
        If the training is of another kind than the filter knows.
    """
    where = "optimizer/type"
    for name, value in (
        ("several tasks", len(params) > 1),
        ("several processes", options.ranks.size > 1),
        ("training/acc_freq", options.accumulate > 1),
        ("training/gradient_max_norm", options.gradient_max_norm is not None),
        ("training/enable_compile", options.compile),
        ("training/mixed_precision", options.compute),
        ("training/zero_stage", options.zero_stage),
    ):
        if value:
            raise NotAvailableError(
                f"LKF is not built with {name}", where=where, fix="use Adam or AdamW"
            )
    ((task, own),) = params.items()
    if losses[task].serial.name != "EnergyLoss":
        raise InputError(
            "LKF trains on energies and forces", where=where, fix="use the loss ener, or Adam"
        )
    if not own:
        raise InputError("no parameter of the model is trained", where=where)
    return KalmanSteps(chosen, own, options)
