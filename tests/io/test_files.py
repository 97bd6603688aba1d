# SPDX-License-Identifier: LGPL-3.0-or-later
"""Model files: exact round trips, and one clear line for anything else."""

import json

import h5py
import numpy as np
import pytest

from deepmd.base.errors import InputError, ModelFileError
from deepmd.base.files import calls
from deepmd.dpmodel.model import Model, build_model
from deepmd.io import load_model, save_model
from deepmd.io.tree import difference

SECTION = {
    "type_map": ["O", "H", "No"],
    "descriptor": {
        "type": "se_e2_a",
        "rcut": 4.0,
        "rcut_smth": 0.5,
        "sel": [4, 5, 2],
        "neuron": [3, 6],
        "axis_neuron": 2,
        "resnet_dt": True,
        "precision": "float32",
        "seed": 1,
    },
    "fitting_net": {"neuron": [5, 5], "seed": 2},
}


def tree():
    return {
        "software": "deepmd-kit",
        "model": build_model(SECTION).serialize(),
        "model_def_script": SECTION,
        "@variables": {"min_nbor_dist": np.asarray(0.9)},
        "odd": {
            "@variables": {
                "list": [np.arange(3), None, np.zeros((0, 4), np.float32)],
                "bool": np.array([True, False]),
                "nan": np.array([np.nan, np.inf, -0.0, 1e-300]),
            },
            "text": 'yes "quoted" \n ünicode',
            "numbers": [1, 2.5, 1e-7, None, True],
        },
    }


@pytest.mark.parametrize("suffix", [".dp", ".yaml", ".yml", ".DP"])
def test_round_trip_is_exact(tmp_path, suffix):
    path = tmp_path / f"sub/model{suffix}"
    save_model(path, tree())
    again = load_model(path)
    assert difference(tree(), again) is None
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_difference_sees_everything():
    def changed(**changes):
        return {"a": 1, "b": [np.zeros(2), None], "c": "x", **changes}

    a = changed()
    assert difference(a, changed()) is None
    assert difference(a, changed(b=[np.zeros(2, np.float32), None])) == "/b/0"
    assert difference(a, changed(b=[np.array([0, 1e-300]), None])) == "/b/0"
    assert difference(a, changed(b=[np.zeros((2, 1)), None])) == "/b/0"
    assert difference(a, changed(b=[np.zeros(2), 0.0])) == "/b/1"
    assert difference(a, changed(b=[np.zeros(2)])) == "/b"
    assert difference(a, changed(a=True)) == "/a"
    assert difference(a, changed(a=1.0)) == "/a"
    assert difference(a, {"b": a["b"], "a": 1, "c": "x"}) == "/"


def test_layout_of_dp_files(tmp_path):
    """The layout other programs read: see docs, and DeePMD-kit's own files."""
    path = tmp_path / "m.dp"
    save_model(path, tree())
    with h5py.File(path) as handle:
        names = list(handle)
        assert names == [f"variable_{k:04d}" for k in range(len(names))]
        stored = json.loads(handle.attrs["json"])
        assert stored["model"]["@variables"] == {
            "out_bias": "/variable_0000",
            "out_std": "/variable_0001",
        }
        net = stored["model"]["descriptor"]["embeddings"]["networks"][0]
        assert net["layers"][0]["@variables"]["idt"] is None
        assert handle["variable_0002"].dtype == np.float32
        assert stored["odd"]["@variables"]["list"][1] is None
        assert handle[stored["@variables"]["min_nbor_dist"]].shape == ()


def test_bytes_are_stored_as_they_are(tmp_path):
    path = tmp_path / "m.dp"
    data = {"model": {}, "@variables": {"program": b"\x00abc\x00\x00"}}
    save_model(path, data)
    assert load_model(path)["@variables"]["program"].tobytes() == b"\x00abc\x00\x00"


@pytest.mark.parametrize("name", ["se_e2_a_oneside.dp", "se_e2_a_oneside.yaml", "dpa2_basic.dp"])
@pytest.mark.parametrize("suffix", [".dp", ".yaml"])
def test_files_of_deepmd_kit_pass_through(reference, tmp_path, name, suffix):
    data = load_model(reference / "models" / name)
    save_model(tmp_path / f"m{suffix}", data)
    assert difference(data, load_model(tmp_path / f"m{suffix}")) is None


def test_dp_file_of_deepmd_kit_is_written_identically(reference, tmp_path):
    source = reference / "models/se_e2_a_oneside.dp"
    save_model(tmp_path / "m.dp", load_model(source))
    with h5py.File(source) as a, h5py.File(tmp_path / "m.dp") as b:
        assert json.loads(a.attrs["json"]) == json.loads(b.attrs["json"])
        assert list(a) == list(b)
        for key in a:
            assert a[key].dtype == b[key].dtype
            np.testing.assert_array_equal(a[key][()], b[key][()])


def test_hlo_files_hold_the_same_dictionary(reference):
    a = load_model(reference / "models/se_e2_a_oneside.dp")
    b = load_model(reference / "models/se_e2_a_oneside.hlo")
    assert difference(a["model"], b["model"]) is None


def test_yaml_and_dp_give_the_same_model(reference):
    a = Model.deserialize(load_model(reference / "models/se_e2_a_oneside.dp")["model"])
    b = Model.deserialize(load_model(reference / "models/se_e2_a_oneside.yaml")["model"])
    assert difference(a.serialize(), b.serialize()) is None


# -- what can go wrong ----------------------------------------------------------------------------


def message(path):
    with pytest.raises(ModelFileError) as caught:
        load_model(path)
    text = str(caught.value)
    assert str(path) in text
    assert "\n" not in text
    return text


def test_missing_folder_and_unknown_suffix(tmp_path):
    assert "not found" in message(tmp_path / "absent.dp")
    assert "not found" in message(tmp_path / "absent.yaml")
    (tmp_path / "d.dp").mkdir()
    assert "folder" in message(tmp_path / "d.dp")
    (tmp_path / "m.txt").write_text("x")
    assert ".yaml" in message(tmp_path / "m.txt")
    with pytest.raises(InputError, match="suffix"):
        save_model(tmp_path / "m.txt", tree())


def test_truncated_dp_files(tmp_path):
    path = tmp_path / "m.dp"
    save_model(path, tree())
    whole = path.read_bytes()
    for part in (0, 4, 100, 3000, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:part])
        message(path)


def test_damaged_dp_files_never_raise_anything_else(tmp_path):
    path = tmp_path / "m.dp"
    save_model(path, tree())
    whole = bytearray(path.read_bytes())
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(40):
        damaged = bytearray(whole)
        start = int(rng.integers(0, 4000))
        damaged[start : start + 64] = rng.bytes(64)
        path.write_bytes(damaged)
        try:
            load_model(path)
        except ModelFileError:
            refused += 1
    assert refused > 5


def test_foreign_files(tmp_path):
    path = tmp_path / "m.dp"
    path.write_text("this is not HDF5")
    assert "HDF5" in message(path)
    with h5py.File(path, "w") as handle:
        handle["x"] = 1.0
    assert "no model" in message(path)
    with h5py.File(path, "w") as handle:
        handle.attrs["json"] = '{"model": '
    assert "json" in message(path)
    with h5py.File(path, "w") as handle:
        handle.attrs["json"] = '{"model": {"@variables": {"w": "/variable_0000"}}}'
    assert "variable_0000" in message(path)
    with h5py.File(path, "w") as handle:
        handle.attrs["json"] = '{"other": 1}'
    assert "no model" in message(path)


def test_links_out_of_the_file_are_not_followed(tmp_path):
    with h5py.File(tmp_path / "secret.h5", "w") as handle:
        handle["w"] = np.ones(3)
    with h5py.File(tmp_path / "m.dp", "w") as handle:
        handle["variable_0000"] = h5py.ExternalLink(str(tmp_path / "secret.h5"), "/w")
        handle.attrs["json"] = '{"model": {"@variables": {"w": "/variable_0000"}}}'
    assert "variable_0000" in message(tmp_path / "m.dp")


@pytest.mark.parametrize(
    "text",
    ["[1, 2", "just text", "model: 3", "!!python/object/apply:os.system ['true']", "\x00"],
)
def test_foreign_yaml(tmp_path, text):
    path = tmp_path / "m.yaml"
    path.write_text(text)
    message(path)


def test_bad_array_in_yaml(tmp_path):
    path = tmp_path / "m.yaml"
    path.write_text("model: {'@variables': {w: {'@class': np.ndarray, dtype: object, value: [1]}}}")
    assert "array" in message(path)


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "m.dp"
    save_model(path, tree())
    before = path.read_bytes()

    def broken(_path):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(calls, "fsync", broken)
    with pytest.raises(OSError, match="No space"):
        save_model(path, {**tree(), "software": "other"})
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["m.dp"]
