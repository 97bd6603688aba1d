# SPDX-License-Identifier: LGPL-3.0-or-later
"""Packing of edges in TensorFlow, as :func:`deepmd.dpmodel.neighbors.pack`; all sizes dynamic."""

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from deepmd.dpmodel.neighbors import Packing
from deepmd.dpmodel.neighbors.packing import TIE, TIE_DIRECTION

Tensor = Any


class Pairs(NamedTuple):
    """Edges, sorted by center, with their vectors [Å], and at least one atom, by frame."""

    i: Tensor
    j: Tensor
    atype: Tensor
    frame: Tensor
    vec: Tensor

    @property
    def r2(self) -> Tensor:
        """Squared lengths [Å²]."""
        return tf.reduce_sum(self.vec * self.vec, 1)


def rows_of(x: Tensor) -> Tensor:
    """Length of the first axis, int64."""
    return tf.shape(x, out_type=tf.int64)[0]


def where(condition: Tensor) -> Tensor:
    """Indices (n,) of the true elements of a vector."""
    return tf.where(condition)[:, 0]


def counts_of(index: Tensor, n: Tensor) -> Tensor:
    """How often each of 0 … n - 1 is in ``index``: (n,) int64."""
    return tf.math.unsorted_segment_sum(tf.ones_like(index), index, n)


def positions(n: Tensor, index: Tensor) -> Tensor:
    """Place of every number of 0 … n - 1 in ``index``, -1 for those that are not in it."""
    empty = tf.fill(tf.reshape(n, [1]), tf.constant(-1, tf.int64))
    return tf.tensor_scatter_nd_update(empty, index[:, None], tf.range(rows_of(index)))


def pack(packings: Sequence[Packing], pairs: Pairs) -> list[Tensor]:
    """Slots of all packings."""
    return [slot for packing in packings for slot in _slots(packing, pairs)]


def _slots(p: Packing, e: Pairs) -> list[Tensor]:
    """Slots of one packing."""
    if p.layout == "centres":
        return [where(tf.equal(e.atype, t)) for t in range(p.ntypes)]
    if p.layout == "first_type":
        first = tf.searchsorted(e.frame, e.frame, out_type=tf.int64)
        return [tf.gather(e.atype, first)]
    if p.layout == "angles":
        return _angles(p, e)
    kept, n = _kept(p, e), rows_of(e.atype)
    if p.layout == "flat":
        return [kept]
    if p.layout == "typed":
        types = tf.gather(e.atype, tf.gather(e.j, kept))
        of_type = [tf.boolean_mask(kept, tf.equal(types, t)) for t in range(p.ntypes)]
    else:
        of_type = [kept]
    tables = [_table(part, e.i, n) for part in of_type]
    if not p.by_centre:
        return tables
    slots = []
    for t in range(p.ntypes):
        rows = where(tf.equal(e.atype, t))
        slots += [rows, *(_trim(tf.gather(table, rows)) for table in tables)]
    return slots


def _kept(p: Packing, e: Pairs) -> Tensor:
    """Numbers of the edges within the cutoff and ``sel`` that are not excluded."""
    kept, n = where((e.r2 <= p.rcut * p.rcut) & (e.r2 > 0.0)), rows_of(e.atype)
    center = tf.gather(e.i, kept)
    most = np.int64(p.nearest or sum(p.sel))
    kept = _nearest(kept, center, tf.fill(tf.shape(kept), most), counts_of(center, n) > most, e)
    if p.layout == "typed":
        sel = tf.constant(p.sel, tf.int64)
        types = tf.gather(e.atype, tf.gather(e.j, kept))
        key = tf.gather(e.i, kept) * p.ntypes + types
        counts = tf.reshape(counts_of(key, n * p.ntypes), [-1, p.ntypes])
        kept = _nearest(kept, key, tf.gather(sel, types), counts > sel, e)
    if p.exclude:
        allowed = np.ones((p.ntypes, p.ntypes), bool)
        for a, b in p.exclude:
            allowed[a, b] = allowed[b, a] = False
        pair = [tf.gather(e.atype, tf.gather(side, kept)) for side in (e.i, e.j)]
        kept = tf.boolean_mask(kept, tf.gather_nd(tf.constant(allowed), tf.stack(pair, 1)))
    return kept


def _nearest(kept: Tensor, key: Tensor, limit: Tensor, full: Tensor, e: Pairs) -> Tensor:
    """The nearest ``limit`` edges of every key, sorted out only if one of the keys is ``full``."""

    def cut() -> Tensor:
        return tf.boolean_mask(kept, _ranks(key, limit, tf.gather(e.vec, kept)) < limit)

    return tf.cond(tf.reduce_any(full), cut, lambda: tf.identity(kept))


def _ranks(key: Tensor, limit: Tensor, vec: Tensor) -> Tensor:
    """Rank by distance of every edge among those with the same key, from 0.

    Ties with the first beyond the limit are broken as in :func:`deepmd.dpmodel.neighbors.pack`.
    """
    r2, shape = tf.reduce_sum(vec * vec, 1), tf.reshape(rows_of(key), [1])
    order = _order(r2, key)
    ordered, length = tf.gather(key, order), tf.gather(r2, order)
    first = tf.searchsorted(ordered, ordered, out_type=tf.int64)
    beyond = first + tf.gather(limit, order)
    there = beyond < tf.searchsorted(ordered, ordered, side="right", out_type=tf.int64)
    edge = tf.gather(length, tf.where(there, beyond, first))
    tied = there & (length >= edge * (1.0 - TIE)) & (length <= edge * (1.0 + TIE))
    place = tf.scatter_nd(order[:, None], tf.range(rows_of(key)), shape)
    tied, edge = tf.gather(tied, place), tf.gather(edge, place)
    side = sum(vec[:, k] * TIE_DIRECTION[k] for k in range(3))
    order = _order(tf.where(tied, side, tf.zeros_like(side)), tf.where(tied, edge, r2), key)
    ranks = tf.range(rows_of(key)) - first
    return tf.scatter_nd(order[:, None], ranks, shape)


def _order(*keys: Tensor) -> Tensor:
    """Indices that sort by the last of some keys, then by the one before, and so on."""
    order = tf.range(rows_of(keys[0]))
    for key in keys:
        order = tf.gather(order, tf.argsort(tf.gather(key, order), stable=True))
    return order


def _table(kept: Tensor, center: Tensor, n: Tensor) -> Tensor:
    """Rows (n, K) of edges, sorted by center, -1 where a row is short."""
    rows = tf.gather(center, kept)
    counts = counts_of(rows, n)
    width = tf.maximum(tf.reduce_max(counts), 1)
    column = tf.range(rows_of(kept)) - tf.gather(tf.cumsum(counts, exclusive=True), rows)
    empty = tf.fill(tf.stack([n, width]), tf.constant(-1, tf.int64))
    return tf.tensor_scatter_nd_update(empty, tf.stack([rows, column], 1), kept)


def _trim(table: Tensor) -> Tensor:
    """Table without the columns on the right that are empty, at least one."""
    used = tf.reduce_sum(tf.cast(table >= 0, tf.int64), 1)
    return table[:, : tf.maximum(tf.reduce_max(used), 1)]


def _angles(p: Packing, e: Pairs) -> list[Tensor]:
    """All ordered pairs of edges of one center, as positions in the flat list of the edges."""
    flat = dataclasses.replace(p, layout="flat", rcut=p.edge_rcut, sel=(p.edge_sel,), nearest=0)
    position = positions(rows_of(e.i), _kept(flat, e))
    inner = _kept(p, e)
    inner = tf.boolean_mask(inner, tf.gather(e.r2, inner) < p.rcut * p.rcut)
    center, places = tf.gather(e.i, inner), tf.gather(position, inner)
    counts = counts_of(center, rows_of(e.atype))
    starts, per_edge = tf.cumsum(counts, exclusive=True), tf.gather(counts, center)
    # Number of the first edge of every angle among the inner ones.
    edge = tf.repeat(tf.range(rows_of(inner)), per_edge)
    offset = tf.range(rows_of(edge)) - tf.gather(tf.cumsum(per_edge, exclusive=True), edge)
    second = tf.gather(starts, tf.gather(center, edge)) + offset
    return [tf.gather(places, edge), tf.gather(places, second)]
