# SPDX-License-Identifier: LGPL-3.0-or-later
"""Layer normalization and the identity."""

from typing import Any

import numpy as np

from deepmd.dpmodel import ops
from deepmd.dpmodel.construction import claim
from deepmd.dpmodel.module import Module, Serial
from deepmd.dpmodel.nn.activation import numpy_dtype
from deepmd.schema.network import PRECISION
from deepmd.schema.settings import setting


class LayerNorm(Module):
    """Layer normalization: mean 0 and variance 1 over the channels, then a trained scale and shift.

    Ba, Kiros and Hinton, arXiv:1607.06450.
    """

    serial = Serial(
        layout="@class @version eps trainable precision @variables",
        name="LayerNorm",
        params=("w", "b"),
    )
    torch_names = {"w": "matrix", "b": "bias"}

    n: int = setting(..., "Number of channels.")
    eps: float = setting(1e-5, "Added to the variance.")
    trainable: bool = setting(True, "Whether scale and shift are trained.")
    precision: str = PRECISION

    def build(self) -> None:
        claim(self.n)
        self.w = np.ones(self.n, numpy_dtype(self.precision))
        self.b = np.zeros(self.n, numpy_dtype(self.precision))

    def call(self, x: Any) -> Any:
        """Normalize the last axis."""
        return ops.layer_norm(x, self.w, self.b, self.eps)

    @classmethod
    def construct(cls, config: dict, data: dict) -> "LayerNorm":
        return cls(len(data["@variables"]["w"]), **config)


class Identity(Module):
    """Identity."""

    serial = Serial(layout="@class @version", name="Identity")

    def call(self, x: Any) -> Any:
        """Return x."""
        return x
