# SPDX-License-Identifier: LGPL-3.0-or-later
"""Reading input files, and inputs of older versions."""

import json

import pytest

from deepmd.base.errors import InputError
from deepmd.schema import load_input, normalize, upgrade


@pytest.fixture
def write(tmp_path):
    def write(name, text):
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return path

    return write


def test_comments_are_dropped_at_every_level(write):
    path = write("in.json", '{"_c": 1, "_c": 2, "a": {"_d": [1], "b": [{"_e": 0, "f": 1}]}}')
    assert load_input(path) == {"a": {"b": [{"f": 1}]}}


def test_yaml_reads_numbers_as_people_write_them(write):
    path = write("in.yaml", "a: 1e-3\nb: 3.5E-8\nc: [1, 2.0, -1e5]\nd: text\n_e: 1\n")
    assert load_input(path) == {"a": 1e-3, "b": 3.5e-8, "c": [1, 2.0, -1e5], "d": "text"}


BOMB = "a0: &a0 [x, x]\n" + "".join(
    f"a{k}: &a{k} [{', '.join([f'*a{k - 1}'] * 9)}]\n" for k in range(1, 12)
)
MERGES = "a0: &a0 {x: 1}\n" + "".join(
    f"a{k}: &a{k} {{<<: [{', '.join([f'*a{k - 1}'] * 9)}]}}\n" for k in range(1, 12)
)
WRONG = [
    ("in.json", '{"a": 1,\n "b" 2}', r"in\.json: line 2, column 6: not valid JSON"),
    ("in.json", '{"a": 1,\n', r"in\.json: line 2, column 1: not valid JSON"),
    ("in.json", '{"a": 1, "a": 2}', r'in\.json: key "a" is given twice'),
    ("in.json", '{"a": NaN}', r"in\.json: NaN is not a number"),
    ("in.json", "[1]", r"in\.json: one object with sections is expected, found a list"),
    ("in.yaml", "a: 1\nb: [1, 2\nc: 3", r"in\.yaml: line 3, column \d+: not valid YAML"),
    ("in.yaml", "a: 1\na: 2", r'in\.yaml: line 1: key "a" is given twice'),
    ("in.yaml", "1: 2", r"in\.yaml: line 1, column 1: not valid YAML \(key 1 is not text\)"),
    ("in.yaml", "!!python/object/apply:os.system ['true']", r"in\.yaml: line 1.*not valid YAML"),
    ("in.yaml", "", r"in\.yaml: one object with sections is expected, found null"),
    ("in.json", '{"a": {"b": [0, 1e400]}}', r"in\.json: a/b\[1\]: inf is not a number"),
    ("in.json", '{"seed": ' + "9" * 5000 + "}", r"in\.json: cannot be read, .*4300 digits"),
    ("in.json", '{"seed": ' + "9" * 30 + "}", r"in\.json: seed: found an integer beyond 64 bits"),
    ("in.json", '{"a": "\\ud800"}', r"in\.json: a: .* holds characters that no text file can"),
    ("in.json", '{"a": "x\\u0000"}', r"in\.json: a: .* holds characters that no text file can"),
    ("in.json", '{"\\ud800": 1}', r"in\.json: .* holds characters that no text file can"),
    ("in.json", "[" * 100_000, r"in\.json: is nested too deeply"),
    ("in.json", '{"a":' * 80 + "1" + "}" * 80, r"in\.json: is nested too deeply"),
    ("in.json", '{"a": [' + "0," * 1_100_000 + "0]}", r"in\.json: has more than 1,000,000 entries"),
    ("in.json", '{"a": "' + "x" * (1 << 24) + '"}', r"in\.json: has 16,777,\d+ bytes, at most"),
    ("in.yaml", "a: .inf", r"in\.yaml: a: inf is not a number"),
    ("in.yaml", "a: [.nan]", r"in\.yaml: a\[0\]: nan is not a number"),
    ("in.yaml", "a: !!binary eHg=", r"in\.yaml: a: a value of the kind bytes is not understood"),
    ("in.yaml", "a: !!set {b, c}", r"in\.yaml: a: a value of the kind set is not understood"),
    ("in.yaml", "a: !!timestamp x", r"in\.yaml: cannot be read"),
    ("in.yaml", "a: !!int x", r"in\.yaml: cannot be read"),
    ("in.yaml", "a: !!timestamp 2020-01-01", r"in\.yaml: a: a value of the kind date is not"),
    ("in.yaml", "[" * 5000, r"in\.yaml: is nested too deeply"),
    ("in.yaml", "a: &a [*a]", r"in\.yaml: is nested too deeply"),
    ("in.yaml", BOMB, r"in\.yaml: repeats its parts too often by aliases"),
    ("in.yaml", MERGES, r"in\.yaml: repeats its parts too often by aliases"),
    ("in.txt", "{}", r"in\.txt: unknown kind of input file; name it \.json"),
]


def test_dates_are_texts_and_aliases_are_values(write):
    path = write("in.yaml", "a: 2020-01-01\nb: 2020-13-45\nc: &c [1, 2]\nd: *c\ne: {<<: {f: 1}}\n")
    assert load_input(path) == {
        "a": "2020-01-01",
        "b": "2020-13-45",
        "c": [1, 2],
        "d": [1, 2],
        "e": {"f": 1},
    }


@pytest.mark.parametrize(("name", "text", "message"), WRONG, ids=range(len(WRONG)))
def test_files_that_are_no_input(write, name, text, message):
    with pytest.raises(InputError, match=message) as caught:
        load_input(write(name, text))
    assert "\n" not in str(caught.value)


def test_missing_file_folder_and_binary(tmp_path):
    with pytest.raises(InputError, match="not found"):
        load_input(tmp_path / "no.json")
    (tmp_path / "folder.json").mkdir()
    with pytest.raises(InputError, match="is a folder"):
        load_input(tmp_path / "folder.json")
    (tmp_path / "bin.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match=r"is not a text file .byte 0 is not UTF-8."):
        load_input(tmp_path / "bin.json")


V1 = {
    "model": {
        "type_map": ["O", "H"],
        "descriptor": {"type": "se_a", "sel": [46, 92], "rcut_smth": 5.8, "rcut": 6.0},
        "fitting_net": {"neuron": [24, 24], "seed": 1},
    },
    "learning_rate": {"type": "exp", "start_lr": 0.005, "decay_steps": 5000, "decay_rate": 0.95},
    "loss": {"start_pref_e": 0.02, "limit_pref_e": 1},
    "training": {
        "systems": ["data/"],
        "set_prefix": "set",
        "stop_batch": 1000000,
        "batch_size": [4],
        "auto_prob_style": "prob_sys_size; 0:1:1.0",
        "numb_test": 10,
        "disp_freq": 100,
        "warmup_steps": 10,
        "opt_type": "AdamW",
        "weight_decay": 0.5,
    },
}


def test_version_1():
    data = upgrade(V1)
    assert data["training"]["training_data"] == {
        "systems": ["data/"],
        "batch_size": [4],
        "auto_prob_style": "prob_sys_size; 0:1:1.0",
    }
    assert set(data["training"]) == {"training_data", "stop_batch", "disp_freq"}
    assert data["learning_rate"]["stop_lr"] == pytest.approx(0.005 * 0.95 ** (1000000 / 5000))
    assert "decay_rate" not in data["learning_rate"]
    assert data["learning_rate"]["warmup_steps"] == 10
    assert data["optimizer"] == {"type": "AdamW", "weight_decay": 0.5}
    done = normalize(V1)
    assert done["training"]["numb_steps"] == 1000000
    assert done["optimizer"]["adam_beta1"] == 0.9
    assert done["training"]["training_data"]["auto_prob"] == "prob_sys_size; 0:1:1.0"


def test_a_rate_that_overflows_is_left_to_the_check():
    rate = {"start_lr": 1.0, "decay_rate": 1e300, "decay_steps": 1}
    data = upgrade({"learning_rate": rate, "training": {"systems": ["a"], "stop_batch": 100}})
    assert data["learning_rate"]["decay_rate"] == 1e300


def test_upgrading_twice_and_upgrading_new_inputs_changes_nothing():
    once = upgrade(V1)
    assert upgrade(once) == once
    assert V1["training"]["numb_test"] == 10


def test_contradicting_places_are_refused():
    data = json.loads(json.dumps(V1))
    data["optimizer"] = {"type": "Adam"}
    with pytest.raises(InputError, match="opt_type"):
        upgrade(data)
    data = json.loads(json.dumps(V1))
    data["learning_rate"]["warmup_steps"] = 11
    with pytest.raises(InputError, match="warmup_steps"):
        upgrade(data)


def test_other_set_prefix_is_refused():
    data = json.loads(json.dumps(V1))
    data["training"]["set_prefix"] = "train"
    with pytest.raises(InputError, match=r"set\.\*"):
        upgrade(data)


def test_version_0():
    flat = {
        "use_smooth": True,
        "sel_a": [16, 32],
        "rcut": 6.0,
        "filter_neuron": [10, 20],
        "filter_resnet_dt": False,
        "n_axis_neuron": 4,
        "n_neuron": [24, 24],
        "resnet_dt": True,
        "type_map": ["O", "H"],
        "start_lr": 0.005,
        "decay_steps": 500,
        "decay_rate": 0.9,
        "start_pref_e": 0.1,
        "limit_pref_f": 2,
        "systems": ["a"],
        "set_prefix": "set",
        "batch_size": 1,
        "stop_batch": 1000,
        "disp_freq": 10,
        "seed": 3,
    }
    data = upgrade(flat)
    assert data["model"]["descriptor"] == {
        "type": "se_a",
        "sel": [16, 32],
        "rcut": 6.0,
        "rcut_smth": 6.0,
        "neuron": [10, 20],
        "axis_neuron": 4,
        "resnet_dt": False,
        "seed": 3,
    }
    assert data["model"]["fitting_net"] == {"neuron": [24, 24], "resnet_dt": True, "seed": 3}
    assert data["loss"] == {"start_pref_e": 0.1, "limit_pref_f": 2}
    assert data["learning_rate"]["stop_lr"] == pytest.approx(0.005 * 0.9**2)
    assert data["training"]["training_data"] == {"systems": ["a"], "batch_size": 1}
    assert data["training"]["stop_batch"] == 1000
    assert data["training"]["seed"] == 3


def test_hessian_loss_is_the_energy_loss():
    assert upgrade({"model": {}, "loss": {"type": "ener_hess"}})["loss"]["type"] == "ener"
