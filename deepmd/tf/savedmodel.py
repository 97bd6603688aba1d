# SPDX-License-Identifier: LGPL-3.0-or-later
"""SavedModels ``.savedmodeltf``: programs of TensorFlow alone."""

import os
from collections.abc import Mapping
from typing import Any

from deepmd.base.errors import NotAvailableError
from deepmd.dpmodel.model import Inputs, Model
from deepmd.dpmodel.module import bind, split
from deepmd.io.saved_model import has_model, is_saved_model, load_saved
from deepmd.runtime.evaluator import Evaluator
from deepmd.tf.evaluator import TfEvaluator
from deepmd.tf.program import constants
from deepmd.tf.saved.assembly import Core
from deepmd.tf.saved.folder import write_saved
from deepmd.tf.saved.foreign import open_foreign


def tf_core(model: Model) -> Core:
    """Evaluation entry of a model in operators of TensorFlow, every size unknown."""
    params, fixed = split(model)

    def core(inputs: Inputs) -> dict[str, Any]:
        # Made while it is traced: a function of a file takes no arrays beside its arguments.
        return bind(model, constants(params | fixed)).forward_edges(inputs)

    return core


def write_savedmodeltf(path: str | os.PathLike[str], data: Mapping[str, Any]) -> None:
    """Write a ``.savedmodeltf`` from the dictionary of a stored model, and check its results."""
    write_saved(path, data, tf_core)


def open_model(path: str | os.PathLike[str], head: str | None = None) -> Evaluator:
    """Open a SavedModel for evaluation: ours by its model, those of DeePMD-kit by their functions.

    Parameters
    ----------
    path : path
    head : str, optional
        Not used: a SavedModel has one task.

    Raises
    ------
    NotAvailableError
        For checkpoints of DeePMD-kit's trainings with TensorFlow 2.
    """
    if not is_saved_model(path):
        raise NotAvailableError(
            "checkpoints of TensorFlow 2 are known but not built yet",
            where=path,
            fix="freeze it with the program that wrote it",
        )
    if has_model(path):
        return TfEvaluator.of_tree(load_saved(path), path, head)
    return open_foreign(path)
