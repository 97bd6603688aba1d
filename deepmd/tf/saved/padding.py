# SPDX-License-Identifier: LGPL-3.0-or-later
"""Padding of the arguments of an evaluation entry in TensorFlow, as :mod:`deepmd.runtime.bucketing`.

A program of XLA is compiled once per shape, so sizes are rounded up on a ladder.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from deepmd.dpmodel.model import Inputs
from deepmd.dpmodel.neighbors import Packing, slot_kinds
from deepmd.tf.saved.packing import counts_of, rows_of, where

Tensor = Any


def ladder(n: Tensor) -> Tensor:
    """Sizes rounded up to 4, 8, 12, 16, 20, …, 32, 40, …, 64, 80, …: four rungs per doubling."""
    powers = tf.constant(2 ** np.arange(62, dtype=np.int64))
    bits = tf.reduce_sum(tf.cast((n - 1)[..., None] >= powers, tf.int64), -1)
    step = tf.bitwise.left_shift(tf.ones_like(bits), tf.maximum(bits - 3, 2))
    return tf.maximum((n + step - 1) // step * step, 4)


def width_of(n: Tensor, sel: int) -> Tensor:
    """Widths of tables rounded up to a power of two, and at most to ``sel``.

    Widths change with every list of neighbors, and several tables make many shapes.
    """
    powers = tf.constant(2 ** np.arange(62, dtype=np.int64))
    bits = tf.reduce_sum(tf.cast(n > powers, tf.int64))
    return tf.maximum(n, tf.minimum(tf.gather(powers, tf.maximum(bits, 2)), sel))


def padded(inputs: Inputs, packings: Sequence[Packing], ntypes: int, rcut: float) -> Inputs:
    """Arguments with atoms, edges, frames and empty slots added at the end.

    Parameters
    ----------
    inputs : Inputs
    packings : sequence of Packing
        Of the model.
    ntypes : int
        Number of types of the evaluation entry.
    rcut : float
        Length [Å] of the added edges, which lead from the last atom to itself.
    """
    kinds = slot_kinds(packings)
    n_edges, n_frames = ladder(rows_of(inputs.i) + 1), tf.reduce_max(inputs.frame) + 1
    for value in inputs.frame_inputs.values():  # of frames without atoms, too
        n_frames = rows_of(value)
    types = max([ntypes, *(p.ntypes for p in packings)])
    have = rows_of(inputs.atype)
    # Where slots list the atoms of a type, as many of each are added as these need.
    if any(slot.kind == "rows" for slot in kinds):
        counts = counts_of(inputs.atype, tf.constant(types, tf.int64))
        of_type = ladder(counts)
        added = tf.repeat(tf.range(tf.constant(types, tf.int64)), of_type - counts)
        atype = tf.concat([inputs.atype, added], 0)
    else:
        atype, of_type = _rows(inputs.atype, ladder(have), 0), None
    n_atoms = rows_of(atype)
    edges_added = n_edges - rows_of(inputs.i)
    far = tf.tile(tf.constant([[rcut, 0.0, 0.0]], tf.float64), tf.stack([edges_added, 1]))
    flat = [
        ladder(rows_of(s) + 1) for s, k in zip(inputs.slots, kinds, strict=True) if k.kind == "flat"
    ]
    lists, slots = iter(flat), []
    for slot, (kind, t, sel, source) in zip(inputs.slots, kinds, strict=True):
        if kind == "rows":
            slots.append(where(tf.equal(atype, t)))
        elif kind == "atoms":
            slots.append(_rows(slot, n_atoms, 0))
        elif kind == "flat":
            slots.append(_rows(slot, next(lists), n_edges - 1))
        elif kind == "angle":
            slots.append(_rows(slot, ladder(rows_of(slot)), flat[source] - 1))
        else:
            rows = n_atoms if t < 0 or of_type is None else of_type[t]
            slots.append(_table(slot, rows, sel))
    last = n_atoms - 1
    frames = ladder(n_frames + 1)
    return Inputs(
        tf.concat([inputs.vec, far], 0),
        _rows(inputs.i, n_edges, last),
        _rows(inputs.j, n_edges, last),
        atype,
        _rows(inputs.frame, n_atoms, n_frames),
        {k: _rows(v, frames, 0) for k, v in inputs.frame_inputs.items()},
        {k: _rows(v, n_atoms, 0) for k, v in inputs.atom_inputs.items()},
        slots,
    )


def _rows(x: Tensor, n: Tensor, value: Tensor) -> Tensor:
    """Array with rows of ``value`` added until there are ``n``."""
    more = tf.concat([[n - rows_of(x)], tf.shape(x, out_type=tf.int64)[1:]], 0)
    return tf.concat([x, tf.fill(more, tf.cast(value, x.dtype))], 0)


def _table(table: Tensor, rows: Tensor, sel: int) -> Tensor:
    """Table of neighbors with empty rows and columns added."""
    have = tf.shape(table, out_type=tf.int64)
    more = [[0, rows - have[0]], [0, width_of(have[1], sel) - have[1]]]
    return tf.pad(table, more, constant_values=tf.constant(-1, tf.int64))
