# SPDX-License-Identifier: LGPL-3.0-or-later
"""Frozen graphs and checkpoints of TensorFlow, read without TensorFlow.

Nothing of a graph is executed: its nodes are read as names with constant values and attributes.
"""

from deepmd.io.graph.bundle import read_bundle
from deepmd.io.graph.reader import (
    GRAPH_SUFFIXES,
    Graph,
    Node,
    graph_message,
    read_graph,
    read_meta_graph,
    write_graph,
)

__all__ = [
    "GRAPH_SUFFIXES",
    "Graph",
    "Node",
    "graph_message",
    "read_bundle",
    "read_graph",
    "read_meta_graph",
    "write_graph",
]
