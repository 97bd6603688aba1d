# SPDX-License-Identifier: LGPL-3.0-or-later
"""The ranks of ``torch.distributed`` as a group that trains together."""

import datetime
import gc
import os
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch._dynamo  # before a group: see TorchDistributed.close
import torch.distributed as dist
from torch.distributed.rendezvous import rendezvous

from deepmd.base.errors import InputError, NotAvailableError
from deepmd.base.launcher import Processes
from deepmd.pt.device import default_device
from deepmd.runtime.control import START, Control
from deepmd.runtime.distributed import Distributed, unreachable

Tensor = torch.Tensor
#: A process may wait long for the first one, which goes through the data; :class:`Control` notices
#: where one is lost.
_PATIENCE = datetime.timedelta(days=30)


class TorchDistributed(Distributed):
    """All ranks of the default process group, which must have been initialized."""

    def __init__(self, control: Control | None = None) -> None:
        self.rank, self.size, self.control = dist.get_rank(), dist.get_world_size(), control
        #: Called before the group is left, to let go of references to it.
        self.before_close: list[Callable[[], None]] = []

    def _all_reduce(self, x: Tensor, op: Any = dist.ReduceOp.SUM) -> Tensor:
        """Reduce in place."""
        begin = time.perf_counter()
        with self.explained():
            dist.all_reduce(x, op=op)
        if x.device.type == "cpu":  # others go on meanwhile
            self.exchanged += time.perf_counter() - begin
        return x

    def total(self, x: Tensor) -> Tensor:
        """Return the sum of a tensor over the ranks; it is a constant for autograd."""
        return self._all_reduce(x.detach().clone())

    def agree(self, *numbers: float) -> tuple[float, ...]:
        """Return the largest of each number over the ranks."""
        # Numbers of the processor, so that a device is not waited for.
        device = "cpu" if "cpu:gloo" in str(dist.get_backend_config()) else "cuda"
        values = torch.tensor(numbers, dtype=torch.float64, device=device)
        return tuple(self._all_reduce(values, dist.ReduceOp.MAX).tolist())

    def add_up(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Return the sums of tensors of one device over the ranks, in one message per dtype."""
        out: dict[int, Tensor] = {}
        for dtype in dict.fromkeys(t.dtype for t in tensors):
            of_dtype = [k for k, t in enumerate(tensors) if t.dtype == dtype]
            flat = self._all_reduce(torch.cat([tensors[k].reshape(-1) for k in of_dtype]))
            parts = flat.split([tensors[k].numel() for k in of_dtype])
            out |= {k: p.view(tensors[k].shape) for k, p in zip(of_dtype, parts, strict=True)}
        return [out[k] for k in range(len(tensors))]

    def add_up_at(self, tensors: Sequence[Tensor], rank: int) -> list[Tensor] | None:
        """Return the sums of tensors of one device over the ranks on one of them, elsewhere None."""
        out: dict[int, Tensor] = {}
        for dtype in dict.fromkeys(t.dtype for t in tensors):
            of_dtype = [k for k, t in enumerate(tensors) if t.dtype == dtype]
            flat = torch.cat([tensors[k].reshape(-1) for k in of_dtype])
            begin = time.perf_counter()
            with self.explained():
                dist.reduce(flat, dst=rank)
            if flat.device.type == "cpu":
                self.exchanged += time.perf_counter() - begin
            parts = flat.split([tensors[k].numel() for k in of_dtype])
            out |= {k: p.view(tensors[k].shape) for k, p in zip(of_dtype, parts, strict=True)}
        return [out[k] for k in range(len(tensors))] if rank == self.rank else None

    def close(self) -> None:
        """Leave the process group and end its threads.

        A process that ends with them alive may abort: a thread that lets go of the last tensor of a
        message must wait for the interpreter, which is gone. They end with the last reference to
        the group. torch's compiler keeps one if it is imported (by the first step of an optimizer)
        while a group exists, which is why this module imports it.
        """
        for release in self.before_close:
            release()
        dist.destroy_process_group()
        if self.before_close:
            self.before_close.clear()
            gc.collect()  # references in circles


def start_group(started: Processes) -> TorchDistributed:
    """Join the processes that a launcher started: gloo on processors, NCCL on devices of CUDA.

    Raises
    ------
    InputError
        If the launcher does not say where the first process is, or the others cannot be reached.
    """
    address = os.environ.get("MASTER_ADDR")
    if not address or not os.environ.get("MASTER_PORT"):
        raise NotAvailableError(
            f"{started.launcher} started {started.size} processes, but MASTER_ADDR and MASTER_PORT "
            "do not say where the first one is",
            where="several processes",
            fix="start with torchrun --nproc_per_node=N --no-python dp --pt train ..., or set both",
        )
    cuda = default_device().type == "cuda"
    if cuda:
        torch.cuda.set_device(_device_number(started))
    try:
        store, rank, size = next(
            rendezvous(
                "env://", started.rank, started.size, timeout=datetime.timedelta(seconds=START)
            )
        )
        control = Control(rank, size, _exchange(dist.PrefixStore("deepmd", store)), address)
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if cuda else "gloo",
            store=dist.PrefixStore("deepmd-group", store),
            rank=rank,
            world_size=size,
            timeout=_PATIENCE,
        )
    except (RuntimeError, OSError) as error:
        raise unreachable(
            started,
            error,
            "start them together, with MASTER_ADDR as the name of the first computer",
        ) from error
    return TorchDistributed(control)


def _exchange(store: Any) -> Callable[[bytes | None], bytes]:
    def exchange(own: bytes | None) -> bytes:
        if own is not None:
            store.set("control", own)
            return own
        return bytes(store.get("control"))

    return exchange


def _device_number(started: Processes) -> int:
    """Return the number of the device of this process; a launcher may have chosen it already."""
    count = torch.cuda.device_count()
    if count == 1:
        return 0
    if started.local_rank >= count:
        raise InputError(
            f"process {started.local_rank} of this computer has no device, there are {count}",
            where="several processes",
            fix=f"start at most {count} processes on this computer",
        )
    return started.local_rank
