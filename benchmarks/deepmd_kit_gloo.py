# SPDX-License-Identifier: LGPL-3.0-or-later
"""``dp`` of DeePMD-kit whose processes exchange by gloo: by itself it asks for NCCL and CUDA devices.

Only calls of PyTorch are changed, and only for this process.
"""

import sys
from typing import Any

import torch
import torch.distributed as dist
from torch.nn import parallel

_init_group = dist.init_process_group


def _gloo(*_: Any, **options: Any) -> Any:
    return _init_group(**{**options, "backend": "gloo"})


class _OnProcessors(parallel.DistributedDataParallel):
    """Replicas of processors, which belong to no device."""

    def __init__(self, module: Any, *_: Any, **options: Any) -> None:
        for name in ("device_ids", "output_device"):
            options.pop(name, None)
        super().__init__(module, **options)


dist.init_process_group = _gloo
parallel.DistributedDataParallel = torch.nn.parallel.DistributedDataParallel = _OnProcessors
torch.cuda.set_device = lambda *_: None

if __name__ == "__main__":
    from deepmd.main import main

    sys.exit(main(sys.argv[1:]))
