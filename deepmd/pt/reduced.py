# SPDX-License-Identifier: LGPL-3.0-or-later
"""Products of matrices with fewer bits: in training steps, and in validations."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch

from deepmd.base.errors import InputError, NotAvailableError
from deepmd.dpmodel.model import Inputs, Model
from deepmd.pt.evaluator import TorchEvaluator


def check_single(dtypes: Sequence[Any], where: str) -> None:
    """Raise InputError if trained arrays of these types are not all of single precision."""
    if any(dtype not in (torch.float32, np.float32) for dtype in dtypes):
        raise InputError(
            "mixed precision is of networks in single precision",
            where=where,
            fix='set precision of descriptor and fitting_net to "float32"',
        )


def check_bfloat16(device: torch.device, where: str) -> None:
    """Raise NotAvailableError if a device has no bfloat16."""
    if device.type == "cuda" and not torch.cuda.is_bf16_supported():
        raise NotAvailableError("this device has no bfloat16", where=where, fix="leave it out")


@contextlib.contextmanager
def tf32_products() -> Iterator[None]:
    """Context in which CUDA devices multiply matrices of single precision with TF32."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


class ReducedEvaluator(TorchEvaluator):
    """Evaluation with fewer bits in the products of matrices of single precision.

    Attributes
    ----------
    tf32 : bool
        Use TF32.
    bfloat16 : bool
        Use bfloat16. Everything that is no product of matrices keeps its precision.
    """

    def __init__(self, model: Model, *, tf32: bool, bfloat16: bool, **about: Any) -> None:
        super().__init__(model, **about)
        self.tf32, self.bfloat16 = tf32, bfloat16

    def chunk_function(
        self, derivatives: Sequence[str], extra: Sequence[str]
    ) -> Callable[[Inputs], dict[str, np.ndarray]]:
        """Return the function that evaluates a chunk; see :class:`Evaluator`."""

        def forward(inputs: Inputs) -> dict[str, np.ndarray]:
            tensors = inputs.map(self._tensor)
            # Operations with derivatives of their own, below order 3, do without mixed precision.
            order = 3 if self.bfloat16 else 1
            with contextlib.ExitStack() as stack:
                if self.tf32:
                    stack.enter_context(tf32_products())
                if self.bfloat16:
                    stack.enter_context(torch.autocast(self.device.type, dtype=torch.bfloat16))
                if derivatives:
                    raw = self.lifted.forward_edges(tensors, extra, order=order)
                else:
                    raw = self.lifted.atomic(tensors, extra, order=order)
            return {k: v.detach().cpu().numpy() for k, v in raw.items()}

        return forward
