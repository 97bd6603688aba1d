# SPDX-License-Identifier: LGPL-3.0-or-later
"""Losses over the batches of several ranks are those of one batch of all frames."""

import numpy as np
import pytest
from autograd import value_and_grad

from deepmd.dpmodel.loss import (
    DOSLoss,
    EnergyLoss,
    EnergySpinLoss,
    Labels,
    PropertyLoss,
    TensorLoss,
)

RNG = np.random.default_rng(3)
NATOMS = [3, 5, 2, 4]
ALL_TERMS = {
    f"{when}_pref_{t}": 0.5 for t in ("e", "f", "v", "ae", "pf") for when in ("start", "limit")
}

CASES = {
    "energy": (
        EnergyLoss(1.0, **ALL_TERMS),
        {"energy": 1, "virial": 9, "force": (3,), "atom_ener": (1,), "atom_pref": (1,)},
    ),
    "huber": (EnergyLoss(1.0, use_huber=True), {"energy": 1, "force": (3,)}),
    "spin": (EnergySpinLoss(1.0), {"energy": 1, "force": (3,), "force_mag": (3,)}),
    "tensor": (TensorLoss("t", 3, "t", pref=0.5, pref_atomic=2.0), {"t": 3, "atom_t": (3,)}),
    "dos": (DOSLoss(1.0, 4, start_pref_dos=1.0, start_pref_acdf=2.0), {"dos": 4, "atom_dos": (4,)}),
    "property": (PropertyLoss(2, "p", metric=["mae", "rmse"], out_std=[0.5, 2.0]), {"p": 2}),
    "root": (PropertyLoss(2, "p", loss_func="rmse", metric=["mse"], intensive=True), {"p": 2}),
}


def batch_of(sizes):
    """Random predictions and labels; sizes of atoms are tuples."""
    n = int(sum(NATOMS))
    values = {
        k: RNG.normal(size=(n, *s) if isinstance(s, tuple) else (len(NATOMS), s))
        for k, s in sizes.items()
    }
    pred = {k: RNG.normal(size=v.shape) for k, v in values.items()}
    pred |= {"atom_energy": RNG.normal(size=(n, 1)), "mask_mag": np.ones((n, 1))}
    pred["mask_mag"][::3] = 0.0
    return pred, values


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


def ranks_of(loss, pred, values, parts):
    """Loss, metrics and gradients of every rank, which add up what all of them hold."""
    held: list[np.ndarray] = []
    results = []
    for keep in (True, False):
        for frames in parts:
            labels, rows = labels_of(values, frames)

            def reduce(x, keep=keep):
                if keep:
                    held.append(np.array(x))
                return sum(held)

            metrics = {}

            def objective(own, labels=labels, reduce=reduce, metrics=metrics):
                value, more = loss(0.3, own, labels, reduce)
                metrics.update(more)
                return value

            own = {k: v[rows[len(v)]] for k, v in pred.items()}
            value, grads = value_and_grad(objective)(own)
            if not keep:
                results.append((value, metrics, grads, rows))
    return results


@pytest.mark.parametrize("name", CASES)
def test_two_ranks_are_one_batch(name):
    loss, sizes = CASES[name]
    pred, values = batch_of(sizes)
    everything, _ = labels_of(values, [0, 1, 2, 3])
    figures = {}

    def objective(own):
        value, more = loss(0.3, own, everything)
        figures.update(more)
        return value

    value, grads = value_and_grad(objective)(pred)
    # Frames of different size: means of means over ranks would be wrong.
    results = ranks_of(loss, pred, values, ([0], [1, 2, 3]))
    for got, metrics, part, rows in results:
        assert got == pytest.approx(value, rel=1e-13)
        assert {k: float(v) for k, v in metrics.items() if k} == pytest.approx(
            {k: float(v) for k, v in figures.items()}, rel=1e-13
        )
        for k in sizes.keys() & pred.keys():  # no derivative by the mask is needed
            g = part[k]
            assert np.abs(g - grads[k][rows[len(pred[k])]]).max() < 1e-14, k


def test_a_label_of_one_rank_only():
    """Ranks without the label add nothing; the metric is there on all of them."""
    loss, sizes = CASES["tensor"]
    pred, values = batch_of(sizes)
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
