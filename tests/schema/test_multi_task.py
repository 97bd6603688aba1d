# SPDX-License-Identifier: LGPL-3.0-or-later
"""Multi-task inputs: names of branches, shared parts, what errors say."""

import copy
import json

import pytest

from deepmd.base.errors import InputError
from deepmd.schema import normalize
from deepmd.schema.multi_task import references, resolved

DESCRIPTOR = {"type": "se_e2_a", "sel": [20, 30], "rcut": 3.5, "rcut_smth": 2.0}
INPUT = {
    "model": {
        "shared_dict": {"types": ["A", "B"], "des": DESCRIPTOR, "fit": {"dim_case_embd": 2}},
        "model_dict": {
            "ice": {"type_map": "types", "descriptor": "des", "fitting_net": "fit"},
            "gas": {"type_map": "types", "descriptor": "des:0", "fitting_net": "fit"},
        },
        "data_stat_nbatch": 3,
    },
    "learning_rate": {"type": "exp", "start_lr": 0.01},
    "training": {
        "data_dict": {
            "ice": {"training_data": {"systems": ["a"]}},
            "gas": {"training_data": {"systems": ["b"]}, "stat_file": "stat"},
        },
        "numb_steps": 10,
    },
}


def changed(path, value):
    """Return the input with another value at a path; None removes it."""
    data = copy.deepcopy(INPUT)
    *place, key = path.split("/")
    node = data
    for name in place:
        node = node[name]
    if value is None:
        node.pop(key)
    else:
        node[key] = value
    return data


def test_shared_parts_stay_shared_and_get_defaults():
    data = normalize(INPUT)
    model = data["model"]
    assert model["model_dict"]["gas"]["descriptor"] == "des:0"
    assert model["shared_dict"]["des"]["axis_neuron"] == 4
    assert model["shared_dict"]["fit"]["type"] == "ener"
    sections = resolved(model)
    assert sections["ice"]["descriptor"] is sections["gas"]["descriptor"]
    assert sections["gas"]["type_map"] == ["A", "B"]
    again = normalize(json.loads(json.dumps(data)))
    assert again == data


def test_keys_beside_the_branches_are_their_defaults():
    data = changed("model/model_dict/gas/data_stat_nbatch", 5)
    branches = normalize(data)["model"]["model_dict"]
    assert branches["ice"]["data_stat_nbatch"] == 3
    assert branches["gas"]["data_stat_nbatch"] == 5


def test_losses_follow_from_fittings():
    fitting = {"type": "property", "property_name": "band", "dim_case_embd": 2}
    data = normalize(changed("model/model_dict/gas/fitting_net", fitting))
    assert list(data["loss_dict"]) == ["ice", "gas"]
    assert [loss["type"] for loss in data["loss_dict"].values()] == ["ener", "property"]


def test_elements_of_a_hybrid_may_be_shared():
    own = {"type": "se_e2_r", "sel": [20, 30], "rcut": 3.0, "rcut_smth": 2.0}
    hybrid = {"type": "hybrid", "list": ["des", own]}
    data = normalize(changed("model/model_dict/gas/descriptor", hybrid))["model"]
    assert data["model_dict"]["gas"]["descriptor"]["list"][0] == "des"
    assert data["model_dict"]["gas"]["descriptor"]["list"][1]["set_davg_zero"] is False
    places = {use.place for use in references(data) if use.branch == "gas"}
    assert ("descriptor", "list", 0) in places


WRONG = [
    ("model/model_dict/gas/descriptor", "dess", "gas/descriptor: shared_dict", "des"),
    ("model/model_dict/gas/descriptor", "des:x", "gas/descriptor", '"x" is no level'),
    ("model/shared_dict/des/rcut_smt", 1.0, "model/shared_dict/des/rcut_smt", "unknown key"),
    ("model/shared_dict/des/rcut_smth", 9.0, "model/shared_dict/des/rcut_smth", "must be less"),
    ("model/shared_dict/fit/dim_case_embd", 1, "model/model_dict", "1 for 2 branches"),
    ("model/model_dict/gas/fitting_net", {}, "model/model_dict", "differs between branches"),
    ("model/model_dict/gas/data_stat_protect", 0.1, "model/model_dict", "ice 0.01, gas 0.1"),
    ("model/model_dict/RANDOM", {}, "model/model_dict", "cannot be the name"),
    ("model/model_dict/a.b", {}, "model/model_dict", "cannot be the name"),
    ("model/model_dict/gas/model_branch_alias", ["ICE"], "model_branch_alias", "branch ice"),
    ("model/model_dict/gas/finetune_head", 1, "gas/finetune_head", "text is expected"),
    ("model/model_dict/gas/pair_exclude_types", [[0, 7]], "gas/pair_exclude_types", "type 7"),
    ("model/model_dict/Ice", {}, "training/data_dict", "Ice is missing"),
    ("model/shared_dict", 3, "model/shared_dict", "an object is expected"),
    ("model/model_dict", {}, "model/model_dict", "no branch"),
    ("loss_dict", {"gass": {}}, "loss_dict", "did you mean"),
    ("loss_dict", {"gas": {"start_pref": 1}}, "loss_dict/gas/start_pref", "unknown key"),
    ("loss", {}, "loss", "loss_dict"),
    ("training/data_dict/gas", None, "training/data_dict", "gas is missing"),
    ("training/data_dict/gas/training_data", {}, "data_dict/gas/training_data", "systems"),
    ("training/data_dict/ice/stat_file_mode", "read", "data_dict/ice/stat_file_mode", "needs"),
    ("training/model_prob", {"ice": 1.0}, "training/model_prob", "gas is missing"),
    ("training/model_prob", {"ice": 1.0, "gas": 0.0}, "training/model_prob", "greater than 0"),
    ("training/num_epoch_dict", {"ice": 1.0, "gas": 1.0}, "training", "exclude each other"),
    ("training/numb_epoch", 3, "training/numb_epoch", "num_epoch_dict"),
    ("training/numb_steps", None, "training", "length of the training"),
    ("training/stat_file", "x", "training/stat_file", "training/data_dict/ice"),
    ("training/data_dict", None, "training", "data_dict"),
    ("validating", {"full_validation": True}, "validating/full_validation", "one task"),
]


@pytest.mark.parametrize(("path", "value", "where", "what"), WRONG)
def test_errors_name_what_stands_in_the_input(path, value, where, what):
    with pytest.raises(InputError) as caught:
        normalize(changed(path, value))
    assert str(caught.value).startswith("input.json: ")
    assert where in str(caught.value)
    assert what in str(caught.value)
    assert "\n" not in str(caught.value)


def test_parts_that_nobody_names_are_told(caplog):
    normalize(changed("model/shared_dict/spare", {}))
    assert "model/shared_dict/spare: no branch names this part" in caplog.text
