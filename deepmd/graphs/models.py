# SPDX-License-Identifier: LGPL-3.0-or-later
"""Which of TensorFlow's two kinds of files it is: a frozen graph or a checkpoint."""

import os
from typing import Any

from deepmd.graphs.checkpoints import read_checkpoint
from deepmd.graphs.files import read_pb
from deepmd.graphs.ours import META
from deepmd.np.evaluator import NumPyEvaluator


def is_checkpoint(path: str | os.PathLike[str]) -> bool:
    """Whether the suffix of a file is that of checkpoints."""
    return os.fspath(path).lower().endswith(META)


def read_model(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read the dictionary of a frozen graph, or of a checkpoint, with the models of all tasks."""
    return read_checkpoint(path).tree() if is_checkpoint(path) else read_pb(path)


def open_model(path: str | os.PathLike[str], head: str | None = None) -> NumPyEvaluator:
    """Open a frozen graph or a checkpoint for evaluation with NumPy.

    Parameters
    ----------
    path : path
    head : str, optional
        Task of a checkpoint with several.
    """
    return NumPyEvaluator.of_tree(read_model(path), path, head)
