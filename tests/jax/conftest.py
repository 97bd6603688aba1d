# SPDX-License-Identifier: LGPL-3.0-or-later
"""Small models and batches of the JAX tests."""

import numpy as np
import pytest

pytest.importorskip("jax")

from deepmd.dpmodel.batch import Batch
from deepmd.dpmodel.loss import EnergyLoss
from deepmd.dpmodel.model import build_model
from deepmd.dpmodel.neighbors import batch_edges


@pytest.fixture
def optimized_programs():
    """Let XLA compile as it does in use, which takes three times as long."""


@pytest.fixture(autouse=True)
def _quick(request):
    if "optimized_programs" not in request.fixturenames:
        request.getfixturevalue("quick_programs")


#: A model whose oxygen atoms have spins.
SPIN = {
    "type_map": ["O", "H"],
    "descriptor": {
        "type": "se_e2_a",
        "rcut": 4.0,
        "rcut_smth": 0.5,
        "sel": [24, 24],
        "neuron": [4],
        "axis_neuron": 2,
        "type_one_side": True,
        "seed": 1,
    },
    "fitting_net": {"neuron": [5], "seed": 2},
    "spin": {"use_spin": ["O"], "virtual_scale": [0.3]},
}


def make_model(*, one_side=True, precision="float64", small=False, **changes):
    """Two types, statistics that are not trivial, frame and atomic parameters on request."""
    model = build_model(
        {
            "type_map": ["O", "H"],
            "descriptor": {
                "type": "se_e2_a",
                "rcut": 4.0,
                "rcut_smth": 0.5,
                "sel": [7, 10],
                "neuron": [4] if small else [4, 8],
                "axis_neuron": 3,
                "type_one_side": one_side,
                "precision": precision,
                "seed": 1,
            },
            "fitting_net": {
                "neuron": [5] if small else [6, 6],
                "precision": precision,
                "seed": 2,
                **changes,
            },
        }
    )
    rng = np.random.default_rng(3)
    inner = model.atomic_model
    inner.out_bias = rng.normal(size=inner.out_bias.shape)
    inner.descriptor.davg = rng.normal(size=(2, 4)) * 0.1
    inner.descriptor.dstd = rng.uniform(0.5, 1.5, (2, 4))
    return model


def make_batch(n_frames=2, n_atoms=9, *, seed=0, fparam=0, aparam=0):
    """Frames of random atoms with random labels; the last one is open when there are several."""
    rng = np.random.default_rng(seed)
    cell = np.tile(np.diag([6.0, 6.5, 7.0]) + 0.3, (n_frames, 1, 1))
    if n_frames > 1:
        cell[-1] = 0.0
    n = n_frames * n_atoms
    labels = {"energy": rng.normal(size=(n_frames, 1)), "force": rng.normal(size=(n, 3))}
    labels["virial"] = rng.normal(size=(n_frames, 9))
    batch = Batch.from_arrays(
        rng.uniform(0, 6, (n_frames, n_atoms, 3)),
        cell,
        rng.integers(0, 2, (n_frames, n_atoms)),
        fparam=rng.normal(size=(n_frames, fparam)) if fparam else None,
        aparam=rng.normal(size=(n, aparam)) if aparam else None,
        labels=labels,
        find=dict.fromkeys(labels, 1.0),
    )
    batch.edges = batch_edges(batch, 4.0)
    return batch


def make_loss(**changes):
    """Energy, force and virial."""
    prefactors = {"start_pref_e": 0.1, "limit_pref_e": 1.0, "start_pref_f": 10.0}
    prefactors |= {"limit_pref_f": 1.0, "start_pref_v": 0.2, "limit_pref_v": 0.5}
    return EnergyLoss(1e-3, **{**prefactors, **changes})
