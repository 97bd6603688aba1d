# SPDX-License-Identifier: LGPL-3.0-or-later
"""Biases that the input fixes, for every kind of output and model."""

import members
import numpy as np
import pytest

from deepmd.dpmodel.batch import Batch
from deepmd.dpmodel.model import build_model
from deepmd.dpmodel.neighbors import batch_edges
from deepmd.train.statistics import change_bias, keep_given_bias, output_bias

NAMES = ("se_e2_a", "dos", "polar", "property", "linear_ener", "zbl", "spin")


def labeled(model, variable):
    """Batches of two compositions, with labels of frames."""
    rng = np.random.default_rng(0)
    for types in ([0, 1, 1, 0], [0, 1, 1, 1]):
        coord = np.array([[[0.0, 0, 0], [1.2, 0, 0], [0, 1.2, 0], [1.2, 1.2, 0.5]]] * 3)
        batch = Batch.from_arrays(coord + 0.1 * rng.random(coord.shape), None, types)
        batch.labels = {variable.label_name: rng.normal(size=(3, variable.size))}
        batch.find = {variable.label_name: 1.0}
        if model.has_spin():
            batch.spin = rng.normal(size=(batch.n_atoms, 3))
        batch.edges = batch_edges(batch, model.rcut)
        yield batch


@pytest.fixture(params=NAMES)
def model(request, tmp_path):
    """A model in which the bias of the second type is fixed."""
    section = members.section(request.param, tmp_path)
    (variable,) = build_model(dict(section)).output_def().get_data().values()
    fixed = np.linspace(1.0, 2.0, variable.size)
    section = members.section(request.param, tmp_path)
    return build_model(section | {"preset_out_bias": {variable.name: [None, fixed.tolist()]}})


def checked(model, bias):
    """Return the bias of the first type; that of the second must be the fixed one."""
    size = bias.shape[1]
    assert np.array_equal(bias[1], np.linspace(1.0, 2.0, size))
    return bias[0]


def test_fitted(model):
    (variable,) = model.output_def().get_data().values()
    bias, _ = output_bias(model, variable, list(labeled(model, variable)))
    assert checked(model, bias).any()


def test_changed(model):
    (variable,) = model.output_def().get_data().values()
    change_bias(model, labeled(model, variable))
    first = checked(model, model.atomic_model.out_bias[0, :, : variable.size])
    assert first.any()


def test_taken_from_another_model(model):
    (variable,) = model.output_def().get_data().values()
    model.atomic_model.out_bias[:] = 0.5
    keep_given_bias(model)
    first = checked(model, model.atomic_model.out_bias[0, :, : variable.size])
    assert (first == 0.5).all()
