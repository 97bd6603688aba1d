# SPDX-License-Identifier: LGPL-3.0-or-later
"""Kinds of files of JAX: compiled ``.hlo``, folders ``.savedmodel``, checkpoints ``.jax``."""

import os
from collections.abc import Mapping
from importlib import import_module
from typing import Any

from deepmd.io.saved_model import has_model, is_saved_model, load_saved, require_tensorflow
from deepmd.jax.evaluator import JaxEvaluator, open_hlo
from deepmd.jax.export import read_hlo, write_hlo
from deepmd.runtime.evaluator import Evaluator


def open_model(path: str | os.PathLike[str], head: str | None = None) -> Evaluator:
    """Open a model file or checkpoint for evaluation.

    SavedModels of ours are evaluated by JAX, those of DeePMD-kit by TensorFlow.

    Parameters
    ----------
    path : path
    head : str, optional
        Task of a checkpoint with several.
    """
    if not is_saved_model(path):
        return open_hlo(path, head)
    if has_model(path):
        return JaxEvaluator.of_tree(load_saved(path), path, head)
    return _savedmodel(path).open_foreign(path)


def read_model(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read the neutral dictionary of a model file, or of a checkpoint with all its tasks."""
    return load_saved(path) if is_saved_model(path) else read_hlo(path)


def write_model(path: str | os.PathLike[str], data: Mapping[str, Any]) -> None:
    """Write a compiled model file, or a SavedModel, and check its results."""
    if is_saved_model(path):
        _savedmodel(path).write_savedmodel(path, data)
    else:
        write_hlo(path, data)


def _savedmodel(path: str | os.PathLike[str]) -> Any:
    """Module that works with TensorFlow.

    Raises
    ------
    NotAvailableError
        If TensorFlow is not installed.
    """
    require_tensorflow(path)
    return import_module("deepmd.jax.savedmodel")
