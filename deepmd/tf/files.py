# SPDX-License-Identifier: LGPL-3.0-or-later
"""Model files ``.pb``: a frozen graph with the neutral dictionary in it."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from deepmd.base.errors import ModelFileError
from deepmd.base.files import replacing
from deepmd.dpmodel.model import Model
from deepmd.graphs import ours
from deepmd.graphs.models import is_checkpoint, read_model
from deepmd.io.files import min_nbor_dist_of
from deepmd.io.guard import opening
from deepmd.io.packed import pack_tree
from deepmd.runtime.operations import with_program
from deepmd.runtime.probes import compare_probes, make_probes, probes_text
from deepmd.tf.evaluator import TfEvaluator
from deepmd.tf.graph import ENTRY_VERSION, model_graph, runner

#: What a protocol buffer can hold [bytes].
_LARGEST = 1 << 31


def write_pb(path: str | os.PathLike[str], data: Mapping[str, Any]) -> None:
    """Write a frozen graph from a neutral dictionary, and check its results.

    Raises
    ------
    ModelFileError
        If the file, opened again, does not give the results of the dictionary, or the model is too
        large for the format.
    """
    model = Model.deserialize(data["model"])
    tree = {**with_program(data), "probes": data.get("probes") or make_probes(model)}
    text, arrays = pack_tree(tree)
    if 2 * len(arrays) > _LARGEST:
        raise ModelFileError(
            "the model is too large for one graph of TensorFlow, which holds 2 GB",
            where=path,
            fix="write .pth, .hlo or .dp",
        )
    graph = model_graph(model, _notes(model, tree, text, arrays))
    with replacing(path) as file:
        file.write(ours.closed(graph.SerializeToString(deterministic=True)))
        worst = compare_probes(open_model(file.path), tree["probes"])
        if worst is not None:
            raise ModelFileError(worst, where=path, fix="no file was written")


def _notes(model: Model, tree: Mapping[str, Any], text: str, arrays: bytes) -> dict[str, Any]:
    """Return the constants of a file: what we read, and what programs for DeePMD-kit's files do."""
    info = model.info(probes=len(tree["probes"]["frames"]))
    distance, (kind, *_) = min_nbor_dist_of(tree), model.kinds()
    notes: dict[str, Any] = {
        ours.METADATA: json.dumps({"entry_version": ENTRY_VERSION, **info.to_dict()}),
        ours.PROBES: probes_text(model, tree["probes"]),
        ours.MODEL: text,
        ours.ARRAYS: arrays,
        "model_type": "original_model",
        "model_attr/tmap": " ".join(model.type_map),
        "model_attr/model_type": "ener" if kind == "energy" else kind,
        "model_attr/model_version": "1.1",
        "descrpt_attr/rcut": np.float64(model.rcut),
        "descrpt_attr/ntypes": np.int32(model.get_ntypes()),
        "fitting_attr/dfparam": np.int32(model.get_dim_fparam()),
        "fitting_attr/daparam": np.int32(model.get_dim_aparam()),
        "train_attr/training_script": json.dumps({"model": tree.get("model_def_script") or {}}),
    }
    if distance is not None:
        notes["train_attr/min_nbor_dist"] = np.float64(distance)
    return notes


def open_model(path: str | os.PathLike[str], head: str | None = None) -> TfEvaluator:
    """Open a frozen graph or a checkpoint for evaluation.

    Frozen graphs of ours are evaluated by their program, all others by the model that they hold.

    Parameters
    ----------
    path : path
    head : str, optional
        Task of a checkpoint with several.
    """
    evaluator = TfEvaluator.of_tree(read_model(path), path, head)
    with opening(path):
        # The probes were compared with the dictionary; without a checksum nothing binds the two.
        if not is_checkpoint(path) and ours.is_whole(path):
            graph = tf.compat.v1.GraphDef.FromString(Path(path).read_bytes())
            evaluator.program = runner(graph, evaluator.model)
    return evaluator
