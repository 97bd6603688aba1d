# SPDX-License-Identifier: LGPL-3.0-or-later
"""Writing SavedModels: the program, and the neutral model beside it; equal models, equal bytes."""

import json
import os
import uuid
from collections.abc import Callable, Mapping
from typing import Any

import tensorflow as tf

from deepmd.base.errors import ModelFileError
from deepmd.base.files import hdf5_bytes
from deepmd.base.folders import replacing_folder
from deepmd.dpmodel.model import Model
from deepmd.dpmodel.model.info import METADATA
from deepmd.dpmodel.module import modules
from deepmd.io import dp
from deepmd.io.files import min_nbor_dist_of
from deepmd.io.saved_model import (
    ABOUT,
    METADATA_FILE,
    MODEL,
    PROBES_FILE,
    PROGRAM,
    program_bytes,
    program_digest,
)
from deepmd.runtime.operations import with_program
from deepmd.runtime.probes import compare_probes, make_probes, probes_text
from deepmd.tf.saved.assembly import Core
from deepmd.tf.saved.evaluator import EdgesEvaluator, FunctionEvaluator
from deepmd.tf.saved.functions import EDGES, edge_arguments, saved_module
from deepmd.tf.saved.graph import Functions, canonical

#: Version of the evaluation entry.
ENTRY_VERSION = 1


def write_saved(
    path: str | os.PathLike[str], data: Mapping[str, Any], make_core: Callable[[Model], Core]
) -> None:
    """Write a SavedModel from the dictionary of a stored model, and check its results.

    Parameters
    ----------
    path : path
        Of the folder.
    data : dict
    make_core : callable
        Compiles the evaluation entry of a model.

    Raises
    ------
    ModelFileError
        If the program does not give the results of the dictionary.
    """
    model = Model.deserialize(data["model"])
    tree = with_program(data)
    tree["probes"] = data.get("probes") or make_probes(model)
    info = model.info(probes=len(tree["probes"]["frames"]))
    tree[METADATA] = info.to_dict()
    script = data.get("model_def_script") or {}
    module = saved_module(model, make_core(model), script, min_nbor_dist_of(data))
    files = program_files(module)
    tree[ABOUT] = {
        "entry": EDGES,
        "entry_version": ENTRY_VERSION,
        "arguments": [name for name, _, _ in edge_arguments(model)],
        "digest": program_digest(files[PROGRAM]),
        "tensorflow_version": tf.__version__,
    }
    about = {"entry_version": ENTRY_VERSION, "arguments": tree[ABOUT]["arguments"]}
    files[MODEL] = hdf5_bytes(lambda handle: dp.write_tree(handle, tree))
    # One frame only, since programs are compiled for every size: edges do not know of cells.
    first = {"frames": tree["probes"]["frames"][:1]}
    files[METADATA_FILE] = json.dumps(about | model.info(probes=1).to_dict()).encode()
    files[PROBES_FILE] = probes_text(model, first).encode()
    with replacing_folder(path, files, PROGRAM) as folder:
        functions = Functions(program_bytes(folder))
        # DeePMD-kit's functions take neither spins nor copies of atoms, and round the vectors to equally
        # far images of the probes in another way, so that their order is another.
        sorts = any(getattr(node, "sorts_neighbors", False) for node in modules(model))
        kind = EdgesEvaluator if model.expands() or sorts else FunctionEvaluator
        worst = compare_probes(kind(model, functions), tree["probes"])
        if worst is not None:
            raise ModelFileError(worst, where=path, fix="no file was written")


def program_files(module: tf.Module) -> dict[str, bytes]:
    """Files of a SavedModel, made in memory, by their paths in its folder."""
    root = f"ram://{uuid.uuid4().hex}"
    # Derivatives are in the functions; gradients of functions are nobody's.
    options = tf.saved_model.SaveOptions(experimental_custom_gradients=False)
    tf.saved_model.save(module, root, options=options)
    files = {}
    for folder, _, names in tf.io.gfile.walk(root):
        for name in names:
            full = f"{folder}/{name}"
            with tf.io.gfile.GFile(full, "rb") as file:
                files[full.removeprefix(f"{root}/")] = file.read()
    tf.io.gfile.rmtree(root)
    files[PROGRAM] = canonical(files[PROGRAM])
    # Random numbers, and checksums of what is renamed above; TensorFlow does without them.
    files.pop("fingerprint.pb", None)
    return files
