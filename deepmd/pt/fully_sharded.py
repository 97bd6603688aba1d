# SPDX-License-Identifier: LGPL-3.0-or-later
"""Parameters divided among the ranks between steps (ZeRO, stage 3), by ``fully_shard`` of PyTorch (FSDP2).

A step gathers all parameters before the forward pass and frees them after the backward pass: forces
are derivatives inside of the forward pass, so that no part of a model is done with its parameters
before that. Gradients are then summed to the shards.
"""

import contextlib
import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from deepmd.base.errors import NotAvailableError
from deepmd.pt.distributed import TorchDistributed
from deepmd.pt.sharded import ShardedOptimizer

Tensor = torch.Tensor
Figures = dict[str, Any]


class FullyShardedModels:
    """Lifted models whose parameters are whole only while they are evaluated.

    Parameters
    ----------
    lifted : dict of str to Module
        Lifted models by task, which may share nodes; their parameters are replaced.
    ranks : TorchDistributed

    Attributes
    ----------
    params : dict of str to dict of str to Parameter
        By task and name, the rows of every parameter that this rank owns, in the memory from which
        the whole ones are gathered: an optimizer changes them in place.

    Raises
    ------
    NotAvailableError
        If a component of a plugin holds parameters of its own.
    """

    def __init__(self, lifted: Mapping[str, torch.nn.Module], ranks: TorchDistributed) -> None:
        models = list(lifted.values())
        if any(vars(m).get("attached") for model in models for m in model.modules()):
            raise NotAvailableError(
                "parameters of components of plugins are not divided among processes",
                where="training/zero_stage",
                fix="set it to 2 or less",
            )
        every = {p: None for model in models for p in model.parameters()}
        self._shapes = [p.shape for p in every]
        # One group per number format, as its gradients are one message.
        self._roots: list[Any] = []
        for dtype in sorted({p.dtype for p in every}, key=str):
            mesh = init_device_mesh(next(iter(every)).device.type, (ranks.size,))
            root = _Root(models, dtype)
            others = {p for p in root.parameters() if p.dtype != dtype}
            made: Any = fully_shard(
                root, mesh=mesh, reshard_after_forward=False, ignored_params=others
            )
            made.set_gradient_divide_factor(1.0)  # sums over the ranks, not averages
            made.set_force_sum_reduction_for_comms(True)
            self._roots.append(made)
        self._models = models
        self._local: dict[Any, Tensor] = {}
        self.params = {
            task: {name: self._shard(p) for name, p in model.named_parameters()}
            for task, model in lifted.items()
        }
        ranks.before_close.append(self.close)

    def _shard(self, p: Any) -> Tensor:
        if p not in self._local:
            self._local[p] = torch.nn.Parameter(p.detach().to_local())
        return self._local[p]

    @property
    def shapes(self) -> dict[Tensor, torch.Size]:
        """Shapes of the whole parameters by shard."""
        return dict(zip(self._local.values(), self._shapes, strict=True))

    @contextlib.contextmanager
    def whole(self) -> Iterator[None]:
        """Context in which the parameters are whole; entered by all ranks."""
        for root in self._roots:
            root.unshard()
        try:
            yield
        finally:
            for root in self._roots:
                root.reshard()

    def gradients(
        self, loss: Callable[[], tuple[Tensor, Figures]]
    ) -> tuple[Tensor, Figures, dict[Tensor, Tensor]]:
        """Evaluate a loss; return it with its figures and the gradients of the own rows.

        Parameters
        ----------
        loss : function
            Evaluates the models. Its value (scalar), whose gradients are summed over the ranks, need
            not depend on all parameters.
        """
        figures: Figures = {}

        def evaluate() -> Tensor:
            total, found = loss()
            figures.update(found)
            return total

        forward = evaluate
        for root in self._roots:
            forward = functools.partial(root, forward)
        total = forward()
        if self._roots:
            total.backward()
        grads = {local: p.grad.to_local() for p, local in self._local.items()}
        for p in self._local:
            p.grad = None
        return total, figures, grads

    def close(self) -> None:
        """Let go of the process group, whose threads end with the last reference to it."""
        for module in (m for model in self._models for m in model.modules()):
            for name in module._parameters:
                module._parameters[name] = None
        self._roots, self._models, self._local = [], [], {}
        with contextlib.suppress(ImportError):
            from torch.distributed.tensor.debug import _clear_sharding_prop_cache

            _clear_sharding_prop_cache()


class _Root(torch.nn.Module):
    """Parameters of one number format of all models; a forward pass is a call of a function."""

    def __init__(self, models: Iterable[torch.nn.Module], dtype: torch.dtype) -> None:
        super().__init__()
        self.models, self.dtype = torch.nn.ModuleList(models), dtype

    def forward(self, function: Callable[[], Tensor]) -> Tensor:
        """Evaluate, so that every parameter has a gradient."""
        total = function()
        return _Complete.apply(total, *(p for p in self.parameters() if p.dtype == self.dtype))


class _Complete(torch.autograd.Function):
    """A scalar as it is, with gradients of zero by parameters that it may not depend on.

    A rank may lack the gradient of a parameter that another rank has, e.g. of a network for a type
    which none of its atoms has; messages must be as long on all of them.
    """

    @staticmethod
    def forward(ctx: Any, total: Tensor, *params: Tensor) -> Tensor:
        ctx.zeros = [p.new_zeros(()).expand(p.shape) for p in params]
        return total.clone()

    @staticmethod
    def backward(ctx: Any, cotangent: Tensor) -> Any:
        return cotangent, *ctx.zeros


class FullyShardedOptimizer(ShardedOptimizer):
    """Optimizer of the rows of all parameters that this rank owns.

    Parameters
    ----------
    models : FullyShardedModels
    make : function
        Gives the ``torch.optim`` optimizer of some parameters.
    ranks : TorchDistributed
    """

    divides_gradients = True

    def __init__(
        self,
        models: FullyShardedModels,
        make: Callable[[list[Tensor]], Any],
        ranks: TorchDistributed,
    ) -> None:
        self._shapes, self._ranks = models.shapes, ranks
        self._params = list(self._shapes)
        self._own = make(self._params)

    def owns(self, p: Tensor) -> bool:
        """Whether rows of a parameter belong to this rank, which is true of all."""
        return True

    def step(self) -> None:
        """Take the step of the own rows."""
        self._own.step()

    def add_up(self, grads: Mapping[Tensor, Tensor]) -> dict[Tensor, Tensor]:
        """Return gradients of the own rows, which are summed already."""
        return dict(grads)

    def part(self, p: Tensor, whole: Tensor) -> Tensor:
        """Return the own rows of an array like a whole parameter."""
        return whole[self._rows(p)].clone()

    def _rows(self, p: Tensor) -> slice:
        each = -(-self._shapes[p][0] // self._ranks.size)  # as torch.chunk divides them
        first = min(each * self._ranks.rank, self._shapes[p][0])
        return slice(first, first + p.shape[0])

    def _whole(self, values: Sequence[Tensor]) -> list[Tensor]:
        """Return whole tensors of own rows, on every rank; scalars are the same on all."""
        wholes = []
        for p, own in zip(self._params, values, strict=True):
            if own.ndim:
                whole = own.new_zeros(self._shapes[p])
                whole[self._rows(p)] = own.detach()
                wholes.append(whole)
        added = iter(self._ranks.add_up(wholes))
        return [next(added) if own.ndim else own for own in values]
