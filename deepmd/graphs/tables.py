# SPDX-License-Identifier: LGPL-3.0-or-later
"""Tables of the embedding networks in compressed graphs.

Operators name the constants that hold a table and its limits. Which network it stands for follows
from the scope, and from the columns of the environment matrix that the operator reads.
"""

import re
from collections.abc import Iterator
from typing import Any

import numpy as np

from deepmd.base.errors import ModelFileError, NotAvailableError
from deepmd.io.graph import Graph, Node

#: What the names of the operators of tables begin with.
_PREFIX = "TabulateFusion"
#: Output of the network of the types, for all pairs of them.
TYPES = "filter_type_all{s}/embedding_lookup/params_0"


def forward_nodes(graph: Graph) -> Iterator[Node]:
    """Iterate over the nodes of a graph that are not part of its derivatives."""
    return (node for node in graph.values() if not node.name.startswith("gradients"))


def compress(data: dict[str, Any], graph: Graph, s: str) -> set[str]:
    """Put the tables of a graph into the dictionary of a descriptor, in place.

    The networks behind them are not in the graph: they become NaN, which no result survives.

    Returns
    -------
    set of str
        Names of the constants.

    Raises
    ------
    NotAvailableError
        For descriptors whose tables are not read.
    """
    nodes = [n for n in forward_nodes(graph) if n.op.startswith(_PREFIX) and _in(n.name, s)]
    if not nodes:
        return set()
    networks = data["embeddings"]["networks"]
    if data.get("attention_layers", {}).get("layer_num"):
        raise NotAvailableError(
            "compressed graphs with attention are not read",
            fix="convert the model before it is compressed, then compress the result",
        )
    found = dict(zip(_numbers(nodes, graph, data), nodes, strict=True))
    if len(found) != len(nodes):
        raise ModelFileError("has two tables of one network")
    tables, infos, used = [], [], set()
    for number, network in enumerate(networks):
        table, info, names = _table(found.get(number), graph, network["neuron"][-1])
        tables.append(table)
        infos.append(info)
        used |= names
        _forget(network)
    variables = {"compress_data": tables, "compress_info": infos}
    data["compress"] = {"@variables": variables}
    if "embeddings_strip" in data:
        name = TYPES.format(s=s)
        variables["type_embd_data"] = graph.constant(name)
        data["compress"]["geo_compress"] = True
        if np.ndim(variables["type_embd_data"]) != 2:
            raise ModelFileError(f'has no table "{name}", which its model needs')
        used.add(name)
        _forget(data["embeddings_strip"]["networks"][0])
    data["@version"] += 1
    return used


def _numbers(nodes: list[Node], graph: Graph, data: dict[str, Any]) -> list[int]:
    """Return the numbers of the networks that the tables of operators stand for."""
    n, ndim = data["embeddings"]["ntypes"], data["embeddings"]["ndim"]
    if ndim == 0:
        expected = [0]
    elif data["type"] == "se_e3":  # in the order of the pairs of types of neighbors
        expected = [a + b * n for a in range(n) for b in range(a, n)]
    else:
        starts = np.cumsum([0, *data["sel"]])
        width = 4 if data["type"] == "se_e2_a" else 1
        return [_network(node, graph, data, starts, width) for node in nodes]
    if len(nodes) != len(expected):
        raise ModelFileError(f"has {len(nodes)} tables, its model needs {len(expected)}")
    return expected


def _in(name: str, s: str) -> bool:
    """Whether a node belongs to the scopes with a suffix."""
    return re.match(rf"filter_type_(all|\d+){s}/", name) is not None


def _network(node: Node, graph: Graph, data: dict[str, Any], starts: np.ndarray, width: int) -> int:
    """Return the number of the network that a table stands for."""
    column = _first_column(node, graph) // width
    neighbors = [b for b, n in enumerate(data["sel"]) if n and starts[b] == column]
    if len(neighbors) != 1:
        raise ModelFileError(f'the operator "{node.name}" reads columns of no type')
    center = re.match(r"filter_type_(\d+)", node.name)
    number = neighbors[0]
    if center is None:
        return number
    return int(center[1]) + number * data["embeddings"]["ntypes"]


def _first_column(node: Node, graph: Graph) -> int:
    """Return the first column of the environment matrix that an operator reads."""
    column, scope = 0, node.name.rpartition("/")[0]
    name = node.inputs[2]
    for _ in range(20):
        here = graph.get(name.partition(":")[0])
        if here is None or not here.name.startswith(f"{scope}/"):
            break
        if here.op == "Slice":
            column += int(np.asarray(graph.constant(here.inputs[1])).reshape(-1)[1])
        name = here.inputs[0]
    return column


def _table(node: Node | None, graph: Graph, width: int) -> tuple[np.ndarray, np.ndarray, set[str]]:
    """Return a table, its limits and the names of their constants; empty ones without operator."""
    if node is None:
        return np.zeros((0, 0)), np.zeros(0), set()
    names = node.inputs[:2]
    table, info = (graph.constant(name) for name in names)
    if table is None or info is None or np.shape(info) != (6,) or np.ndim(table) != 2:
        raise ModelFileError(f'the operator "{node.name}" has no table')
    if table.shape[1] != 6 * width:
        raise ModelFileError(f'the table of "{node.name}" has the shape {table.shape}')
    return table, info, set(names)


def _forget(network: dict[str, Any]) -> None:
    """Set the arrays of a network to NaN."""
    for layer in network["layers"]:
        arrays = layer["@variables"]
        layer["@variables"] = {
            k: None if v is None else np.full_like(v, np.nan) for k, v in arrays.items()
        }
