# SPDX-License-Identifier: LGPL-3.0-or-later
"""Conversion between NumPy and PyTorch."""

from typing import Any

import numpy as np
import torch

from deepmd.dpmodel.module import to_numpy
from deepmd.pt.utils import env


def to_numpy_array(x: torch.Tensor | None) -> np.ndarray | None:
    """Return a tensor as a NumPy array; None stays None."""
    return None if x is None else to_numpy(x)


def to_torch_tensor(x: Any) -> torch.Tensor | None:
    """Return an array as a tensor on the default device; None stays None."""
    return None if x is None else torch.tensor(np.asarray(x), device=env.DEVICE)
