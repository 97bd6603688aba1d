# SPDX-License-Identifier: LGPL-3.0-or-later
"""Pairs of neighbors in TensorFlow, from positions and cells or from a given neighbor list."""

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from deepmd.tf.saved.packing import rows_of, where

Tensor = Any
#: Distances that are computed at a time.
_BLOCK = 1 << 20


def frame_pairs(
    xyz: Tensor, types: Tensor, box: Tensor, rcut: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Places of centers and neighbors, and vectors, of all pairs of real atoms.

    Parameters
    ----------
    xyz : (n_frames, n_atoms, 3) float64 [Å]
    types : (n_frames, n_atoms) int64
        -1 for virtual atoms.
    box : (n_frames, 3, 3) float64, or empty [Å]
        Empty or zero for open systems.
    rcut : float
        Cutoff [Å].

    Returns
    -------
    i, j : (n_pairs,) int64
        Sorted by i; ``frame * n_atoms + atom``.
    vec : (n_pairs, 3) float64 [Å]
    """
    size = tf.shape(types, out_type=tf.int64)
    open_box = tf.zeros(tf.stack([size[0], 3, 3]), tf.float64)
    cells = tf.cond(tf.size(box) > 0, lambda: tf.reshape(box, [-1, 3, 3]), lambda: open_box)

    def of_frame(frame: Tensor) -> list[Tensor]:
        here = where(types[frame] >= 0)
        i, j, vec = _find_pairs(tf.gather(xyz[frame], here), cells[frame], rcut)
        first = frame * size[1]
        return [tf.gather(here, i) + first, tf.gather(here, j) + first, vec]

    kinds: list[tuple[Any, list[int | None]]] = [
        (tf.int64, [None]),
        (tf.int64, [None]),
        (tf.float64, [None, 3]),
    ]
    i, j, vec = _joined(size[0], of_frame, kinds)
    return i, j, vec


def list_pairs(
    xyz: Tensor, types: Tensor, nlist: Tensor, rcut: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Pairs of a neighbor list, likewise; the list may reach beyond the cutoff.

    Parameters
    ----------
    xyz, types
        Of local atoms, and of ghosts behind them: (n_frames, n_all, …).
    nlist : (n_frames, n_local, any width) int64
        Numbers of extended atoms in any order, -1 where there is none.
    rcut : float
        Cutoff [Å].
    """
    nall, nloc = (tf.shape(x, out_type=tf.int64)[1] for x in (types, nlist))
    given = (nlist >= 0) & (types[:, :nloc] >= 0)[:, :, None]
    place = tf.where(given)
    first = place[:, 0] * nall
    i, j = first + place[:, 1], first + tf.boolean_mask(nlist, given)
    flat = tf.reshape(xyz, [-1, 3])
    vec = tf.gather(flat, j) - tf.gather(flat, i)
    r2 = tf.reduce_sum(vec * vec, 1)
    near = (r2 <= rcut * rcut) & (r2 > 0.0) & (tf.gather(tf.reshape(types, [-1]), j) >= 0)
    vec = tf.ensure_shape(tf.boolean_mask(vec, near), [None, 3])
    return tf.boolean_mask(i, near), tf.boolean_mask(j, near), vec


def _joined(
    n: Tensor, part: Callable[[Tensor], list[Tensor]], kinds: Sequence[tuple[Any, list[int | None]]]
) -> list[Tensor]:
    """Results of ``part(0)`` … ``part(n - 1)``, concatenated; ``kinds`` are dtypes and shapes."""
    arrays = [
        tf.TensorArray(dtype, tf.cast(n, tf.int32), element_shape=shape, infer_shape=False)
        for dtype, shape in kinds
    ]

    def step(k: Tensor, *done: Any) -> tuple[Any, ...]:
        new = part(k)
        at = tf.cast(k, tf.int32)
        return (k + 1, *(a.write(at, x) for a, x in zip(done, new, strict=True)))

    start = (tf.constant(0, tf.int64), *arrays)
    _, *found = tf.while_loop(lambda k, *_: k < n, step, start, parallel_iterations=1)
    return [tf.ensure_shape(a.concat(), shape) for a, (_, shape) in zip(found, kinds, strict=True)]


def _find_pairs(coord: Tensor, cell: Tensor, rcut: float) -> tuple[Tensor, Tensor, Tensor]:
    """Pairs of one frame, by comparing every atom with every image near the cell."""
    n = rows_of(coord)

    def periodic() -> tuple[Tensor, Tensor, Tensor]:
        fold = tf.floor(tf.linalg.matmul(coord, tf.linalg.inv(cell)))
        owner, shift = _images(coord - tf.linalg.matmul(fold, cell), cell, rcut)
        return fold, owner, shift

    def isolated() -> tuple[Tensor, Tensor, Tensor]:
        return tf.zeros_like(coord), tf.range(n), tf.zeros_like(coord)

    fold, owner, shift = tf.cond(tf.reduce_any(tf.not_equal(cell, 0.0)), periodic, isolated)
    folded = coord - tf.linalg.matmul(fold, cell)
    image = tf.gather(folded, owner) + tf.linalg.matmul(shift, cell)
    step = tf.maximum(_BLOCK // tf.maximum(rows_of(owner), 1), 1)

    def block(k: Tensor) -> list[Tensor]:
        d = image[None] - folded[k * step : (k + 1) * step, None]
        r2 = tf.reduce_sum(d * d, -1)
        pairs = tf.where((r2 <= rcut * rcut) & (r2 > 0.0))
        return [pairs[:, 0] + k * step, pairs[:, 1]]

    # At least one block, since nothing cannot be concatenated.
    blocks = tf.maximum((n + step - 1) // step, 1)
    indices: list[tuple[Any, list[int | None]]] = [(tf.int64, [None]), (tf.int64, [None])]
    i, k = _joined(blocks, block, indices)
    j = tf.gather(owner, k)
    # From the positions as they were given: folding must not cost digits.
    lattice = tf.gather(shift, k) - tf.gather(fold, j) + tf.gather(fold, i)
    vec = tf.gather(coord, j) - tf.gather(coord, i) + tf.linalg.matmul(lattice, cell)
    return i, j, vec


def _images(folded: Tensor, cell: Tensor, rcut: float) -> tuple[Tensor, Tensor]:
    """Atoms and lattice translations (n, 3) of all images within the cutoff of the cell."""
    inverse = tf.linalg.inv(cell)
    # The columns of the inverse are normal to the faces, and as long as 1 / height.
    margin = rcut * tf.norm(inverse, axis=0)
    reach = tf.math.ceil(margin)
    ranges = [tf.range(-reach[k], reach[k] + 1.0) for k in range(3)]
    grid = tf.reshape(tf.stack(tf.meshgrid(*ranges, indexing="ij"), -1), [-1, 3])
    inside = tf.linalg.matmul(folded, inverse)[:, None] + grid[None]
    slack = 1e-6
    near = tf.reduce_all((inside >= -margin - slack) & (inside <= 1.0 + margin + slack), -1)
    found = tf.where(near)
    return found[:, 0], tf.gather(grid, found[:, 1])
