# SPDX-License-Identifier: LGPL-3.0-or-later
"""Evaluation of batches with PyTorch."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from deepmd.dpmodel.batch import Batch
from deepmd.dpmodel.chunks import predict_in_chunks
from deepmd.dpmodel.evaluator import Evaluator
from deepmd.dpmodel.model import Inputs, Model, frame_hessian, prepare
from deepmd.pt.device import default_device, to_tensor
from deepmd.pt.lift import convert

Forward = Callable[[Inputs, Sequence[str], bool], dict[str, torch.Tensor]]

#: Edges in a chunk, by kind of device. On the CPU the working set should stay near the caches.
MAX_EDGES = {"cpu": 1 << 15, "cuda": 1 << 20}


class TorchEvaluator(Evaluator):
    """Evaluation on the CUDA device if there is one, else on the CPU, in ranges of centres.

    Parameters
    ----------
    model : Model
        The neutral model.
    device : torch.device, optional
        Where to evaluate.
    model_def_script, min_nbor_dist
        See :class:`Evaluator`.
    """

    def __init__(
        self,
        model: Model,
        *,
        device: torch.device | None = None,
        model_def_script: Mapping[str, Any] | None = None,
        min_nbor_dist: float | None = None,
    ) -> None:
        super().__init__(model, model_def_script=model_def_script, min_nbor_dist=min_nbor_dist)
        self.device = default_device() if device is None else device
        self._forward: Forward | None = None
        self._lifted: Any = None
        self.max_edges = MAX_EDGES.get(self.device.type, 1 << 15)

    @property
    def lifted(self) -> Any:
        """The lifted model, without gradients of parameters."""
        if self._lifted is None:
            self._lifted = convert(self.model).to(self.device).requires_grad_(False)
        return self._lifted

    def use(self, forward: Forward) -> None:
        """Evaluate with a compiled program, ``forward(inputs, extra, derivatives?) -> raw``."""
        self._forward = forward

    def evaluate(
        self,
        batch: Batch,
        *,
        derivatives: Sequence[str] = ("force", "virial"),
        extra: Sequence[str] = (),
    ) -> dict[str, np.ndarray]:
        """Evaluate a batch with edges; see :class:`Evaluator`."""

        def forward(inputs: Inputs) -> dict[str, np.ndarray]:
            tensors = inputs.map(lambda x: to_tensor(x, self.device))
            raw = self._raw(tensors, extra, bool(derivatives))
            return {k: v.cpu().numpy() for k, v in raw.items()}

        return predict_in_chunks(
            self.model,
            batch,
            forward,
            derivatives=derivatives,
            max_edges=self.max_edges,
            overflow=self.overflow,
        )

    def hessian(self, batch: Batch) -> np.ndarray:
        """Second derivatives of one frame; see :class:`Evaluator`."""
        inputs = prepare(batch, self.model.packings(), self.overflow)
        tensors = inputs.map(lambda x: to_tensor(x, self.device))
        return frame_hessian(self.lifted, tensors).cpu().numpy()

    def _raw(
        self, inputs: Inputs, extra: Sequence[str], derivatives: bool
    ) -> dict[str, torch.Tensor]:
        # Further outputs are not in compiled programs.
        if self._forward is not None and not extra:
            return self._forward(inputs, extra, derivatives)
        if derivatives:
            return self.lifted.forward_edges(inputs, extra)
        with torch.no_grad():
            return self.lifted.atomic(inputs, extra)
