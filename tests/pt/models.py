# SPDX-License-Identifier: LGPL-3.0-or-later
"""Small models and batches that the tests of this folder share."""

import numpy as np

from deepmd.dpmodel.batch import Batch
from deepmd.dpmodel.model import Model, build_model
from deepmd.dpmodel.neighbors import batch_edges

RCUT = 4.0


def section(**changes):
    """Return the model section of a small energy model."""
    descriptor = {
        "type": "se_e2_a",
        "rcut": RCUT,
        "rcut_smth": 0.5,
        "sel": [12, 16],
        "neuron": [3, 6],
        "axis_neuron": 2,
        "type_one_side": False,
        "seed": 3,
    }
    fitting = {"type": "ener", "neuron": [5, 5], "resnet_dt": True, "seed": 4}
    for key, value in changes.items():
        (fitting if key.startswith("numb_") else descriptor)[key] = value
    if "precision" in changes:
        fitting["precision"] = changes["precision"]
    return {"type_map": ["O", "H"], "descriptor": descriptor, "fitting_net": fitting}


def model(**changes) -> Model:
    """Build a small model whose statistics and biases are not trivial."""
    built = build_model(section(**changes))
    rng = np.random.default_rng(11)
    atomic = built.atomic_model
    atomic.out_bias = rng.normal(size=atomic.out_bias.shape)
    atomic.descriptor.davg = 0.1 * rng.normal(size=(2, 4))
    atomic.descriptor.dstd = rng.uniform(0.2, 0.5, size=(2, 4))
    return built


def batch(natoms=(7, 5, 1), *, periodic=(True, False, True), seed=5, edge=6.0) -> Batch:
    """Return frames of different size with edges; cells are triclinic."""
    rng = np.random.default_rng(seed)
    natoms = np.asarray(natoms, dtype=np.int64)
    cell = edge * np.eye(3) + rng.normal(scale=0.3, size=(len(natoms), 3, 3))
    cell[~np.asarray(periodic)] = 0.0
    made = Batch(
        coord=rng.uniform(0.0, edge, size=(natoms.sum(), 3)),
        cell=cell,
        periodic=np.asarray(periodic),
        atype=rng.integers(0, 2, size=natoms.sum()),
        frame=np.repeat(np.arange(len(natoms)), natoms),
        natoms=natoms,
    )
    made.edges = batch_edges(made, RCUT)
    return made
