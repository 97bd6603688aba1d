# SPDX-License-Identifier: LGPL-3.0-or-later
"""Batches are evaluated as they are; results are those of frames one by one."""

import dataclasses

import numpy as np
import pytest
from infer.models import write

from deepmd.base.errors import InputError
from deepmd.dpmodel.batch import Batch, join
from deepmd.dpmodel.neighbors import batch_edges
from deepmd.infer import DeepPot, calc_model_devi
from deepmd.infer.model_devi import batch_model_devi

CELL = np.array([[5.0, 0.2, 0.1], [0.3, 5.4, 0.0], [0.0, -0.4, 5.2]])
SIZES = (3, 5, 1, 4)
ALL = ("force", "virial", "atom_virial", "hessian")


@pytest.fixture(scope="module")
def dp(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "m.dp"
    return DeepPot(write(path, numb_fparam=1, numb_aparam=2, default_fparam=[0.3]))


@pytest.fixture
def batch():
    rng = np.random.default_rng(0)
    frames = []
    for k, n in enumerate(SIZES):
        frames.append(
            Batch.from_arrays(
                rng.uniform(0, 5, (1, n, 3)),
                None if k == 1 else CELL[None],
                rng.integers(0, 2, n),
                fparam=rng.normal(size=(1, 1)),
                aparam=rng.normal(size=(n, 2)),
            )
        )
    return join(frames)


def frame(batch, k):
    """The arguments of ``evaluate`` for a frame."""
    atoms = batch.frame == k
    return {
        "coords": batch.coord[atoms],
        "cells": batch.cell[k] if batch.periodic[k] else None,
        "atom_types": batch.atype[atoms],
        "fparam": batch.fparam[k],
        "aparam": batch.aparam[atoms],
    }


@pytest.mark.parametrize("per_call", [False, 5])
def test_results_of_frames(dp, batch, per_call):
    potential = DeepPot.from_evaluator(dp.evaluator, auto_batch_size=per_call)
    out = potential.evaluate_batch(batch, derivatives=ALL, extra=("descriptor",))
    widest = max(SIZES)
    for k, n in enumerate(SIZES):
        atoms = batch.frame == k
        want = dp.evaluate(**frame(batch, k), derivatives=ALL, extra=("descriptor",))
        assert set(out) == set(want)
        for name in set(want) - {"hessian"}:
            rows = atoms if dp.is_per_atom(name) else [k]
            np.testing.assert_allclose(
                out[name][rows].reshape(want[name].shape), want[name], rtol=0, atol=1e-13
            )
        hessian = out["hessian"][atoms].reshape(3 * n, 3 * widest)
        np.testing.assert_allclose(hessian[:, : 3 * n], want["hessian"][0], rtol=0, atol=1e-13)
        assert not hessian[:, 3 * n :].any()


def test_virtual_atoms_of_a_hessian(dp, batch):
    given = frame(batch, 3)
    want = dp.evaluate(**given, derivatives=ALL)
    types, real = (
        np.array([-1, *given["atom_types"][:2], -1, *given["atom_types"][2:]]),
        [1, 2, 4, 5],
    )
    coords, aparam = np.zeros((6, 3)), np.zeros((6, 2))
    coords[real], aparam[real] = given["coords"], given["aparam"]
    padded = {**given, "coords": coords, "atom_types": types, "aparam": aparam}
    got = dp.evaluate(**padded, derivatives=ALL)["hessian"][0].reshape(6, 3, 6, 3)
    np.testing.assert_array_equal(
        got[np.ix_(real, range(3), real, range(3))].reshape(12, 12), want["hessian"][0]
    )
    got[np.ix_(real, range(3), real, range(3))] = 0
    assert not got.any()


def test_edges_that_are_there_are_used(dp, batch):
    want = dp.evaluate_batch(batch)
    batch.edges = batch_edges(batch, dp.get_rcut())
    np.testing.assert_allclose(dp.evaluate_batch(batch)["force"], want["force"], atol=1e-13)
    first = batch.frames(0, 1)
    empty = dataclasses.replace(
        first,
        edges=dataclasses.replace(
            first.edges, i=first.edges.i[:0], j=first.edges.j[:0], shift=first.edges.shift[:0]
        ),
    )
    assert not dp.evaluate_batch(empty)["force"].any()


def test_ranges_of_frames(batch):
    batch.edges = batch_edges(batch, 4.0)
    batch.labels = {"energy": np.zeros((4, 1))}
    part = batch.frames(1, 3)
    assert (part.n_frames, part.n_atoms, part.labels) == (2, 6, {})
    np.testing.assert_array_equal(part.frame, [0, 0, 0, 0, 0, 1])
    np.testing.assert_array_equal(
        part.vectors(), batch.vectors()[np.isin(batch.frame[batch.edges.i], (1, 2))]
    )
    assert batch.frames(0, 4) is batch


def test_defaults_stand_for_what_was_not_found(dp, batch):
    given = dataclasses.replace(batch, fparam=np.full((4, 1), 0.3))
    want = dp.evaluate_batch(given)["energy"]
    for absent in (
        dataclasses.replace(batch, fparam=None),
        dataclasses.replace(batch, find={"fparam": 0.0}),
    ):
        np.testing.assert_array_equal(dp.evaluate_batch(absent)["energy"], want)
    assert np.abs(dp.evaluate_batch(batch)["energy"] - want).min() > 1e-6


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"aparam": None}, "aparam: the model needs 2 atomic parameters, none are given"),
        ({"aparam": np.zeros((3, 2))}, "aparam: 6 numbers do not fit"),
        ({"fparam": np.full((4, 1), np.nan)}, "fparam: holds NaN"),
        ({"charge_spin": np.zeros((4, 2))}, "charge_spin: the model takes no frame parameters"),
        ({"spin": np.zeros((13, 3))}, "spin: the model takes no spins"),
        ({"atype": np.full(13, 2)}, "atom_types: atom 0 has type 2"),
    ],
)
def test_what_does_not_fit_the_model(dp, batch, changes, message):
    with pytest.raises(InputError, match=message):
        dp.evaluate_batch(dataclasses.replace(batch, **changes))


def test_deviations_of_a_batch(dp, batch, tmp_path):
    other = DeepPot(
        write(tmp_path / "o.dp", seed=5, numb_fparam=1, numb_aparam=2, default_fparam=[0.3])
    )
    rows = batch_model_devi(batch, [dp, other], atomic=True, relative=0.2)
    for k, n in enumerate(SIZES):
        given = frame(batch, k)
        coords, cells, types = (given.pop(name) for name in ("coords", "cells", "atom_types"))
        (want,) = calc_model_devi(
            coords, cells, types, [dp, other], atomic=True, relative=0.2, **given
        )
        assert rows[k, 0] == k
        np.testing.assert_allclose(rows[k, 1 : 8 + n], want[1:], rtol=1e-11)
        assert not rows[k, 8 + n :].any()
