# SPDX-License-Identifier: LGPL-3.0-or-later
"""Descriptors whose settings contradict each other, and what hybrids pass on."""

import copy

import numpy as np
import pytest

from deepmd.base.errors import InputError
from deepmd.dpmodel.model import build_model
from deepmd.infer import DeepPot
from deepmd.np.evaluator import NumPyEvaluator
from deepmd.testing.systems import randomize, small_system
from tests.members import DESCRIPTORS, SE_A, section

NOTHING = {f"update_g1_has_{name}": False for name in ("conv", "drrd", "grrg", "attn")}
WRONG = [
    ("dpa2", "repformer", {"axis_neuron": 5}, "5 is more than the 4 channels of atoms or pairs"),
    ("dpa2", "repformer", NOTHING, "atoms receive nothing from their neighbors"),
    ("dpa3", "repflow", {"axis_neuron": 5}, "5 is more than the 4 channels of atoms or edges"),
    ("dpa3", "repflow", {"a_compress_rate": 3}, "4, is no multiple of 6"),
    (
        "dpa3",
        "repflow",
        {"a_compress_rate": 1, "a_compress_e_rate": 4, "a_compress_use_split": True},
        "8 of the 4 components of edges cannot be taken",
    ),
    ("dpa3", "repflow", {"a_sel": 61}, "a_sel 61 is larger than e_sel 60"),
    ("dpa2", "repformer", {"rcut": 4.5}, "repformer/rcut: 4.5 is larger than the rcut of repinit"),
    (
        "dpa2",
        "repinit",
        {"use_three_body": True, "three_body_rcut": 5.0},
        "three_body_rcut: 5.0 is larger than the rcut of repinit, 4.0",
    ),
    ("dpa3", None, {"default_chg_spin": [1.0]}, "found 1 numbers, expected charge and mult"),
    ("dpa3", None, {"default_chg_spin": [0.5, 1.0]}, "charge 0.5 of frame 0; give a whole number"),
    ("hybrid", None, {"list": []}, "must name at least one descriptor"),
]


@pytest.mark.parametrize(("name", "part", "change", "message"), WRONG)
def test_wrong_settings(name, part, change, message, tmp_path):
    given = section(name, tmp_path)
    descriptor = given["descriptor"]
    (descriptor[part] if part else descriptor).update(change)
    with pytest.raises(InputError, match=message):
        build_model(given)


def test_charge_and_spin_of_a_member_of_a_hybrid(tmp_path):
    given = section("hybrid", tmp_path)
    charged = DESCRIPTORS["dpa3"] | {"add_chg_spin_ebd": True, "default_chg_spin": [0.0, 1.0]}
    given["descriptor"]["list"] = [copy.deepcopy(SE_A), charged | {"precision": "float64"}]
    model = DeepPot.from_evaluator(NumPyEvaluator(randomize(build_model(given))))
    coord, cell, atype = small_system(2, 4.0, n=6)
    charge, default = (
        model.eval(coord[None], cell, atype, charge_spin=c)[0] for c in ([[1.0, 2.0]], None)
    )
    assert np.abs(charge - default).max() > 1e-6
