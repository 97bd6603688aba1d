# SPDX-License-Identifier: LGPL-3.0-or-later
"""Frozen graphs of this program: the neutral dictionary that they carry, and their checksum.

A file is a GraphDef without its last node, and that node: the checksum of what is before it.
"""

import hashlib
import os
from pathlib import Path
from typing import Any

from deepmd.io.graph import Graph
from deepmd.io.graph.messages import message
from deepmd.io.packed import unpack_tree
from deepmd.utils.errors import ModelFileError

#: Constants with the description of the model, probes, its dictionary and the arrays of this.
METADATA, PROBES = "deepmd/metadata", "deepmd/probes"
MODEL, ARRAYS, DIGEST = "deepmd/model", "deepmd/arrays", "deepmd/digest"


def is_ours(graph: Graph) -> bool:
    """Whether a graph was written by this program."""
    return MODEL in graph


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
