# SPDX-License-Identifier: LGPL-3.0-or-later
"""What composite models ask of their members, and take over from them."""

import copy
from unittest.mock import Mock

import numpy as np
import pytest

from deepmd.base.errors import InputError
from deepmd.dpmodel.model import Model, build_model
from deepmd.dpmodel.module import split
from deepmd.infer import DeepPot
from deepmd.io import load_model
from deepmd.np.evaluator import NumPyEvaluator
from deepmd.runtime.probes import write_model
from deepmd.testing.systems import randomize, small_system
from deepmd.train.statistics import given_bias
from tests.members import DESCRIPTORS, section


def _energies(given, **more):
    coord, cell, atype = small_system(2, 4.0, n=6)
    model = DeepPot.from_evaluator(NumPyEvaluator(randomize(build_model(given))))
    return [float(model.eval(coord[None], cell, atype, **m)[0][0, 0]) for m in (more, {})]


def test_charge_and_spin_of_a_member(tmp_path):
    given = section("zbl", tmp_path)
    charged = {"add_chg_spin_ebd": True, "default_chg_spin": [0.0, 1.0], "seed": 1}
    given["descriptor"] = DESCRIPTORS["dpa3"] | charged
    given["sw_rmin"], given["sw_rmax"] = 0.1, 0.2
    charge, default = _energies(given, charge_spin=np.array([[1.0, 2.0]]))
    assert np.isfinite([charge, default]).all()
    assert charge != default


def test_default_parameters_of_a_member(tmp_path):
    given = section("linear_ener", tmp_path)
    given["models"][0]["fitting_net"] |= {"numb_fparam": 1, "default_fparam": [0.5]}
    same, default = _energies(given, fparam=[0.5])
    assert same == default


def test_a_member_without_energies_is_refused(tmp_path):
    given = section("linear_ener", tmp_path)
    given["models"][0]["fitting_net"]["type"] = "dipole"
    with pytest.raises(InputError, match="models/0/fitting_net: predicts dipole, not energies"):
        build_model(given)


def test_a_bias_of_a_member(tmp_path):
    given = section("linear_ener", tmp_path)
    given["models"][0]["preset_out_bias"] = {"energy": [None, 1.0]}
    with pytest.raises(InputError, match="models/0/preset_out_bias: the bias is one of the sum"):
        build_model(given)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("linear_ener", {"models": []}, "model/models: names no model"),
        ("zbl", {"descriptor": {"type": "se_e2_a", "sel": [4, 4]}}, "model/descriptor: a sum of"),
        ("zbl", {"smin_alpha": 0.0}, "smin_alpha 0.0 is not greater than 0"),
    ],
)
def test_wrong_settings(name, change, message, tmp_path):
    with pytest.raises(InputError, match=message):
        build_model(section(name, tmp_path) | change)


def test_biases_of_an_output_that_there_is_not(tmp_path):
    model = build_model(section("se_e2_a", tmp_path) | {"preset_out_bias": {"enrgy": [0.0, 1.0]}})
    output = model.output_def()["energy"]
    with pytest.raises(
        InputError, match='the model predicts no "enrgy"; give the biases of energy'
    ):
        given_bias(model, output)


@pytest.fixture
def frozen(tmp_path):
    """Section of a sum of two networks, and that of the same sum whose first is a file."""
    given = section("linear_ener", tmp_path)
    given["models"] = [given["models"][0], copy.deepcopy(given["models"][0])]
    network = randomize(build_model({"type_map": given["type_map"], **given["models"][0]}))
    write_model(tmp_path / "first.dp", {"model": network.serialize(), "model_def_script": {}})
    file = {"type": "frozen", "model_file": str(tmp_path / "first.dp")}
    return given, {**given, "models": [file, given["models"][1]]}


def test_a_frozen_member(frozen):
    """It has the numbers of its file, and is neither trained nor given statistics of the data."""
    _, given = frozen
    model = build_model(given)
    first = load_model(given["models"][0]["model_file"])["model"]
    alone = DeepPot.from_evaluator(NumPyEvaluator(Model.deserialize(first)))
    network = build_model({"type_map": given["type_map"], **given["models"][1]})
    coord, cell, atype = small_system(2, 4.0, n=6)
    energies = [
        DeepPot.from_evaluator(NumPyEvaluator(m)).eval(coord[None], cell, atype)[0]
        for m in (model, network)
    ]
    mine = alone.eval(coord[None], cell, atype)[0]
    weight = 1.0 if given["weights"] == "sum" else 0.5
    np.testing.assert_allclose(energies[0], weight * (mine + energies[1]), rtol=1e-13)
    trained, fixed = split(model)
    assert not any("models.0." in name for name in trained)
    assert any("models.0." in name for name in fixed)
    assert any("models.1." in name for name in trained)
    given["models"][1] = given["models"][0]
    frames = Mock(spec=["without_pairs"])  # no member asks for one
    build_model(given).atomic_model.compute_statistics(frames)


def test_frozen_members_that_do_not_fit(frozen):
    _, given = frozen
    with pytest.raises(InputError, match=r"first\.dp: does not know the types Xe"):
        build_model({**given, "type_map": [*given["type_map"], "Xe"]})
    with pytest.raises(InputError, match="nothing to train"):
        build_model({"type_map": given["type_map"], **given["models"][0]})
    given["models"][0]["model_file"] += "x"
    with pytest.raises(InputError, match=r"first\.dpx"):
        build_model(given)
