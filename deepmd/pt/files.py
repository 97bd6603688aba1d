# SPDX-License-Identifier: LGPL-3.0-or-later
"""Which of PyTorch's two kinds of files it is: TorchScript ``.pth`` or a checkpoint ``.pt``."""

import os
from typing import Any

from deepmd.pt.checkpoint.checkpoint import read_checkpoint
from deepmd.pt.evaluator import TorchEvaluator
from deepmd.pt.torchscript.export import open_program, read_pth


def open_model(path: str | os.PathLike[str], head: str | None = None) -> TorchEvaluator:
    """Open a ``.pth`` file, or a ``.pt`` checkpoint, for evaluation.

    Parameters
    ----------
    path : path
    head : str, optional
        Task of a checkpoint with several.
    """
    if is_checkpoint(path):
        return TorchEvaluator.of_tree(read_checkpoint(path).tree(), path, head)
    return open_program(path)


def read_model(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read the dictionary of a ``.pth`` file, or of a ``.pt`` checkpoint with all its tasks."""
    return read_checkpoint(path).tree() if is_checkpoint(path) else read_pth(path)


def is_checkpoint(path: str | os.PathLike[str]) -> bool:
    """Whether the suffix of a file is that of checkpoints."""
    return os.fspath(path).lower().endswith(".pt")
