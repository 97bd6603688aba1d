# SPDX-License-Identifier: LGPL-3.0-or-later
"""``dp transfer``: a model file with the parameters of another one."""

import logging
from typing import Any

import numpy as np

from deepmd.backend.detect import backend_of, existing_model, refuse_same_file
from deepmd.base.errors import InputError
from deepmd.dpmodel.model import Model
from deepmd.dpmodel.module import assign, split
from deepmd.io.files import single_model
from deepmd.runtime.probes import model_file_dict

log = logging.getLogger(__name__)


def transfer(
    *,
    raw_model: str = "raw_frozen_model.pb",
    old_model: str = "old_frozen_model.pb",
    output: str = "frozen_model.pb",
    **_: Any,
) -> None:
    """Write the model of one file with the parameters of another into a third.

    Everything that is no array is that of the raw model: settings, precision, the section of the
    input. Arrays, statistics and biases included, are those of the old model.

    Parameters
    ----------
    raw_model, old_model : str
        Model files of any backend.
    output : str

    Raises
    ------
    InputError
        If the models have arrays of different names or shapes.
    """
    target = backend_of(output)
    if not str(output).lower().endswith(target.suffixes):
        raise InputError(
            "training checkpoints are not written by this command",
            where=output,
            fix=f"use one of {', '.join(target.suffixes)}",
        )
    trees = []
    for path in (raw_model, old_model):
        refuse_same_file(existing_model(path), output)
        trees.append(backend_of(path).serialize_hook(path))
    raw, old = (
        Model.deserialize(single_model(tree, path))
        for tree, path in zip(trees, (raw_model, old_model), strict=True)
    )
    if raw.get_type_map() != old.get_type_map():
        raise InputError(
            f"its types are {', '.join(old.get_type_map())}, those of {raw_model} are "
            f"{', '.join(raw.get_type_map())}",
            where=old_model,
            fix="give two models with the same type_map",
        )
    given, taken = arrays_of(raw), arrays_of(old)
    here, there = ({k: v.shape for k, v in arrays.items()} for arrays in (given, taken))
    if here != there:
        name = next(n for n in {**here, **there} if here.get(n) != there.get(n))
        raise InputError(
            f"{name} has the shape {there.get(name)}, {here.get(name)} in {raw_model}",
            where=old_model,
            fix="give two models with the same settings",
        )
    assign(raw, taken)
    script, distance = (trees[0].get(key) for key in ("model_def_script", "min_nbor_dist"))
    distance = None if distance is None else float(distance)
    target.deserialize_hook(output, model_file_dict(raw, script or {}, distance, target.name))
    log.info("%s written: %s with the parameters of %s", output, raw_model, old_model)


def arrays_of(model: Model) -> dict[str, np.ndarray]:
    """Return all arrays of a model by their paths."""
    trained, fixed = split(model)
    return {k: np.asarray(v) for k, v in {**trained, **fixed}.items() if v is not None}
