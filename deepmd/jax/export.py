# SPDX-License-Identifier: LGPL-3.0-or-later
"""Compiled model files ``.hlo``: the neutral dictionary and an exported program beside it."""

import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from deepmd.base.errors import ModelFileError
from deepmd.base.files import hdf5_bytes, replacing
from deepmd.dpmodel.model import Model
from deepmd.dpmodel.model.info import METADATA
from deepmd.io import dp
from deepmd.io.files import load_model
from deepmd.jax.evaluator import open_hlo
from deepmd.jax.program import ABOUT, BLOB, describe, export_program
from deepmd.runtime.operations import with_program
from deepmd.runtime.probes import compare_probes, make_probes


def read_hlo(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read the neutral dictionary of a compiled model file, ours or of DeePMD-kit."""
    tree = load_model(path)
    kept = {k: v for k, v in tree.items() if k not in (ABOUT, "constants")}
    arrays = tree.get("@variables", {})
    kept["@variables"] = {k: v for k, v in arrays.items() if not _is_program(v)}
    if "constants" in tree:
        min_dist = tree["constants"].get("min_nbor_dist")
        known = None if min_dist is None else np.asarray(float(min_dist))
        kept["@variables"].setdefault("min_nbor_dist", known)
    return kept


def _is_program(value: Any) -> bool:
    return isinstance(value, (bytes, np.ndarray, np.void)) and np.asarray(value).dtype.kind in "VS"


def write_hlo(path: str | os.PathLike[str], data: Mapping[str, Any]) -> None:
    """Write a compiled model file from a neutral dictionary, and check its results.

    Raises
    ------
    ModelFileError
        If the file, opened again, does not give the results of the dictionary.
    """
    model, data = Model.deserialize(data["model"]), with_program(data)
    tree = {k: v for k, v in data.items() if k != "@variables"}
    tree["probes"] = data.get("probes") or make_probes(model)
    tree[METADATA] = model.info(probes=len(tree["probes"]["frames"])).to_dict()
    tree[ABOUT] = describe(model)
    tree["@variables"] = {**data.get("@variables", {}), BLOB: np.void(export_program(model))}
    with replacing(path) as file:
        file.write(hdf5_bytes(lambda handle: dp.write_tree(handle, tree)))
        worst = compare_probes(open_hlo(file.path), tree["probes"])
        if worst is not None:
            raise ModelFileError(worst, where=path, fix="no file was written")
