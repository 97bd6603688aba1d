# SPDX-License-Identifier: LGPL-3.0-or-later
"""Dynamic scale of the loss, so that small gradients survive in float16.

Micikevicius et al., "Mixed precision training", ICLR 2018. Gradients smaller than 6e-8 are zero in
float16, those above 65504 infinite. The loss is multiplied by a power of two, gradients are divided
by it where they have more bits again.
"""

from collections.abc import Callable, Iterable, Mapping

import numpy as np
import torch

from deepmd.base.errors import InputError

Tensor = torch.Tensor


class LossScale:
    """Power of two that halves when gradients overflow, and doubles after many that do not.

    Attributes
    ----------
    value : float
        By which the loss is multiplied.
    since : int
        Batches without an overflow since it changed.
    """

    FIRST, SMALLEST, INTERVAL = 2.0**16, 2.0**-24, 2000

    def __init__(self) -> None:
        self.value, self.since = self.FIRST, 0

    def accept(self, grads: Iterable[Tensor], total: Callable[[Tensor], Tensor] | None) -> bool:
        """Return whether gradients are finite, on all ranks, and adapt the scale.

        The answer decides about the step, so that a device is waited for.

        Parameters
        ----------
        grads : iterable of Tensor
        total : function, optional
            Adds up a tensor over the ranks, where each has a share of the gradients.

        Raises
        ------
        InputError
            If they overflow at every scale.
        """
        found = [torch.isfinite(g).all() for g in grads]
        broken = torch.tensor(0.0) if not found else (~torch.stack(found)).sum().double()
        if not float(broken if total is None else total(broken)):
            self.since += 1
            if self.since >= self.INTERVAL:
                self.value, self.since = 2.0 * self.value, 0
            return True
        self.value, self.since = 0.5 * self.value, 0
        if self.value < self.SMALLEST:
            raise InputError(
                "gradients overflow in float16, however small the scale of the loss is",
                where="training/mixed_precision/compute_prec",
                fix='use "bfloat16", or smaller prefactors of the loss',
            )
        return False

    def state(self) -> dict[str, np.ndarray]:
        """Return the arrays that a restart needs."""
        return {"loss_scale": np.array(self.value), "loss_scale.since": np.array(self.since)}

    def load_state(self, state: Mapping[str, np.ndarray], prefix: str = "") -> None:
        """Restore what :meth:`state` returned, if it is there."""
        self.value = float(state.get(f"{prefix}loss_scale", self.FIRST))
        self.since = int(state.get(f"{prefix}loss_scale.since", 0))
