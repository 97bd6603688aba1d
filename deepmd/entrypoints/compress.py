# SPDX-License-Identifier: LGPL-3.0-or-later
"""``dp compress``: tabulate the embedding networks of a model file, or go back to the networks."""

import logging
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from deepmd.backend.detect import backend_of, output_of, refuse_same_file, resolve_model
from deepmd.base.errors import InputError
from deepmd.data.neighbor_stat import neighbor_stat
from deepmd.data.search import open_systems
from deepmd.dpmodel.model import Model
from deepmd.dpmodel.model.info import METADATA
from deepmd.dpmodel.nn.tabulation import TableSettings
from deepmd.entrypoints.change_bias import is_checkpoint
from deepmd.entrypoints.data import data_paths
from deepmd.io.files import branch_tree, min_nbor_dist_of
from deepmd.runtime.precision import in_precision, log_errors
from deepmd.runtime.probes import make_probes

log = logging.getLogger(__name__)


def compress(
    *,
    input: str = "frozen_model",
    output: str = "frozen_model_compressed",
    step: float = 0.01,
    extrapolate: float = 5.0,
    frequency: int = -1,
    training_script: str | None = None,
    undo: bool = False,
    precision: str | None = None,
    head: str | None = None,
    backend: str | None = None,
    **_: Any,
) -> str:
    """Write a model with tables in place of its embedding networks, and return the file's name.

    The networks stay in the file. The options are those of ``dp compress``.
    """
    path = resolve_model(input, backend)
    source = backend_of(path)
    if is_checkpoint(path, source):
        raise InputError(
            "is a checkpoint of a training", where=path, fix="freeze it first, with dp freeze"
        )
    target = output_of(output, type(source))
    refuse_same_file(path, target)
    data = branch_tree(source.serialize_hook(path), head, path)
    model = Model.deserialize(data["model"])
    if undo:
        _require(model.compressed(), "has no tables", path)
        model.uncompress()
    else:
        _require(
            not model.compressed(), "has tables already", path, "dp compress --undo drops them"
        )
        distance = smallest_distance(data, model, training_script)
        settings = _settings(step, extrapolate, frequency, distance)
        original = Model.deserialize(data["model"])
        for line in model.compress(settings):
            log.warning(line)
        data["@variables"] = {
            **data.get("@variables", {}),
            "min_nbor_dist": np.asarray(float(distance)),
        }
    data["probes"] = make_probes(model)
    data["model"] = model.serialize()
    data[METADATA] = model.info(probes=len(data["probes"]["frames"])).to_dict()
    if precision is not None:
        data = in_precision(data, precision)
    backend_of(target).deserialize_hook(target, data)
    if not undo:
        log_errors(data, original, "the networks")
    log.info("%s model written to %s", "original" if undo else "compressed", target)
    return str(target)


def _require(good: bool, what: str, path: Path, fix: str | None = None) -> None:
    if not good:
        raise InputError(f"the model {what}", where=path, fix=fix)


def _settings(step: float, extrapolate: float, frequency: int, distance: float) -> TableSettings:
    if not 0.0 < step < math.inf:
        raise InputError(f"found {step}, expected a positive number", where="--step")
    if not 1.0 <= extrapolate < math.inf:
        raise InputError(f"found {extrapolate}, expected a number from 1", where="--extrapolate")
    return TableSettings(step, extrapolate, distance, frequency=frequency)


def smallest_distance(data: Mapping[str, Any], model: Model, training_script: str | None) -> float:
    """Smallest distance [Å] of the training data: from the file, or from the data of an input.

    Raises
    ------
    InputError
        If neither has one.
    """
    found = min_nbor_dist_of(data)
    distance = math.nan if found is None else found
    if not distance > 0.0 and training_script is not None:
        paths, patterns, keys = data_paths(".", None, train_data=training_script)
        names = model.get_type_map()
        systems = open_systems(paths, type_map=names, patterns=patterns, keys=keys)
        distance, _counts = neighbor_stat(systems, model.get_rcut(), len(names), mixed_types=True)
    if not 0.0 < distance < math.inf:
        raise InputError(
            "the smallest distance in the training data is not known",
            where="min_nbor_dist",
            fix="name the input of the training with --training-script",
        )
    return distance
