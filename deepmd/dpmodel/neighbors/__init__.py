# SPDX-License-Identifier: LGPL-3.0-or-later
"""Neighbors: the search for pairs, and the tables through which models read them."""

from deepmd.dpmodel.neighbors.packing import Overflow, Packing, Slot, pack, slot_axes, slot_kinds
from deepmd.dpmodel.neighbors.pairs import (
    WHOLE_FRAME,
    batch_edges,
    cell_heights,
    check_cell,
    check_crowding,
    empty_edges,
    find_edges,
    reference_edges,
)

__all__ = [
    "WHOLE_FRAME",
    "Overflow",
    "Packing",
    "Slot",
    "batch_edges",
    "cell_heights",
    "check_cell",
    "check_crowding",
    "empty_edges",
    "find_edges",
    "pack",
    "reference_edges",
    "slot_axes",
    "slot_kinds",
]
