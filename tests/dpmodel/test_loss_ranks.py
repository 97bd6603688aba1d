# SPDX-License-Identifier: LGPL-3.0-or-later
"""Losses over the batches of several ranks, of which some have no label."""

import numpy as np
import pytest

from deepmd.dpmodel.loss import Labels, TensorLoss

RNG = np.random.default_rng(3)
NATOMS = [3, 5, 2, 4]


def batch_of(sizes):
    """Random predictions and labels; sizes of atoms are tuples."""
    n = int(sum(NATOMS))
    values = {
        k: RNG.normal(size=(n, *s) if isinstance(s, tuple) else (len(NATOMS), s))
        for k, s in sizes.items()
    }
    return {k: RNG.normal(size=v.shape) for k, v in values.items()}, values


def labels_of(values, frames):
    """Labels of some of the frames, and the rows of frames and atoms."""
    owner = np.repeat(np.arange(len(NATOMS)), NATOMS)
    atoms = np.flatnonzero(np.isin(owner, frames))
    rows = {len(NATOMS): np.asarray(frames), len(owner): atoms}
    labels = Labels(
        {k: v[rows[len(v)]] for k, v in values.items()},
        dict.fromkeys(values, 1.0),
        np.asarray(NATOMS, dtype=float)[frames],
        np.repeat(np.arange(len(frames)), np.asarray(NATOMS)[frames]),
        np.ones(len(frames)),
    )
    return labels, rows


def test_a_label_of_one_rank_only():
    """Ranks without the label add nothing; the metric is there on all of them."""
    loss = TensorLoss("t", 3, "t", pref=0.5, pref_atomic=2.0)
    pred, values = batch_of({"t": 3, "atom_t": (3,)})
    first, rows = labels_of(values, [0, 1])
    alone, figures = loss(0.3, {k: v[rows[len(v)]] for k, v in pred.items()}, first)
    second, others = labels_of(values, [2, 3])
    second = second._replace(find=dict.fromkeys(values, 0.0))
    held: list[np.ndarray] = []

    def reduce(x):
        held.append(np.array(x))
        return sum(held)

    loss(0.3, {k: v[rows[len(v)]] for k, v in pred.items()}, first, reduce)
    value, metrics = loss(0.3, {k: v[others[len(v)]] for k, v in pred.items()}, second, reduce)
    assert value == pytest.approx(alone, rel=1e-13)
    assert metrics == pytest.approx(figures, rel=1e-13)
