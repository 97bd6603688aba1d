# SPDX-License-Identifier: LGPL-3.0-or-later
"""Normalization of the input: defaults, aliases, and every kind of mistake on one line."""

import copy
import json
from typing import Any

import pytest

from deepmd.base.errors import InputError, NotAvailableError
from deepmd.schema import gen_args, normalize
from deepmd.schema.registry import ArgsRegistry

GOOD: dict[str, Any] = {
    "model": {
        "type_map": ["O", "H"],
        "descriptor": {
            "type": "se_e2_a",
            "sel": [46, 92],
            "rcut": 6.0,
            "rcut_smth": 0.5,
            "neuron": [25, 50, 100],
            "axis_neuron": 16,
            "seed": 1,
        },
        "fitting_net": {"neuron": [240, 240, 240], "resnet_dt": True, "seed": 1},
    },
    "learning_rate": {"type": "exp", "start_lr": 1e-3, "stop_lr": 3.5e-8, "decay_steps": 5000},
    "loss": {"type": "ener", "start_pref_e": 0.02, "limit_pref_e": 1},
    "training": {
        "training_data": {"systems": ["a", "b"], "batch_size": "auto"},
        "validation_data": {"systems": ["c"], "batch_size": 1, "numb_btch": 3},
        "numb_steps": 1000,
    },
}


def changed(path: str, value: Any) -> dict[str, Any]:
    """Return the good input with one key set, or removed for None."""
    data = copy.deepcopy(GOOD)
    *parents, key = path.split("/")
    section = data
    for parent in parents:
        section = section.setdefault(parent, {})
    if value is None:
        section.pop(key)
    else:
        section[key] = value
    return data


def test_defaults_are_filled_in_and_given_values_kept():
    data = normalize(GOOD)
    descriptor = data["model"]["descriptor"]
    assert descriptor["sel"] == [46, 92]
    assert descriptor["activation_function"] == "tanh"
    assert descriptor["env_protection"] == 0.0
    assert data["model"]["type"] == "standard"
    assert data["model"]["fitting_net"]["type"] == "ener"
    assert data["optimizer"] == {
        "type": "Adam",
        "adam_beta1": 0.9,
        "adam_beta2": 0.999,
        "weight_decay": 0.0,
    }
    assert data["validating"]["full_validation"] is False
    assert data["training"]["sel_overflow"] == "warn"
    assert data["loss"]["start_pref_f"] == 1000
    assert "seed" not in data["training"]


def test_the_given_input_is_not_changed_and_normalizing_twice_changes_nothing():
    before = copy.deepcopy(GOOD)
    once = normalize(GOOD)
    assert before == GOOD
    assert normalize(once) == once
    json.dumps(once)


def test_defaults_are_not_shared():
    normalize(GOOD)["model"]["pair_exclude_types"].append([0, 0])
    assert normalize(GOOD)["model"]["pair_exclude_types"] == []


def test_aliases():
    data = changed("training/numb_steps", None)
    data["training"]["stop_batch"] = 7
    data["model"]["descriptor"]["type"] = "se_a"
    data["model"]["descriptor"]["n_axis_neuron"] = data["model"]["descriptor"].pop("axis_neuron")
    data = normalize(data)
    assert data["training"]["numb_steps"] == 7
    assert data["model"]["descriptor"]["type"] == "se_e2_a"
    assert data["model"]["descriptor"]["axis_neuron"] == 16


@pytest.mark.parametrize("strip", [True, False])
def test_older_name_of_the_mode_of_type_embeddings(strip):
    data = normalize(changed("model/descriptor", {**DPA1, "stripped_type_embedding": strip}))
    descriptor = data["model"]["descriptor"]
    assert descriptor["tebd_input_mode"] == ("strip" if strip else "concat")
    assert normalize(data)["model"]["descriptor"] == descriptor


def test_two_modes_of_type_embeddings_are_told(caplog):
    both = {**DPA1, "stripped_type_embedding": True, "tebd_input_mode": "concat"}
    descriptor = normalize(changed("model/descriptor", both))["model"]["descriptor"]
    assert descriptor["tebd_input_mode"] == "strip"
    assert "model/descriptor: stripped_type_embedding, that is strip, counts" in caplog.text


def test_missing_loss_follows_from_the_fitting():
    assert normalize(changed("loss", None))["loss"]["type"] == "ener"


@pytest.mark.parametrize("sel", ["auto", "auto:1.3", [1, 0]])
def test_sel(sel):
    assert normalize(changed("model/descriptor/sel", sel))["model"]["descriptor"]["sel"] == sel


DPA1 = {"type": "dpa1", "sel": 20}
OF_DPA1 = "model/descriptor/"
NO_TERMS = {f"{when}_pref_{term}": 0 for when in ("start", "limit") for term in "ef"}
WRONG = [
    ("modl", {}, 'modl: unknown key; did you mean "model"?'),
    ("model", None, 'required key "model" is missing'),
    ("model", 3, "model: an object is expected, found 3"),
    (
        "model/descriptor/rcut_smt",
        1.0,
        'model/descriptor/rcut_smt: unknown key; did you mean "rcut_smth"?',
    ),
    (
        "training/training_data/sistems",
        [],
        'training/training_data/sistems: unknown key; did you mean "systems"?',
    ),
    ("loss/start_pref", 1, "loss/start_pref: unknown key; did you mean"),
    ("model/descriptor/rcut", "6", 'model/descriptor/rcut: a number is expected, found "6"'),
    ("model/descriptor/rcut", True, "model/descriptor/rcut: a number is expected, found true"),
    ("model/descriptor/rcut", -1.0, "model/descriptor/rcut: -1.0 must be greater than 0"),
    (
        "model/descriptor/rcut_smth",
        7.0,
        "model/descriptor/rcut_smth: must be less than rcut (6.0), found 7.0",
    ),
    (
        "model/descriptor/sel",
        [46, "a"],
        'model/descriptor/sel/1: a whole number is expected, found "a"',
    ),
    ("model/descriptor/sel", 46, "model/descriptor/sel: a list or text is expected, found 46"),
    (
        "model/descriptor/sel",
        [46],
        "model/descriptor/sel: one value per type is expected, found 1 for 2 types (O, H)",
    ),
    ("model/descriptor/sel", "auto:0.5", 'model/descriptor/sel: "auto:0.5" must be'),
    (
        "model/descriptor/neuron",
        [25, 2.5],
        "model/descriptor/neuron/1: a whole number is expected, found 2.5",
    ),
    (
        "model/descriptor/axis_neuron",
        200,
        "model/descriptor/axis_neuron: 200 is more than the 100 channels",
    ),
    (
        "model/descriptor/type",
        None,
        'model/descriptor: required key "type" is missing; available: ',
    ),
    (
        "model/descriptor/type",
        "se_e2_aa",
        'model/descriptor/type: unknown descriptor "se_e2_aa"; did you mean "se_e2_a"?',
    ),
    ("model/descriptor/type", 3, "model/descriptor/type: text is expected, found 3"),
    (
        "model/descriptor/exclude_types",
        [[0, 2]],
        "model/descriptor/exclude_types: type 2 does not exist",
    ),
    (
        "model/descriptor/exclude_types",
        [[0]],
        "model/descriptor/exclude_types: [[0]] must be a list of pairs",
    ),
    (
        "model/descriptor/activation_function",
        "tan",
        'model/descriptor/activation_function: "tan" must be one of',
    ),
    ("model/descriptor/precision", "double", 'model/descriptor/precision: "double" must be one of'),
    ("model/type_map", ["O", "O"], "model/type_map: ['O', 'O'] must name"),
    ("model/atom_exclude_types", [5], "model/atom_exclude_types: type 5 does not exist"),
    (
        "model/preset_out_bias",
        {"energy": [None]},
        "model/preset_out_bias/energy: one value per type",
    ),
    (
        "model/fitting_net/trainable",
        [True, 3],
        "model/fitting_net/trainable/1: true or false is expected, found 3",
    ),
    ("model/fitting_net/atom_ener", [1.0], "model/fitting_net/atom_ener: one value per type"),
    ("learning_rate", None, 'required section "learning_rate" is missing'),
    ("learning_rate/start_lr", None, 'learning_rate: required key "start_lr" is missing'),
    ("learning_rate/start_lr", 0.0, "learning_rate/start_lr: 0.0 must be greater than 0"),
    (
        "learning_rate/stop_lr_ratio",
        0.1,
        'learning_rate: "stop_lr" and "stop_lr_ratio" exclude each other',
    ),
    ("learning_rate/decay_rate", 1.5, "learning_rate/decay_rate: 1.5 must be in (0, 1]"),
    ("learning_rate/decay_steps", 0, "learning_rate/decay_steps: 0 must be greater than 0"),
    (
        "learning_rate/type",
        "expo",
        'learning_rate/type: unknown learning rate "expo"; did you mean "exp"?',
    ),
    ("optimizer/type", "adam", 'optimizer/type: unknown optimizer "adam"; did you mean'),
    ("training/numb_steps", None, "training: the length of the training is missing"),
    ("training/numb_epoch", 3, 'training: "numb_steps" and "numb_epoch" exclude each other'),
    ("training/stop_batch", 3, 'training: "numb_steps" and "stop_batch" are the same key'),
    ("training/training_data", None, 'training: required key "training_data" is missing'),
    (
        "training/training_data/systems",
        None,
        'training/training_data: required key "systems" is missing',
    ),
    ("training/training_data/systems", [], "training/training_data/systems: [] names no system"),
    (
        "training/training_data/batch_size",
        "autto",
        'training/training_data/batch_size: "autto" must be',
    ),
    ("training/training_data/auto_prob", "prob_sys_size;1:2", "training/training_data/auto_prob:"),
    (
        "training/stat_file_mode",
        "read",
        'training/stat_file_mode: "read" needs a file of statistics',
    ),
    ("training/seed", -1, "training/seed: -1 must be 0 or greater"),
    ("loss/f_use_norm", True, "loss/f_use_norm: needs absolute values"),
    ("loss/huber_delta", [0.1], "loss/huber_delta: [0.1] must be one number or three"),
    ("loss/start_pref_gf", 1.0, "loss/numb_generalized_coord: must be 1 or greater"),
    ("loss", NO_TERMS, "loss: nothing is compared; give a prefactor a positive value"),
    ("model/descriptor/neuron", [], "model/descriptor/neuron: [] every width must be greater"),
    ("model/fitting_net/rcond", -1.0, "model/fitting_net/rcond: -1.0 must be 0 or greater"),
    ("learning_rate/stop_lr", 1.0, "learning_rate/stop_lr: 1.0 is more than start_lr, 0.001"),
    ("model/descriptor", {**DPA1, "scaling_factor": 0.0}, f"{OF_DPA1}scaling_factor: 0.0 must be"),
    ("model/descriptor", {**DPA1, "temperature": 0.0}, f"{OF_DPA1}temperature: 0.0 must be"),
    ("model/descriptor", {**DPA1, "ln_eps": -1e-5}, f"{OF_DPA1}ln_eps: -1e-05 must be"),
    ("validating/validation_metric", "E:MAX", 'validating/validation_metric: "E:MAX" must be'),
]


@pytest.mark.parametrize(("path", "value", "message"), WRONG)
def test_mistakes(path, value, message):
    with pytest.raises(InputError) as caught:
        normalize(changed(path, value), file="in.json")
    text = str(caught.value)
    assert text.startswith(f"in.json: {message}")
    assert "\n" not in text


def test_two_lengths_of_the_warm_up():
    data = changed("learning_rate/warmup_steps", 5)
    data["learning_rate"]["warmup_ratio"] = 0.1
    with pytest.raises(InputError, match='"warmup_steps" and "warmup_ratio" exclude each other'):
        normalize(data)


def test_members_name_shared_parts():
    shared = {"names": ["O", "H"], "seen": DPA1, "net": {"neuron": [7]}}
    hybrid = {"type": "hybrid", "list": ["seen", DPA1]}
    members = [{"descriptor": "seen:0", "fitting_net": "net"}, {"descriptor": hybrid}]
    members[0]["type_map"], members[1]["fitting_net"] = "names", {}
    model = {"type": "linear_ener", "type_map": ["O", "H"], "weights": "sum", "shared_dict": shared}
    first, second = normalize(changed("model", {**model, "models": members}))["model"]["models"]
    assert (first["type_map"], first["fitting_net"]["neuron"]) == (["O", "H"], [7])
    assert [d["type"] for d in (first["descriptor"], *second["descriptor"]["list"])] == [
        "se_atten"
    ] * 3
    members[1]["fitting_net"] = "nett"
    with pytest.raises(
        InputError, match=r'models/1/fitting_net: shared_dict has no "nett"; .*"net"'
    ):
        normalize(changed("model", {**model, "models": members}))


SUM = {"type": "linear_ener", "weights": "sum", "models": [{"type": "linear_ener"}]}
NESTED = [
    ("model/descriptor", {"type": "hybrid", "list": [{"type": "hybrid"}]}, "descriptor", "hybrid"),
    ("model", SUM, "model", "linear_ener"),
]


@pytest.mark.parametrize(("path", "value", "kind", "name"), NESTED)
def test_what_cannot_be_nested(path, value, kind, name):
    with pytest.raises(InputError, match=f'/0/type: {kind} "{name}" cannot be inside') as caught:
        normalize(changed(path, value))
    assert "standard" in caught.value.fix or "se_e2_a" in caught.value.fix
    assert name not in caught.value.fix


NOT_BUILT = [
    ("model/descriptor/type", "DPA4C"),
    ("model/fitting_net/type", "dpa4_ener"),
    ("loss/type", "dens"),
    ("nvnmd", {"enable": True}),
]


@pytest.mark.parametrize(("path", "value"), NOT_BUILT)
def test_known_but_not_built(path, value):
    data = changed(path, value)
    if not path.startswith("loss/"):
        data.pop("loss")
    if path in ("model/descriptor/type", "model/type"):
        # the keys of the type are unknown here too; the type must be reported first
        data["model"]["descriptor"]["unheard_of"] = 1
    with pytest.raises(NotAvailableError, match="known but not built yet") as caught:
        normalize(data)
    assert path in str(caught.value)


@pytest.mark.parametrize("multi_task", [False, True])
def test_tree_has_docs_everywhere(multi_task):
    def walk(argument):
        assert argument.doc, argument.name
        for sub in argument.sub_fields.values():
            walk(sub)
        for variant in argument.sub_variants.values():
            for choice in variant.choice_dict.values():
                for sub in choice.sub_fields.values():
                    walk(sub)

    for section in gen_args(multi_task=multi_task):
        walk(section)


def test_registry_refuses_two_components_of_one_name():
    registry = ArgsRegistry("thing")
    registry.register("a", alias=["b"])(list)
    assert "b" in registry
    assert registry.get_all_argument()[0].alias == ("b",)
    registry.register("a")(list)
    with pytest.raises(ValueError, match='thing "a" is registered'):
        registry.register("a")(dict)


def test_reference_inputs_of_built_components_are_accepted(reference):
    accepted = 0
    for path in sorted(reference.glob("train/*/input.json")):
        data = json.loads(path.read_text())
        data.pop("_batches", None)
        try:
            normalize({k: v for k, v in data.items() if not k.startswith("_")})
            accepted += 1
        except NotAvailableError:
            pass
    assert accepted > 0
