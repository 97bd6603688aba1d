# SPDX-License-Identifier: LGPL-3.0-or-later
"""Where tensors live, and the way from NumPy to them."""

import functools
import warnings

import numpy as np
import torch


@functools.cache
def default_device() -> torch.device:
    """Return the CUDA device of this process if there is one, else the CPU."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a driver too old for this torch means: no device
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def to_tensor(x: np.ndarray, device: torch.device) -> torch.Tensor:
    """Return an array as a tensor; on the CPU the memory is shared where possible."""
    x = np.ascontiguousarray(x)
    tensor = torch.from_numpy(x if x.flags.writeable else x.copy())
    if device.type == "cpu":
        return tensor
    return tensor.pin_memory().to(device, non_blocking=True)
