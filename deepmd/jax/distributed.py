# SPDX-License-Identifier: LGPL-3.0-or-later
"""The processes of ``jax.distributed`` as a group that trains together.

A step is one program over all processes (``shard_map``): each has the arrays of its own batch, padded
to the sizes of the largest one, and its copy of the parameters. On processors JAX exchanges with
gloo, on devices of CUDA with NCCL.
"""

import functools
import os
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from deepmd.base.errors import NotAvailableError
from deepmd.base.launcher import Processes
from deepmd.runtime.bucketing import Sizes
from deepmd.runtime.control import START, Control
from deepmd.runtime.distributed import Distributed, unreachable

_AXIS = "ranks"
_SIZES = 4096


class JaxDistributed(Distributed):
    """All processes of ``jax.distributed``, one device each."""

    def __init__(self, control: Control) -> None:
        self.rank, self.size, self.control = jax.process_index(), jax.process_count(), control
        first = {d.process_index: d for d in reversed(jax.devices())}
        self._device = first[self.rank]
        self._mesh = Mesh(np.array([first[k] for k in range(self.size)]), (_AXIS,))

    def total(self, x: Any) -> Any:
        """Return the sum of an array over the ranks; inside of a program of all of them."""
        return jax.lax.psum(x, _AXIS)

    def place(self, tree: Any, *, own: bool = False) -> Any:
        """Put arrays on the device: the same ones on every rank, or those of its own batch."""
        sharding = NamedSharding(self._mesh, PartitionSpec(_AXIS) if own else PartitionSpec())

        def put(x: Any) -> Any:
            x = np.asarray(x)[None] if own else np.asarray(x)
            shape = (self.size, *x.shape[1:]) if own else x.shape
            local = jax.device_put(jnp.array(x, copy=True), self._device)
            return jax.make_array_from_single_device_arrays(shape, sharding, [local])

        return jax.tree.map(put, tree)

    def program(self, function: Callable[..., Any], own: tuple[int, ...]) -> Any:
        """Compile a function over all ranks; arguments by number ``own`` are of each rank's batch."""

        @functools.wraps(function)
        def inside(*arguments: Any) -> Any:
            arguments = tuple(
                jax.tree.map(lambda x: x[0], a) if k in own else a for k, a in enumerate(arguments)
            )
            return jax.tree.map(jnp.asarray, function(*arguments))

        def whole(*arguments: Any) -> Any:
            specs = tuple(
                PartitionSpec(_AXIS) if k in own else PartitionSpec() for k in range(len(arguments))
            )
            return jax.shard_map(
                inside,
                mesh=self._mesh,
                in_specs=specs,
                out_specs=PartitionSpec(),
                check_vma=False,
            )(*arguments)

        return jax.jit(whole)

    def common(self, sizes: Sizes) -> Sizes:
        """Return the largest of all sizes over the ranks, whose programs must be the same."""
        parts = (
            (sizes.frames,),
            (sizes.edges,),
            sizes.types,
            sizes.widths,
            sizes.flat,
            sizes.angles,
        )
        largest = iter(map(int, self.agree(*(n for part in parts for n in part))))
        f, e, *rest = (tuple(next(largest) for _ in part) for part in parts)
        return Sizes(f[0], e[0], *rest)

    def close(self) -> None:
        """Leave the group."""
        jax.distributed.shutdown()


def start_group(started: Processes) -> JaxDistributed:
    """Join the processes that a launcher started.

    Raises
    ------
    InputError
        If the launcher does not say where the first process is, or the others cannot be reached.
    """
    if not hasattr(jax, "shard_map"):
        raise NotAvailableError(
            f"JAX {jax.__version__} is too old for several processes",
            where="several processes",
            fix="install jax 0.6 or later",
        )
    host, port = os.environ.get("MASTER_ADDR"), os.environ.get("MASTER_PORT", "")
    address = os.environ.get("JAX_COORDINATOR_ADDRESS")
    if address is None and host and port.isdecimal():
        # The port itself belongs to torchrun where that keeps the store of the processes.
        kept = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
        address = f"{host}:{int(port) + kept}"
    if address is None:
        raise NotAvailableError(
            f"{started.launcher} started {started.size} processes, but nothing says where the first "
            "one is",
            where="several processes",
            fix="set JAX_COORDINATOR_ADDRESS to NAME:PORT, or MASTER_ADDR and MASTER_PORT",
        )
    try:
        jax.distributed.initialize(
            address,
            started.size,
            started.rank,
            local_device_ids=[started.local_rank],
            initialization_timeout=int(START),
        )
    except RuntimeError as error:
        raise unreachable(
            started, error, f"start them together; the first one must be able to use {address}"
        ) from error
    control = Control(started.rank, started.size, _exchange, address.rpartition(":")[0])
    return JaxDistributed(control)


def _exchange(own: bytes | None) -> bytes:
    """Give the bytes of the first process to all."""
    text = np.zeros(_SIZES, np.uint8)
    if own is not None:
        text[: len(own)] = np.frombuffer(own, np.uint8)
    out = np.asarray(multihost_utils.broadcast_one_to_all(text))
    return out.astype(np.uint8).tobytes().rstrip(b"\0")
