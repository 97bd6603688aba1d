# SPDX-License-Identifier: LGPL-3.0-or-later
"""Optimizer whose states are divided among the ranks (ZeRO, stage 1), and gradients, too (stage 2).

Rajbhandari et al., SC20. Every rank keeps the moments of its share of the parameters, takes their step,
and gets the other parameters from their owners.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from deepmd.pt.distributed import TorchDistributed

Tensor = torch.Tensor


class ShardedOptimizer:
    """Optimizer of the parameters that this rank owns; the others follow.

    Parameters
    ----------
    params : sequence of Tensor
        The same ones in the same order on every rank.
    make : function
        Gives the ``torch.optim`` optimizer of some parameters.
    ranks : TorchDistributed
    divides_gradients : bool
        Whether a rank gets the gradients of its share only.
    """

    def __init__(
        self,
        params: Sequence[Tensor],
        make: Callable[[list[Tensor]], Any],
        ranks: TorchDistributed,
        *,
        divides_gradients: bool = False,
    ) -> None:
        self._params, self._ranks, self.divides_gradients = list(params), ranks, divides_gradients
        sizes = [0] * ranks.size
        self._owner: dict[Tensor, int] = {}
        for p in sorted(params, key=lambda p: -p.numel()):  # the largest first, to the emptiest
            owner = sizes.index(min(sizes))
            self._owner[p], sizes[owner] = owner, sizes[owner] + p.numel()
        self._own = make([p for p in params if self.owns(p)])

    def owns(self, p: Tensor) -> bool:
        """Whether a parameter belongs to this rank."""
        return self._owner[p] == self._ranks.rank

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """Groups of the own parameters."""
        return self._own.param_groups

    @property
    def state(self) -> Any:
        """States of the own parameters."""
        return self._own.state

    def part(self, p: Tensor, whole: Tensor) -> Tensor:
        """Return what a rank keeps of an array like one of its parameters: all of it."""
        return whole

    def step(self) -> None:
        """Take the step of the own parameters, and exchange them."""
        self._own.step()
        with torch.no_grad():
            for p, new in zip(self._params, self._whole(self._params), strict=True):
                if not self.owns(p):
                    p.copy_(new)

    def add_up(self, grads: Mapping[Tensor, Tensor]) -> dict[Tensor, Tensor]:
        """Return the sums over the ranks of gradients of the own parameters."""
        own = {}
        for owner in range(self._ranks.size):
            of_owner = [p for p in grads if self._owner[p] == owner]
            summed = self._ranks.add_up_at([grads[p] for p in of_owner], owner)
            if summed is not None:
                own = dict(zip(of_owner, summed, strict=True))
        return own

    def gathered(self, values: Mapping[Tensor, Tensor]) -> dict[Tensor, Tensor]:
        """Return values like parameters, of which every rank has its own, of all parameters."""
        every = [values.get(p, p) for p in self._params]
        return dict(zip(self._params, self._whole(every), strict=True))

    def _whole(self, values: Sequence[Tensor]) -> list[Tensor]:
        """Return the owners' values of tensors like the parameters, on every rank."""
        # The others add zeros, which changes no number.
        pairs = zip(self._params, values, strict=True)
        return self._ranks.add_up(
            [v.detach() if self.owns(p) else torch.zeros_like(v) for p, v in pairs]
        )

    def states(self) -> dict[Tensor, dict[str, Tensor]]:
        """Return the states of all parameters, of no use for steps; called on every rank."""
        kinds = ("step", "exp_avg", "exp_avg_sq")

        def values(kind: str) -> list[Tensor]:
            own = [self.state.get(p) or {} for p in self._params]
            empty = [torch.zeros(()) if kind == "step" else p.detach() for p in self._params]
            return [s.get(kind, e).to(e.device) for s, e in zip(own, empty, strict=True)]

        whole = [self._whole(values(kind)) for kind in kinds]
        out = {
            p: dict(zip(kinds, s, strict=True))
            for p, s in zip(self._params, zip(*whole, strict=True), strict=True)
        }
        return {p: s for p, s in out.items() if s["step"] > 0}
