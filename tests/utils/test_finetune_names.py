# SPDX-License-Identifier: LGPL-3.0-or-later
"""Rules and sections of fine-tuning and multi-task as clients ask for them; facts of DeePMD-kit 3.2.0."""

import pytest

from deepmd.base.errors import InputError
from deepmd.utils.argcheck import type_embedding_args
from deepmd.utils.finetune import (
    FinetuneRuleItem,
    get_finetune_rules_from_model_params,
    get_index_between_two_maps,
    map_atom_exclude_types,
    map_pair_exclude_types,
)

DESCRIPTOR = {"type": "se_e2_a", "sel": [8, 8], "rcut": 4.0, "neuron": [4], "axis_neuron": 2}
FITTING = {"neuron": [4], "type": "ener"}
SINGLE = {"type_map": ["O", "H"], "descriptor": DESCRIPTOR, "fitting_net": FITTING}
OTHER = {**SINGLE, "fitting_net": {**FITTING, "neuron": [6]}}
SEVERAL = {"model_dict": {"a": {**SINGLE, "model_branch_alias": ["x"]}, "b": OTHER}}


def test_types_of_two_maps():
    rule = FinetuneRuleItem(["O", "H"], ["H", "O", "C"])
    assert rule.get_index_mapping() == [1, 0, -1]
    assert rule.get_has_new_type()
    assert rule.get_update_type()
    assert not FinetuneRuleItem(["O", "H"], ["O", "H"]).get_update_type()
    assert get_index_between_two_maps(["O", "H"], ["H", "C", "O", "N"]) == ([1, -3, 0, -1], True)
    assert map_atom_exclude_types([0, 1], [1, -2, 0]) == [2, 0]
    assert map_pair_exclude_types([(0, 1)], [1, -2, 0]) == [(2, 0)]


@pytest.mark.parametrize(
    ("pretrained", "section", "branch", "rules"),
    [
        (SINGLE, SINGLE, "", {"Default": ("Default", False, False)}),
        (SINGLE, SINGLE, "RANDOM", {"Default": ("Default", True, False)}),
        (SEVERAL, SINGLE, "", {"Default": ("a", True, False)}),
        (SEVERAL, SINGLE, "x", {"Default": ("a", False, False)}),
        (
            SEVERAL,
            {"model_dict": {"a": SINGLE, "n": {**SINGLE, "finetune_head": "b"}, "q": SINGLE}},
            "",
            {"a": ("a", False, True), "n": ("b", False, False), "q": ("a", True, False)},
        ),
    ],
)
def test_rules(pretrained, section, branch, rules):
    new, found = get_finetune_rules_from_model_params(pretrained, section, model_branch=branch)
    assert rules == {
        name: (rule.get_model_branch(), rule.get_random_fitting(), rule.get_resuming())
        for name, rule in found.items()
    }
    if "model_dict" in new:
        assert new["model_dict"]["n"]["fitting_net"]["neuron"] == [6]
    else:
        assert new["descriptor"]["neuron"] == [4]


def test_sections_stay_where_they_are_not_taken():
    section = {"type_map": ["O", "H"], "descriptor": {"type": "se_e2_a"}, "fitting_net": FITTING}
    kept, rules = get_finetune_rules_from_model_params(
        SEVERAL, section, model_branch="b", change_model_params=False
    )
    assert kept["descriptor"] == {"type": "se_e2_a"}
    assert rules["Default"].get_model_branch() == "b"
    with pytest.raises(InputError, match='no branch "zz"'):
        get_finetune_rules_from_model_params(SEVERAL, section, model_branch="zz")


def test_shared_parts():
    pytest.importorskip("torch")
    from deepmd.dpmodel.descriptor.se_e2_a import DescrptSeA
    from deepmd.pt.utils.multi_task import get_class_name, preprocess_shared_params

    parts = {"type_map": "t", "descriptor": "d", "fitting_net": "f"}
    model = {
        "shared_dict": {"t": ["O", "H"], "d": DESCRIPTOR, "f": FITTING},
        "model_dict": {"b": {**parts, "descriptor": "d:1", "fitting_net": FITTING}, "a": parts},
    }
    whole, links = preprocess_shared_params(model)
    assert whole["model_dict"]["b"]["descriptor"] == DESCRIPTOR
    assert whole["model_dict"]["a"]["type_map"] == ["O", "H"]
    assert links["d"]["type"] is DescrptSeA is get_class_name("descriptor", DESCRIPTOR)
    assert links["d"]["links"] == [
        {"model_key": "a", "shared_type": "descriptor", "shared_level": 0},
        {"model_key": "b", "shared_type": "descriptor", "shared_level": 1},
    ]
    assert [link["model_key"] for link in links["f"]["links"]] == ["a"]
    model["model_dict"]["b"]["type_map"] = ["O", "H"]
    model["model_dict"]["a"]["type_map"] = ["O", "H"]
    with pytest.raises(InputError, match="one type map"):
        preprocess_shared_params(model)


def test_keys_of_the_type_embedding():
    assert {a.name: a.default for a in type_embedding_args()} == {
        "neuron": [8],
        "activation_function": "tanh",
        "resnet_dt": False,
        "precision": "default",
        "trainable": True,
        "seed": None,
        "use_econf_tebd": False,
        "use_tebd_bias": False,
    }
