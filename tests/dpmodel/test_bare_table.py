# SPDX-License-Identifier: LGPL-3.0-or-later
"""Networks that give way to a pair table, where the bias is not the table's."""

import numpy as np
import pytest

from deepmd.dpmodel.model import Model, build_model
from deepmd.infer import DeepPot
from deepmd.np.evaluator import NumPyEvaluator
from deepmd.runtime.operations import is_by_hand
from deepmd.schema import normalize
from deepmd.testing.systems import randomize, small_system
from tests.members import section

#: Positions, cell and types; some atoms are near enough for the table.
COORD, CELL, TYPES = small_system(2, 4.0, n=6)
SWITCH = {"sw_rmin": 0.5, "sw_rmax": 4.0}


def _model(folder, **changes):
    given = {**section("zbl", folder), **SWITCH, **changes}
    data = {
        "model": given,
        "learning_rate": {"type": "exp", "start_lr": 1e-3, "stop_lr": 1e-5},
        "training": {"training_data": {"systems": ["x"]}, "numb_steps": 1},
    }
    return randomize(build_model(normalize(data)["model"]))


def _evaluated(model, coord=COORD, evaluator=NumPyEvaluator):
    found = DeepPot.from_evaluator(evaluator(model)).eval(coord[None], CELL, TYPES, atomic=True)
    energy, force, _, atomic = found[:4]
    return energy[0, 0], force[0], atomic[0, :, 0]


@pytest.mark.parametrize("asked", [{}, {"srtab_add_bias": True}])
def test_the_bias_is_added_to_both_by_default(asked, tmp_path):
    assert _model(tmp_path, **asked).serialize()["type"] == "zbl"


def test_the_bias_is_weighted_as_the_network_is(tmp_path):
    """The difference from the usual model is w_i times the bias, w_i that of the table."""
    usual, bare = _model(tmp_path), _model(tmp_path, srtab_add_bias=False)
    bias = usual.atomic_model.out_bias[0, :, 0][TYPES]
    np.testing.assert_array_equal(bare.atomic_model.out_bias, usual.atomic_model.out_bias)
    both = [_evaluated(m)[2] for m in (usual, bare)]
    # The weight of the table, from biases that it shares with the network and those it does not.
    shifted = _model(tmp_path, srtab_add_bias=False)
    shifted.atomic_model.out_bias += 1.0
    weight = 1.0 - (_evaluated(shifted)[2] - both[1])
    assert ((weight > 0.01) & (weight < 0.99)).sum() > 1
    np.testing.assert_allclose(both[0] - both[1], weight * bias, rtol=0, atol=1e-12)


def test_the_table_alone_has_no_bias(tmp_path):
    """Where only the table acts, atoms have its energies, whatever the bias is."""
    energies = []
    for shift in (0.0, 5.0):
        model = _model(tmp_path, srtab_add_bias=False, sw_rmin=5.0, sw_rmax=6.0)
        model.atomic_model.out_bias += shift
        energies.append(_evaluated(model)[2])
    np.testing.assert_array_equal(*energies)


def test_files_and_pytorch(tmp_path):
    """A dictionary gives the same model again; PyTorch evaluates it; C++ needs a program for it."""
    model = _model(tmp_path, srtab_add_bias=False)
    tree = model.serialize()
    assert tree["type"] == "zbl_bare_table"
    assert not is_by_hand(tree)
    again, want = Model.deserialize(tree), _evaluated(model)
    pytest.importorskip("torch")
    from deepmd.pt.evaluator import TorchEvaluator

    for found in (_evaluated(again), _evaluated(again, evaluator=TorchEvaluator)):
        for a, b in zip(found, want, strict=True):
            np.testing.assert_allclose(a, b, rtol=0, atol=1e-11)
