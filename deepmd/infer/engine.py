# SPDX-License-Identifier: LGPL-3.0-or-later
"""Who evaluates a model file: the native engine, or the framework of the file."""

import os
from collections.abc import Mapping
from typing import Any

from deepmd.backend.detect import backend_of
from deepmd.base.errors import InputError, ModelFileError, NotAvailableError
from deepmd.io.archive import read_archive
from deepmd.io.files import YAML_SUFFIXES, load_model
from deepmd.io.guard import opening
from deepmd.io.packed import tree_in
from deepmd.io.saved_model import SUFFIXES as SAVED
from deepmd.io.saved_model import has_model, load_saved
from deepmd.np.engine import NativeEvaluator, NativeModel, is_installed
from deepmd.np.evaluator import NumPyEvaluator

#: ``auto``: the native engine where it is installed and knows every part of a model.
ENGINES = ("auto", "native", "framework")
#: Neutral files, which have no framework but NumPy, and others with a dictionary inside.
_NEUTRAL, _COMPILED = (".dp", *YAML_SUFFIXES), (".hlo", ".pth", ".pb", *SAVED)


def check_engine(engine: str) -> None:
    """Raise InputError for a name that is not among :data:`ENGINES`."""
    if engine not in ENGINES:
        raise InputError(
            f'"{engine}" is unknown', where="engine", fix="give auto, native or framework"
        )


def open_native(
    path: str | os.PathLike[str], head: str | None = None, engine: str = "auto"
) -> NumPyEvaluator | None:
    """Open a model file with the native engine.

    Parameters
    ----------
    path : path
    head : str, optional
        Task of a checkpoint with several.
    engine : str
        See :data:`ENGINES`.

    Returns
    -------
    NumPyEvaluator or None
        None where the framework of the file is to evaluate it.

    Raises
    ------
    NotAvailableError
        If ``engine`` is ``native``, which is not installed or does not know the model.
    ModelFileError
        If the file is damaged.
    """
    check_engine(engine)
    if engine == "framework" or (engine == "auto" and not _is_first(path)):
        return None
    tree = _neutral_tree(path)
    try:
        if tree is None:
            raise NotAvailableError(
                "the native engine opens files with a neutral dictionary only",
                where=path,
                fix="convert the model to .dp: dp convert-backend",
            )
        if "modifier" in (tree.get("model") or {}):
            raise NotAvailableError(
                "a model with a modifier is not known to the native engine",
                where=path,
                fix='leave engine="native" out',
            )
        native = NativeModel(path)
    except (NotAvailableError, ModelFileError):
        if engine == "native":
            raise
        is_neutral = os.fspath(path).lower().endswith(_NEUTRAL)
        return NumPyEvaluator.of_tree(tree, path, head) if is_neutral and tree else None
    made = NativeEvaluator.of_tree(tree, path, head)
    made.native = native
    if not os.fspath(path).lower().endswith(_NEUTRAL):
        made.framework = lambda: backend_of(path).deep_eval(path, head=head)
    return made


def _is_first(path: str | os.PathLike[str]) -> bool:
    """Whether the native engine is tried first where nothing is said."""
    name = os.fspath(path).lower().rstrip("/")
    if not is_installed() or not name.endswith(_NEUTRAL + _COMPILED):
        return False
    # On a graphics processor a framework is faster.
    devices = ("/dev/nvidiactl", "/dev/kfd")
    return name.endswith(_NEUTRAL) or not any(map(os.path.exists, devices))


def _neutral_tree(path: str | os.PathLike[str]) -> Mapping[str, Any] | None:
    """Return the dictionary in a file, read without its framework; None if it has none."""
    name = os.fspath(path).lower().rstrip("/")
    if name.endswith((*_NEUTRAL, ".hlo")):
        return load_model(path)
    if name.endswith(SAVED):
        return load_saved(path) if has_model(path) else None
    if name.endswith(".pth"):
        with opening(path):
            return tree_in(read_archive(path))
    if name.endswith(".pb") and backend_of(path).why_not_read() is None:
        # Here, because its messages take time to load.
        from deepmd.graphs.ours import is_ours, is_whole, own_tree
        from deepmd.io.graph import read_graph

        graph = read_graph(path)
        with opening(path):
            return own_tree(graph) if is_ours(graph) and is_whole(path) else None
    return None
