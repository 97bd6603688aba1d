# SPDX-License-Identifier: LGPL-3.0-or-later
"""Low-rank additions to the weights of dense layers.

Hu et al., "LoRA: Low-rank adaptation of large language models", ICLR 2022.
"""

from typing import Any

import numpy as np

from deepmd.dpmodel.module import Module, Serial
from deepmd.dpmodel.nn.activation import numpy_dtype
from deepmd.dpmodel.nn.random import Seed, child_seed, stream


class LowRank(Module):
    """Addition ``scale * a @ b`` (n_in, n_out) to a weight; zero at the beginning.

    It has no dictionary of its own: files hold the sum.

    Parameters
    ----------
    n_in, n_out : int
        Sizes of the weight.
    rank : int
        Width of the factors, at most the smaller size.
    scale : float
        Factor of the product.
    precision : str
        Number format of the weight.
    seed : int or tuple, optional
    """

    serial = Serial(params=("a", "b"), buffers=("scale",))

    def __init__(
        self,
        n_in: int,
        n_out: int,
        rank: int,
        *,
        scale: float = 1.0,
        precision: str = "float64",
        seed: Seed = None,
    ) -> None:
        dtype, rank = numpy_dtype(precision), min(rank, n_in, n_out)
        values = stream(child_seed(seed, "a")).normal(0.0, 1.0 / np.sqrt(n_in), (n_in, rank))
        self.a, self.b = values.astype(dtype), np.zeros((rank, n_out), dtype)
        self.scale = np.array(scale, dtype)

    def call(self) -> Any:
        """Return the addition: (n_in, n_out)."""
        return self.scale * (self.a @ self.b)
