# SPDX-License-Identifier: LGPL-3.0-or-later
"""Layer normalisation, and a layer that does nothing."""

from typing import Any

import numpy as np

from deepmd.dpmodel import ops
from deepmd.dpmodel.module import Module, Serial
from deepmd.dpmodel.nn.activation import numpy_dtype


class LayerNorm(Module):
    """Mean 0 and variance 1 over the channels, then a trained scale and shift.

    Ba, Kiros and Hinton, arXiv:1607.06450.
    """

    serial = Serial(
        layout="@class @version eps trainable precision @variables",
        name="LayerNorm",
        params=("w", "b"),
    )

    def __init__(
        self, n: int, *, eps: float = 1e-5, trainable: bool = True, precision: str = "default"
    ) -> None:
        self.eps, self.trainable, self.precision = eps, trainable, precision
        self.w = np.ones(n, numpy_dtype(precision))
        self.b = np.zeros(n, numpy_dtype(precision))

    def call(self, x: Any) -> Any:
        """Normalise the last axis."""
        return ops.layer_norm(x, self.w, self.b, self.eps)

    @classmethod
    def construct(cls, config: dict, data: dict) -> "LayerNorm":
        return cls(len(data["@variables"]["w"]), **config)


class Identity(Module):
    """Returns its argument."""

    serial = Serial(layout="@class @version", name="Identity")

    def call(self, x: Any) -> Any:
        """Return x."""
        return x
