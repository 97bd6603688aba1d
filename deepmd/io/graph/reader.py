# SPDX-License-Identifier: LGPL-3.0-or-later
"""Graphs of TensorFlow, ``.pb`` and ``.pbtxt``, as nodes by name."""

import copy
import os
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from deepmd.base.errors import ModelFileError
from deepmd.base.files import replacing
from deepmd.io.graph.messages import message
from deepmd.io.graph.tensors import array_of, kind_of
from deepmd.io.guard import AGAIN, Allowance, opening, regular_size

#: The binary form, and the text form.
GRAPH_SUFFIXES = (".pb", ".pbtxt")


class Node:
    """Node of a graph.

    Attributes
    ----------
    name, op : str
        Name of the node and of its operator.
    inputs : tuple of str
        Names of the nodes it depends on; ``:1`` marks a second output, ``^`` an order of execution.
    """

    def __init__(self, raw: Any, allowance: Allowance) -> None:
        self._raw, self._allowance = raw, allowance
        self.name, self.op, self.inputs = raw.name, raw.op, tuple(raw.input)

    def renamed(self, rename: Callable[[str], str]) -> "Node":
        """Return the node with other names of itself and its inputs."""
        made = copy.copy(self)
        made.name = rename(self.name)
        parts = (re.fullmatch(r"(\^?)(.*?)((?::\d+)?)", name) for name in self.inputs)
        made.inputs = tuple(f"{m[1]}{rename(m[2])}{m[3]}" for m in parts if m is not None)
        return made

    @property
    def attrs(self) -> dict[str, Any]:
        """Attributes with plain values: numbers, texts, data types by name, and lists of them."""
        return {name: _plain(value) for name, value in self._raw.attr.items()}

    @property
    def value(self) -> Any:
        """Value of a constant: an array, or the bytes of a text; None for other nodes.

        Raises
        ------
        ModelFileError
            If it does not have the size it claims.
        """
        if self.op != "Const" or "value" not in self._raw.attr:
            return None
        array = array_of(self._raw.attr["value"].tensor, self.name, self._allowance)
        return array.item() if array.dtype == object and array.shape == () else array


class Graph(Mapping[str, Node]):
    """Nodes of a graph by name, in their order.

    Parameters
    ----------
    raw : message
        A GraphDef.
    size : int
        Of the file [bytes].
    """

    def __init__(self, raw: Any, size: int) -> None:
        allowance = Allowance(size)
        self._users: dict[str, list[Node]] | None = None
        self._nodes = {node.name: Node(node, allowance) for node in raw.node}
        if len(self._nodes) != len(raw.node):
            raise ModelFileError("has two nodes of one name", fix=AGAIN)

    def part(self, scope: str, *, outside: bool = False) -> "Graph":
        """Return the nodes of a scope, without its name before theirs, or those outside of it."""
        start = f"{scope}/"
        if outside:
            return self.some(lambda name: not name.startswith(start))
        return self.some(lambda name: name.startswith(start), lambda name: name.removeprefix(start))

    def some(
        self, kept: Callable[[str], bool], rename: Callable[[str], str] | None = None
    ) -> "Graph":
        """Return the nodes of some names, which may be called otherwise."""
        made = copy.copy(self)
        made._users = None
        found = [node for node in self.values() if kept(node.name)]
        found = found if rename is None else [node.renamed(rename) for node in found]
        made._nodes = {node.name: node for node in found}
        return made

    def __getitem__(self, name: str) -> Node:
        return self._nodes[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._nodes)

    def __len__(self) -> int:
        return len(self._nodes)

    def constant(self, name: str) -> Any:
        """Return the value of a constant, or None if there is no constant of that name."""
        node = self._nodes.get(name)
        return None if node is None else node.value

    def text(self, name: str) -> str | None:
        """Return a constant that is one text, or None if there is no constant of that name.

        Raises
        ------
        ModelFileError
            If it is no text.
        """
        value = self.constant(name)
        if value is None:
            return None
        if not isinstance(value, bytes):
            raise ModelFileError(f'the constant "{name}" is no text')
        return value.decode()

    def users(self, name: str) -> list[Node]:
        """Return the nodes that depend on a node."""
        if self._users is None:
            self._users = {}
            for node in self._nodes.values():
                for given in node.inputs:
                    source = given.lstrip("^").partition(":")[0]
                    self._users.setdefault(source, []).append(node)
        return self._users.get(name, [])


def read_graph(path: str | os.PathLike[str]) -> Graph:
    """Read a frozen graph.

    Parameters
    ----------
    path : path
        ``.pbtxt`` for the text form, any other suffix for the binary one.

    Raises
    ------
    ModelFileError
        If the file is missing, damaged or of another kind; NotAvailableError without ``protobuf``.
    """
    with opening(path):
        return Graph(_parsed(path, _is_text(path)), regular_size(path))


def graph_message(path: str | os.PathLike[str], *, text: bool | None = None) -> Any:
    """Read a graph as a GraphDef, for :func:`write_graph`.

    Parameters
    ----------
    path : path
    text : bool, optional
        Whether the file has the text form; by default its suffix says so.

    Raises
    ------
    ModelFileError
        As :func:`read_graph`.
    """
    with opening(path):
        return _parsed(path, _is_text(path) if text is None else text)


def read_meta_graph(path: str | os.PathLike[str]) -> Graph:
    """Read the graph of a checkpoint, ``model.ckpt-N.meta``; raises as :func:`read_graph`."""
    with opening(path):
        size, raw = regular_size(path), message("MetaGraphDef")
        raw.ParseFromString(Path(path).read_bytes())
        return Graph(raw.graph_def, size)


def _is_text(path: str | os.PathLike[str]) -> bool:
    return os.fspath(path).lower().endswith(GRAPH_SUFFIXES[1])


def _parsed(path: str | os.PathLike[str], is_text: bool) -> Any:
    regular_size(path)
    raw, data = message("GraphDef"), Path(path).read_bytes()
    if is_text:
        from google.protobuf import text_format

        text_format.Parse(data.decode(), raw, allow_unknown_field=True)
    else:
        raw.ParseFromString(data)
    if not raw.node:
        raise ModelFileError("is no graph of TensorFlow, or an empty one", fix=AGAIN)
    return raw


def write_graph(path: str | os.PathLike[str], raw: Any) -> None:
    """Write a GraphDef in the text form to ``.pbtxt``, in the binary form to other files."""
    with replacing(path) as file:
        if _is_text(path):
            from google.protobuf import text_format

            with file.text() as text:
                text.write(text_format.MessageToString(raw))
        else:
            file.write(raw.SerializeToString(deterministic=True))


def _plain(value: Any) -> Any:
    """Return an attribute as a plain value; shapes, tensors and functions as None."""
    kind = value.WhichOneof("value")
    if kind == "list":
        fields = value.list.ListFields()
        return [_one(f.name, v) for f, values in fields for v in values]
    return None if kind is None else _one(kind, getattr(value, kind))


def _one(kind: str, value: Any) -> Any:
    if kind == "type":
        return kind_of(value)
    if kind == "s":
        return value.decode(errors="replace")
    if kind == "f":
        return float(np.float32(value))
    return value if kind in ("i", "b") else None
