# SPDX-License-Identifier: LGPL-3.0-or-later
"""Device of tensors, and the way from NumPy to it."""

import functools
import os
import warnings

import numpy as np
import torch

from deepmd.base.fork import refuse_fork


def default_device() -> torch.device:
    """Return the CUDA device of this process if there is one, else the CPU."""
    device = _default_device()
    if device.type == "cuda":
        refuse_fork("CUDA")
    return device


@functools.cache
def _default_device() -> torch.device:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a driver too old for this torch means: no device
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def cuda_devices() -> tuple[list[str], str]:
    """Return the names of the CUDA devices, and the reason, if known, where there are none."""
    if _default_device().type == "cuda":
        count = torch.cuda.device_count()
        return [torch.cuda.get_device_name(i) for i in range(count)], ""
    built = torch.version.cuda is not None
    return [], "" if built else f"PyTorch {torch.__version__} is built without CUDA"


@functools.cache
def single_thread_after_fork() -> None:
    """Let forked processes use one thread: those of OpenMP are not forked, and waited for."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=lambda: torch.set_num_threads(1))


def to_tensor(x: np.ndarray, device: torch.device) -> torch.Tensor:
    """Return an array as a tensor; on the CPU the memory is shared where possible."""
    if device.type == "cuda":
        refuse_fork("CUDA")
    x = np.ascontiguousarray(x)
    tensor = torch.from_numpy(x if x.flags.writeable else x.copy())
    if device.type == "cpu":
        return tensor
    return tensor.pin_memory().to(device, non_blocking=True)
