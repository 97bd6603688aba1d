# SPDX-License-Identifier: LGPL-3.0-or-later
"""Frozen graphs and checkpoints of this program: what they carry, and their checksums.

A frozen graph is a GraphDef without its last node, and that node: the checksum of what is before it.
A checkpoint is a graph with a constant that tells what its tensors are, and these.
"""

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from deepmd.base.errors import ModelFileError
from deepmd.dpmodel.model import Model
from deepmd.io.digest import check_digest, digest_of
from deepmd.io.files import check_frame, min_nbor_dist_of, models_of
from deepmd.io.graph import Graph
from deepmd.io.graph.messages import message
from deepmd.io.packed import named_arrays, unpack_tree, with_arrays
from deepmd.runtime.checkpoint import Checkpoint
from deepmd.runtime.probes import check_evaluable

#: Constants with the description of the model, probes, its dictionary and the arrays of this.
METADATA, PROBES = "deepmd/metadata", "deepmd/probes"
MODEL, ARRAYS, DIGEST = "deepmd/model", "deepmd/arrays", "deepmd/digest"
CHECKPOINT = "deepmd/checkpoint"
#: Suffixes of the files of a checkpoint.
META, INDEX, SHARD = ".meta", ".index", ".data-00000-of-00001"
#: The tensor in which programs look for the number of steps.
STEP = "global_step"


def is_ours(graph: Graph) -> bool:
    """Whether a graph was written by this program."""
    return MODEL in graph or CHECKPOINT in graph


def own_tree(graph: Graph) -> dict[str, Any]:
    """Return the dictionary in a graph of this program.

    Raises
    ------
    ModelFileError
        If it is damaged.
    """
    text, arrays = graph.text(MODEL), graph.constant(ARRAYS)
    if text is None or not isinstance(arrays, bytes):
        raise ModelFileError("holds no neutral model", fix="freeze or convert it again")
    return unpack_tree(text, arrays)


def text_node(name: str, value: bytes) -> Any:
    """Return a constant that holds a text."""
    node = message("NodeDef")
    node.name, node.op = name, "Const"
    string = 7
    node.attr["dtype"].type = string
    node.attr["value"].tensor.dtype = string
    node.attr["value"].tensor.tensor_shape.SetInParent()
    node.attr["value"].tensor.string_val.append(value)
    return node


def _closing(body: bytes) -> bytes:
    """Return the node that closes a file with these bytes."""
    last = message("GraphDef")
    last.node.append(text_node(DIGEST, f"sha256:{hashlib.sha256(body).hexdigest()}".encode()))
    return last.SerializeToString(deterministic=True)


def closed(body: bytes) -> bytes:
    """Return the bytes of a file: a serialized graph and the node with its checksum."""
    return body + _closing(body)


def is_whole(path: str | os.PathLike[str]) -> bool:
    """Whether a file ends with its checksum.

    Raises
    ------
    ModelFileError
        If the checksum is not that of the file.
    """
    data = Path(path).read_bytes()
    size = len(_closing(b""))
    body, last = data[:-size], data[-size:]
    if DIGEST.encode() not in last:
        return False
    if last != _closing(body):
        raise ModelFileError(
            "does not hold what was written: its checksum differs, it is damaged or was edited",
            fix="copy or freeze it again",
        )
    return True


# -- checkpoints ----------------------------------------------------------------------------------


def checkpoint_parts(checkpoint: Checkpoint) -> tuple[str, dict[str, np.ndarray]]:
    """Return a checkpoint as JSON, in which arrays are named, and these arrays."""
    state = {
        "format": 1,
        "tree": checkpoint.tree(),
        "optimizer": checkpoint.optimizer,
        "trainer": checkpoint.trainer,
    }
    text, arrays = named_arrays(state, once=len(checkpoint.models) > 1)
    return text, {**arrays, STEP: np.array(checkpoint.step, dtype=np.int64)}


def checkpoint_meta(text: str, tensors: Mapping[str, np.ndarray]) -> bytes:
    """Return the bytes of the file ``.meta``."""
    meta = message("MetaGraphDef")
    digest = digest_of(text, [tensors[k] for k in sorted(tensors)])
    for name, value in ((CHECKPOINT, text), (DIGEST, digest)):
        meta.graph_def.node.append(text_node(name, value.encode()))
    return meta.SerializeToString(deterministic=True)


def own_checkpoint(graph: Graph, tensors: Mapping[str, np.ndarray]) -> Checkpoint:
    """Return the checkpoint in a graph and tensors of this program.

    Raises
    ------
    ModelFileError
        If they are damaged, or do not belong together; and others: call it inside of
        :func:`deepmd.io.guard.opening`.
    """
    text = graph.text(CHECKPOINT) or ""
    found = digest_of(text, [tensors[k] for k in sorted(tensors)])
    stored = graph.text(DIGEST)
    check_digest(stored, found, "there is no remedy")
    state = with_arrays(text, tensors)
    tree = state["tree"]
    check_frame(tree)
    models = {k: Model.deserialize(d) for k, d in models_of(tree).items()}
    if stored is None:  # it may have been edited
        for model in models.values():
            check_evaluable(model)
    return Checkpoint(
        models=models,
        model_params=tree["model_def_script"],
        step=int(tensors[STEP]),
        optimizer=state["optimizer"],
        trainer=state["trainer"],
        min_nbor_dist=min_nbor_dist_of(tree),
        backend=tree.get("backend", ""),
    )
