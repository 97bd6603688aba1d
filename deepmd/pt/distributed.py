# SPDX-License-Identifier: LGPL-3.0-or-later
"""The ranks of ``torch.distributed`` as a group that trains together."""

from collections.abc import Sequence

import torch
import torch.distributed as dist

from deepmd.runtime.distributed import Distributed

Tensor = torch.Tensor


class TorchDistributed(Distributed):
    """All ranks of the default process group, which must have been initialized."""

    def __init__(self) -> None:
        self.rank, self.size = dist.get_rank(), dist.get_world_size()

    def total(self, x: Tensor) -> Tensor:
        """Return the sum of a tensor over the ranks; it is a constant for autograd."""
        out = x.detach().clone()
        dist.all_reduce(out)
        return out

    def agree(self, *numbers: float) -> tuple[float, ...]:
        """Return the largest of each number over the ranks."""
        # NCCL reduces tensors of its devices only.
        device = "cuda" if dist.get_backend() == "nccl" else "cpu"
        values = torch.tensor(numbers, dtype=torch.float64, device=device)
        dist.all_reduce(values, op=dist.ReduceOp.MAX)
        return tuple(values.tolist())

    def add_up(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Return the sums of tensors of one device over the ranks, in one message per dtype."""
        out: dict[int, Tensor] = {}
        for dtype in dict.fromkeys(t.dtype for t in tensors):
            of_dtype = [k for k, t in enumerate(tensors) if t.dtype == dtype]
            flat = self.total(torch.cat([tensors[k].reshape(-1) for k in of_dtype]))
            parts = flat.split([tensors[k].numel() for k in of_dtype])
            out |= {k: p.view(tensors[k].shape) for k, p in zip(of_dtype, parts, strict=True)}
        return [out[k] for k in range(len(tensors))]
