# SPDX-License-Identifier: LGPL-3.0-or-later
"""Reading and writing the files of the neutral formats."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from deepmd.base.errors import InputError, ModelFileError, closest_name
from deepmd.base.files import hdf5_bytes, replacing
from deepmd.base.reading import shown
from deepmd.io.guard import opening, regular_size
from deepmd.io.tree import difference

#: HDF5 files that hold the tree of a model. Compiled ones have programs beside it.
HDF5_SUFFIXES = (".dp", ".hlo", ".jax")
YAML_SUFFIXES = (".yaml", ".yml")
#: Name of the only task of an ordinary training.
SINGLE = "Default"
#: Key of the program in a model file. Readers leave it out: it belongs to the arrays of the file.
OPERATIONS = "operations"


def load_model(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read the dictionary of a stored model.

    Parameters
    ----------
    path : path
        A ``.dp``, ``.yaml`` or ``.yml`` file, or another HDF5 file with the same tree.

    Returns
    -------
    dict
        ``model``, ``model_def_script``, ``@variables`` and more; arrays are NumPy arrays.

    Raises
    ------
    ModelFileError
        If the file is missing, incomplete or of another kind.
    """
    with opening(path):
        tree = _read(Path(path))
        check_frame(tree)
        tree.pop(OPERATIONS, None)
    return tree


def check_frame(tree: Mapping[str, Any]) -> None:
    """Raise ModelFileError if a tree holds no model, or its parts are of other kinds."""
    for key in ("model_def_script", "@variables", "constants", "probes", "models", "uncertainty"):
        if not isinstance(tree.get(key, {}), (dict, type(None))):
            raise ModelFileError(f"{key} is no dictionary")
    if not isinstance(tree.get("model", tree.get("models")), dict):
        raise ModelFileError("holds no model")
    if not all(isinstance(model, dict) for model in (tree.get("models") or {}).values()):
        raise ModelFileError("models: a model is no dictionary")
    if "models" in tree and not tree["models"]:
        raise ModelFileError("holds no model")
    min_dist = min_nbor_dist_of(tree)
    if min_dist is not None and not min_dist == min_dist:
        raise ModelFileError("min_nbor_dist is no number")


def _read(path: Path) -> dict[str, Any]:
    suffix = path.suffix.lower()
    if suffix in YAML_SUFFIXES:
        from deepmd.io import yaml

        regular_size(path)
        with open(path, encoding="utf-8") as handle:
            return yaml.read_tree(handle)
    if suffix not in HDF5_SUFFIXES:
        raise _unknown(path)
    from deepmd.io import dp  # heavy, and needed for HDF5 files only
    from deepmd.io.hdf5 import open_hdf5

    with open_hdf5(path) as handle:
        return dp.read_tree(handle)


def save_model(
    path: str | os.PathLike[str],
    tree: dict[str, Any],
    *,
    check: Callable[[Mapping[str, Any]], str | None] | None = None,
) -> None:
    """Write the dictionary of a model to a ``.dp``, ``.yaml`` or ``.yml`` file.

    The file appears whole or not at all. It is read back and must hold the same.

    Parameters
    ----------
    path : path
    tree : dict
    check : callable, optional
        Says what is wrong with the dictionary that was read back, or None.

    Raises
    ------
    ModelFileError
        If the suffix is another one, or the file does not hold what was written.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in (".dp", *YAML_SUFFIXES):
        raise _unknown(path)
    with replacing(path) as file:
        if suffix in YAML_SUFFIXES:
            from deepmd.io import yaml

            with file.text() as text:
                yaml.write_tree(text, tree)
        else:
            from deepmd.io import dp  # heavy, and needed for HDF5 files only

            file.write(hdf5_bytes(lambda handle: dp.write_tree(handle, tree)))
        written = load_model(file.path)
        wrong = difference({k: v for k, v in tree.items() if k != OPERATIONS}, written)
        if wrong is not None:
            raise ModelFileError(f"was not written as it should: {wrong} differs", where=path)
        worst = check(written) if check is not None else None
        if worst is not None:
            raise ModelFileError(worst, where=path, fix="no file was written")


def _unknown(path: Path) -> InputError:
    return ModelFileError(
        f'"{path.suffix}" is no suffix of a neutral model file', where=path, fix="use .dp or .yaml"
    )


def single_model(tree: Mapping[str, Any], path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return the dictionary of the only model in the tree of a file.

    Raises
    ------
    ModelFileError
        If the file holds several branches, or none.
    """
    if "model" not in tree:
        raise ModelFileError("holds no single model", where=path, fix="freeze one branch")
    return tree["model"]


def models_of(tree: Mapping[str, Any]) -> dict[str, dict]:
    """Return the model dictionaries of a stored tree by task."""
    return dict(tree["models"]) if "models" in tree else {SINGLE: tree["model"]}


def min_nbor_dist_of(tree: Mapping[str, Any]) -> float | None:
    """Return the smallest distance of the training data [Å] that a stored tree tells."""
    # Of this program, of DeePMD-kit's NumPy and of its JAX backend.
    for group in (tree.get("@variables", {}), tree, tree.get("constants", {})):
        value = group.get("min_nbor_dist")
        if value is not None:
            return float(value)
    return None


def branch_of(
    names: Mapping[str, Any] | list[str],
    head: str | None,
    where: str | os.PathLike[str],
    params: Mapping[str, Any] | None = None,
) -> str:
    """Return the task that is meant by ``head``.

    Parameters
    ----------
    names : mapping or list of str
        Tasks of the file.
    head : str, optional
        Name or alias of one; upper and lower case are the same.
    where : path
        The file, for messages.
    params : mapping, optional
        Its ``model`` section, in which branches have aliases.

    Raises
    ------
    InputError
        If there is none of that name, or none was named and there are several.
    """
    known = list(names)
    if head is None or known == [SINGLE]:
        if len(known) == 1:
            return known[0]
        raise InputError(
            f"holds {len(known)} branches: {_listed(known)}",
            where=where,
            fix="name one with --head (in Python: head=)",
        )
    for name in known:
        section = ((params or {}).get("model_dict") or {}).get(name) or {}
        aliases = section.get("model_branch_alias") or []
        if head.lower() in (str(one).lower() for one in (name, *aliases)):
            return name
    near = closest_name(head, known)
    raise InputError(
        f'has no branch "{shown(head)}"',
        where=where,
        fix=(f'did you mean "{near}"? ' if near else "") + f"Its branches: {_listed(known)}",
    )


def _listed(names: list[str]) -> str:
    return ", ".join(names[:20]) + (f" and {len(names) - 20} more" if len(names) > 20 else "")


def branch_tree(
    tree: Mapping[str, Any], head: str | None, where: str | os.PathLike[str]
) -> dict[str, Any]:
    """Return the tree of one branch of a file, as that of a model file; see :func:`branch_of`."""
    models, params = models_of(tree), tree.get("model_def_script") or {}
    branch = branch_of(models, head, where, params)
    check_head(branch, head)
    rest = {k: v for k, v in tree.items() if k not in ("model", "models", "model_def_script")}
    return {**rest, "model": models[branch], "model_def_script": branch_params(params, branch)}


def check_head(branch: str, head: str | None) -> None:
    """Raise InputError if a command names a branch of a model that has none."""
    if head is not None and branch == SINGLE:
        raise InputError(f'the model has no branches, "{head}" names one', where="--head")


def branch_params(params: Mapping[str, Any], branch: str) -> dict[str, Any]:
    """Return the model section of one task."""
    several = params.get("model_dict")
    return dict(several[branch]) if several and branch in several else dict(params)
