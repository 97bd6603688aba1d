# SPDX-License-Identifier: LGPL-3.0-or-later
"""Evaluation of batches with PyTorch."""

import functools
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from deepmd.base.errors import ModelFileError
from deepmd.base.reading import shown
from deepmd.dpmodel.batch import Batch
from deepmd.dpmodel.model import Inputs, Model, frame_hessian, prepare
from deepmd.dpmodel.module import split
from deepmd.pt.device import default_device, single_thread_after_fork, to_tensor
from deepmd.pt.lift import convert
from deepmd.runtime.chunks import EDGES_PER_CHUNK
from deepmd.runtime.evaluator import AMP, Evaluator

log = logging.getLogger(__name__)

#: Edges in a chunk, by kind of device. On the CPU the working set should stay near the caches.
MAX_EDGES = {"cpu": EDGES_PER_CHUNK, "cuda": 1 << 20}


class TorchEvaluator(Evaluator):
    """Evaluation on the CUDA device if there is one, else on the CPU, in ranges of centers.

    Attributes
    ----------
    device : torch.device
        Where to evaluate.
    program : ScriptModule or None
        Of a file, used instead of the model where it will do.
    path : path or None
        The file.
    """

    program: Any = None
    path: str | os.PathLike[str] | None = None

    def __init__(self, model: Model, **about: Any) -> None:
        super().__init__(model, **about)
        single_thread_after_fork()
        self.device = default_device()
        self.max_edges = MAX_EDGES.get(self.device.type, EDGES_PER_CHUNK)

    @classmethod
    def with_fewer_bits(
        cls, models: Sequence[Model], *, tf32: bool, bfloat16: bool
    ) -> Callable[[Model], Evaluator]:
        """Return what makes evaluators of models like these; see :class:`Evaluator`."""
        from deepmd.pt.reduced import ReducedEvaluator, check_bfloat16, check_single

        device = default_device()
        if bfloat16:
            check_single([a.dtype for m in models for a in split(m)[0].values()], AMP)
            check_bfloat16(device, AMP)
        if tf32 and device.type != "cuda":
            log.warning("validating/tf32_infer has no effect: TF32 is of CUDA devices")
            tf32 = False
        return functools.partial(ReducedEvaluator, tf32=tf32, bfloat16=bfloat16)

    @functools.cached_property
    def lifted(self) -> Any:
        """The lifted model, without gradients of parameters."""
        return convert(self.model).to(self.device).requires_grad_(False)

    @property
    def module(self) -> Any:
        """The program of the file, or the lifted model: a ``torch.nn.Module``."""
        return self.lifted if self.program is None else self.program

    def chunk_function(
        self, derivatives: Sequence[str], extra: Sequence[str]
    ) -> Callable[[Inputs], dict[str, np.ndarray]]:
        """Return the function that evaluates a chunk; see :class:`Evaluator`."""

        def forward(inputs: Inputs) -> dict[str, np.ndarray]:
            tensors = inputs.map(self._tensor)
            if self.program is not None and not extra:  # which are not in programs
                return self._run_program(tensors)
            if derivatives:
                raw = self.lifted.forward_edges(tensors, extra)
            else:
                with torch.no_grad():
                    raw = self.lifted.atomic(tensors, extra)
            return {k: v.cpu().numpy() for k, v in raw.items()}

        return forward

    def vjp(self, inputs: Inputs, cotangent: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Evaluate all atoms at once; see :class:`Evaluator`."""
        given = {name: self._tensor(value) for name, value in cotangent.items()}
        raw = self.lifted.forward_edges(inputs.map(self._tensor), cotangent=given)
        return {k: v.detach().cpu().numpy() for k, v in raw.items()}

    def _run_program(self, tensors: Inputs) -> dict[str, np.ndarray]:
        """Evaluate the program of the file.

        Raises
        ------
        ModelFileError
            If it fails; nothing but its numbers was looked at when it was opened.
        """
        try:
            with torch.no_grad():
                raw = self.program.forward_edges(*tensors)
            return {k: v.cpu().numpy() for k, v in raw.items()}
        except (RuntimeError, TypeError, AttributeError) as error:
            lines = str(error).strip().splitlines() or [""]
            if isinstance(error, torch.OutOfMemoryError) or "out of memory" in str(error):
                raise
            raise ModelFileError(
                f"its program cannot be evaluated ({shown(lines[-1], 200)})",
                where=self.path,
                fix="freeze or convert it again",
            ) from error

    def hessian(self, batch: Batch) -> np.ndarray:
        """Second derivatives of one frame; see :class:`Evaluator`."""
        inputs = prepare(batch, self.model.packings(), self.overflow)
        return frame_hessian(self.lifted, inputs.map(self._tensor)).cpu().numpy()

    def _tensor(self, array: np.ndarray) -> torch.Tensor:
        return to_tensor(array, self.device)
