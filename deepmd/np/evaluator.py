# SPDX-License-Identifier: LGPL-3.0-or-later
"""Evaluation with NumPy."""

import os

from deepmd.io.files import load_model
from deepmd.runtime.evaluator import Evaluator


class NumPyEvaluator(Evaluator):
    """Evaluation of the neutral tree itself, a range of centers at a time."""


def open_model(path: str | os.PathLike[str], head: str | None = None) -> NumPyEvaluator:
    """Open a neutral model file, or a checkpoint of the same form, for evaluation with NumPy.

    Parameters
    ----------
    path : path
        ``.dp``, ``.yaml``, ``.yml``.
    head : str, optional
        Task of a checkpoint with several.
    """
    return NumPyEvaluator.of_tree(load_model(path), path, head)
