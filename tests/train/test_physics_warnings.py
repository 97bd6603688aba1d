# SPDX-License-Identifier: LGPL-3.0-or-later
"""Warnings about the physics of a model: in training, and when it is frozen."""

import numpy as np
import pytest

from deepmd.dpmodel.batch import Batch
from deepmd.dpmodel.model import build_model
from deepmd.dpmodel.neighbors import batch_edges
from deepmd.np.evaluator import NumPyEvaluator

SMALL = {"rcut": 4.0, "rcut_smth": 1.0, "sel": [12, 12], "neuron": [4, 8], "axis_neuron": 2}
DPA1 = {"type": "dpa1", **SMALL, "sel": 24, "tebd_dim": 4, "attn_layer": 0}
STRIP = {"tebd_input_mode": "strip"}
EXCLUDE = {"exclude_types": [[0, 1]]}


def made(descriptor, mean=0.3, **changes):
    model = build_model(
        {
            "type_map": ["A", "B"],
            "descriptor": {"seed": 1, **descriptor},
            "fitting_net": {"neuron": [5], "seed": 2},
            **changes,
        }
    )
    for part in model.atomic_model.descriptor.statistics_parts():
        part.davg[:, 0] = mean
    return model


def energy(model, coord, atype):
    batch = Batch.from_arrays(np.array([coord]), None, atype)
    batch.edges = batch_edges(batch, model.rcut)
    return NumPyEvaluator(model).evaluate(batch, derivatives=())["energy"][0, 0]


@pytest.mark.parametrize(
    ("descriptor", "mean", "jumps"),
    [
        ({"type": "se_e2_a", **SMALL, **EXCLUDE}, 0.3, True),
        ({"type": "se_e2_a", **SMALL, **EXCLUDE}, 0.0, False),
        ({"type": "se_e2_a", **SMALL}, 0.3, False),
        ({"type": "se_e3", **{k: v for k, v in SMALL.items() if "axis" not in k}, **EXCLUDE},
         0.3, False),
        ({**DPA1, **EXCLUDE, "set_davg_zero": False}, 0.3, True),
    ],
)  # fmt: skip
def test_jumps_of_excluded_neighbors(descriptor, mean, jumps):
    model = made(descriptor, mean)
    at = [energy(model, [[0, 0, 0], [1, 0, 0], [0, 0, z]], [0, 0, 1]) for z in (3.999, 4.001)]
    assert (abs(at[0] - at[1]) > 1e-6) == jumps
    assert sum("energies jump" in line for line in model.warnings()) == jumps


def test_a_pair_the_model_excludes_does_not_jump():
    descriptor = {"type": "se_e2_a", **SMALL, **EXCLUDE}
    assert not made(descriptor, pair_exclude_types=[[1, 0]]).warnings()


def test_components_of_a_hybrid_are_looked_at():
    parts = [{"type": "se_e2_a", **SMALL}, {"type": "se_e2_a", **SMALL, **EXCLUDE}]
    model = made({"type": "hybrid", "list": parts})
    assert ["energies jump" in line for line in model.warnings()] == [True]


@pytest.mark.parametrize(
    ("changes", "mean", "depends"),
    [
        ({"set_davg_zero": False}, 0.3, True),
        ({"set_davg_zero": False}, 0.0, False),
        ({"set_davg_zero": False, **STRIP}, 0.3, True),
        ({"set_davg_zero": False, **STRIP, "smooth_type_embedding": True}, 0.3, False),
    ],
)
def test_order_of_atoms(changes, mean, depends):
    model = made({**DPA1, **changes}, mean)
    coord = np.random.default_rng(0).uniform(0, 3, (4, 3))
    first, second = energy(model, coord, [0, 0, 1, 1]), energy(model, coord[::-1], [1, 1, 0, 0])
    assert (abs(first - second) > 1e-8) == depends
    assert sum("depend on the order" in line for line in model.warnings()) == depends


def test_training_says_it_once(work, caplog):
    config = work.config(numb_steps=2)
    config["model"]["descriptor"]["exclude_types"] = [[0, 1]]
    work.prepare(config).run()
    assert caplog.text.count("energies jump") == 1
