# SPDX-License-Identifier: LGPL-3.0-or-later
"""How PyTorch executes the scripted functions of plugins in a training."""

import torch


def stop_profiling() -> None:
    """Have scripted functions compiled once, at their first call.

    By default PyTorch watches the first calls of a scripted function and then compiles it anew, which
    changes gradients by rounding. A restart begins with such calls again, so that it would differ
    from the training that went on. Functions that have run already keep their executor: this comes
    before the plugins are imported, some of which run theirs at once.
    """
    torch._C._jit_set_profiling_executor(False)
    torch._C._jit_set_profiling_mode(False)
