# SPDX-License-Identifier: LGPL-3.0-or-later
"""Training checkpoints in one HDF5 file each (NumPy ``.dp``, JAX ``.jax``).

The models are stored as the neutral dictionary, so that a checkpoint of one task is a model file,
too. Everything else is in the group ``training``: datasets for arrays, and one JSON attribute that
says what they are. Of several tasks the key ``models`` holds the dictionaries by name.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from deepmd.base.errors import ModelFileError
from deepmd.base.files import hdf5_bytes, replacing
from deepmd.io import dp
from deepmd.io.digest import DIGEST, check_digest, digest_of
from deepmd.io.dp import parsed, read_array, read_text
from deepmd.io.files import YAML_SUFFIXES, load_model, min_nbor_dist_of, models_of
from deepmd.io.guard import Allowance, opening
from deepmd.io.hdf5 import open_hdf5
from deepmd.io.tree import map_leaves, plain

if TYPE_CHECKING:
    from deepmd.runtime.checkpoint import Checkpoint

_GROUP = "training"


def write_checkpoint(path: str | os.PathLike[str], checkpoint: "Checkpoint") -> None:
    """Write a checkpoint; the file appears whole or not at all."""

    def fill(handle: h5py.File) -> None:
        dp.write_tree(handle, checkpoint.tree())
        group = handle.create_group(_GROUP)
        # Parameters that tasks share have the same moments.
        known: dict[str, str] | None = {} if len(checkpoint.models) > 1 else None
        about = {
            "format": 1,
            "step": int(checkpoint.step),
            "optimizer": _store(group, checkpoint.optimizer, known),
            "trainer": _store(group, checkpoint.trainer, None),
        }
        text = json.dumps(about, separators=(",", ":"))
        group.attrs["json"] = text
        names = (*checkpoint.optimizer.values(), *checkpoint.trainer.values())
        group.attrs[DIGEST] = digest_of(text, [np.asarray(v) for v in names if _is_array(v)])

    with replacing(path) as file:
        file.write(hdf5_bytes(fill))


def _store(
    group: h5py.Group, values: Mapping[str, Any], known: dict[str, str] | None
) -> dict[str, Any]:
    """Store arrays as datasets; return for every name the dataset or the plain value."""
    about: dict[str, Any] = {}
    for name, value in values.items():
        if _is_array(value):
            stored = dp.store_once(
                group, np.asarray(value), lambda: f"array_{len(group):04d}", known
            )
            about[name] = {"array": stored}
        else:
            about[name] = {"value": map_leaves(value, lambda leaf, _: plain(leaf))}
    return about


def _is_array(value: Any) -> bool:
    return isinstance(value, (np.ndarray, np.generic)) and np.asarray(value).dtype.kind in "fiubc"


def _restore(group: h5py.Group, about: Mapping[str, Any], allowance: Allowance) -> dict[str, Any]:
    return {
        name: read_array(group, entry["array"], allowance) if "array" in entry else entry["value"]
        for name, entry in about.items()
    }


def read_checkpoint(path: str | os.PathLike[str]) -> "Checkpoint":
    """Read what :func:`write_checkpoint` wrote.

    Raises
    ------
    ModelFileError
        If the file is missing, incomplete or no checkpoint.
    """
    from deepmd.dpmodel.model import Model
    from deepmd.runtime.checkpoint import Checkpoint
    from deepmd.runtime.probes import check_evaluable

    tree = load_model(path)
    if Path(path).suffix.lower() in YAML_SUFFIXES:
        raise _no_checkpoint(path)
    with opening(path, "use the checkpoint before it"), open_hdf5(path) as file:
        if not isinstance(file.get(_GROUP), h5py.Group):
            raise _no_checkpoint(path)
        models = {k: Model.deserialize(d) for k, d in models_of(tree).items()}
        if DIGEST not in file.attrs:  # it may have been edited
            for model in models.values():
                check_evaluable(model)
        size = file.id.get_filesize()
        about, optimizer, trainer = _read_training(file[_GROUP], size, len(models))
        return Checkpoint(
            models=models,
            model_params=tree["model_def_script"],
            step=int(about["step"]),
            optimizer=optimizer,
            trainer=trainer,
            min_nbor_dist=min_nbor_dist_of(tree),
            backend=tree.get("backend", ""),
        )


def _read_training(
    group: h5py.Group, size: int, models: int
) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Return the description of the state of a training, and its two parts."""
    text = read_text(group, "json") or ""
    about, allowance = parsed(text, size), Allowance(size, models)
    optimizer, trainer = (_restore(group, about[k], allowance) for k in ("optimizer", "trainer"))
    values = (*optimizer.values(), *trainer.values())
    arrays = [value for value in values if isinstance(value, np.ndarray)]
    remedy = f'delete the attribute "digest" of its group "{_GROUP}"'
    check_digest(read_text(group, DIGEST), digest_of(text, arrays), remedy)
    return about, optimizer, trainer


def has_training(path: str | os.PathLike[str]) -> bool:
    """Whether a file holds the state of a training beside its model."""
    with opening(path), open_hdf5(path) as handle:
        return _GROUP in handle


def _no_checkpoint(path: str | os.PathLike[str]) -> ModelFileError:
    return ModelFileError(
        "is a model without the state of a training",
        where=path,
        fix="restart from a checkpoint, or use --init-frz-model",
    )
