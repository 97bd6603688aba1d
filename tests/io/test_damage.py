# SPDX-License-Identifier: LGPL-3.0-or-later
"""Damage of model files is noticed, and hostile ones take neither time nor memory."""

import itertools
import json

import h5py
import numpy as np
import pytest

from deepmd.base.errors import InputError, ModelFileError
from deepmd.dpmodel.model import Model, build_model
from deepmd.dpmodel.nn.norm import LayerNorm
from deepmd.io import load_model
from deepmd.io.archive import packed, read_archive, read_npz
from deepmd.io.guard import check_model_tree, opening
from deepmd.io.hdf5 import check_heaps, open_hdf5
from deepmd.io.tree import difference
from deepmd.io.yaml import load
from deepmd.np.evaluator import open_model
from deepmd.runtime.probes import model_file_dict, write_model
from deepmd.schema.check import normalize_model

SECTION = {
    "type_map": ["O", "H"],
    "descriptor": {
        "type": "se_e2_a",
        "rcut": 4.0,
        "rcut_smth": 0.5,
        "sel": [8, 10],
        "neuron": [3, 6],
        "axis_neuron": 2,
        "seed": 1,
    },
    "fitting_net": {"neuron": [5, 5], "seed": 2},
}


@pytest.fixture
def model_file(tmp_path):
    data = model_file_dict(build_model(SECTION), SECTION, 0.9, "NumPy")
    for name in ("m.dp", "m.yaml"):
        write_model(tmp_path / name, data)
    return tmp_path / "m.dp"


def refused(path):
    with pytest.raises(ModelFileError) as caught:
        open_model(path)
    text = str(caught.value)
    assert text.startswith(str(path))
    assert "\n" not in text
    return text


def datasets(handle):
    return [handle[k] for k in handle if handle[k].size > 1]


def test_a_changed_number_is_noticed(model_file):
    with h5py.File(model_file, "r+") as handle:
        dataset = max(datasets(handle), key=lambda d: d.size)
        dataset[(0,) * dataset.ndim] = np.nextafter(dataset[(0,) * dataset.ndim], 9.0)
    assert "checksum differs" in refused(model_file)


def test_a_changed_setting_is_noticed(model_file):
    with h5py.File(model_file, "r+") as handle:
        handle.attrs["json"] = handle.attrs["json"].replace('"rcut":4.0', '"rcut":4.5')
    assert "checksum differs" in refused(model_file)


def test_a_changed_digit_of_yaml_is_noticed(model_file):
    path = model_file.with_suffix(".yaml")
    text = path.read_text()
    path.write_text(text.replace("rcut: 4.0", "rcut: 4.1", 1))
    assert "checksum differs" in refused(path)
    path.write_bytes(text.replace("\n", "\r\n").encode())
    open_model(path)


def test_probes_are_compared_where_there_is_no_checksum(model_file):
    with h5py.File(model_file, "r+") as handle:
        del handle.attrs["digest"]
    open_model(model_file)
    tree = load_model(model_file)
    with h5py.File(model_file, "r+") as handle:
        name = json.loads(handle.attrs["json"])["model"]["@variables"]["out_bias"]
        handle[name][...] += 1.0
    assert "of probe 0 differs" in refused(model_file)
    with h5py.File(model_file, "r+") as handle:
        stored = json.loads(handle.attrs["json"])
        del stored["probes"]
        handle.attrs["json"] = json.dumps(stored)
    edited = load_model(model_file)
    assert difference(tree["model"], edited["model"]) == "/@variables/out_bias"
    open_model(model_file)


def test_biases_as_rows(model_file):
    """Scripts and DeePMD-kit's TensorFlow write (1, n); also with the checksum of (n,)."""
    before = Model.deserialize(load_model(model_file)["model"]).serialize()
    with h5py.File(model_file, "r+") as handle:
        changed = 0
        for name in list(handle):
            value = handle[name][()]
            if np.ndim(value) == 1 and value.dtype == np.float64:
                del handle[name]
                handle[name] = value[None]
                changed += 1
    assert changed > 4
    tree = load_model(model_file)
    for frame in tree["probes"]["frames"]:  # their arrays are no biases
        frame["@variables"].clear()
    assert difference(before, Model.deserialize(tree["model"]).serialize()) is None


@pytest.mark.parametrize("compression", [None, "gzip"])
def test_a_small_file_that_claims_much(model_file, compression):
    with h5py.File(model_file, "r+") as handle:
        del handle["variable_0003"], handle.attrs["digest"]
        handle.create_dataset(
            "variable_0003", (3 * 10**8,), "f8", chunks=(10**5,), compression=compression
        )
    assert "claims 2,400,000,000 bytes" in refused(model_file)


def test_settings_of_another_size_make_no_arrays(model_file):
    tree = load_model(model_file)["model"]
    tree["fitting"]["neuron"] = [10**6, 10**6]
    with pytest.raises(ModelFileError, match="larger arrays"):
        Model.deserialize(tree)
    tree["fitting"]["neuron"] = [4, 4]
    with pytest.raises(ModelFileError, match="has shape"):
        Model.deserialize(tree)


@pytest.mark.parametrize(
    ("key", "value"),
    [("sel", "many"), ("sel", None), ("rcut", [1]), ("neuron", 10**30), ("axis_neuron", True)],
)
def test_settings_of_another_type(model_file, key, value):
    tree = load_model(model_file)["model"]
    tree["descriptor"][key] = value
    with pytest.raises(ModelFileError, match=f"{key} of Descriptor is"):
        Model.deserialize(tree)


def test_every_missing_or_strange_entry_is_a_model_file_error(model_file):
    tree = load_model(model_file)["model"]
    places = []

    def walk(node):
        for key, value in node.items() if isinstance(node, dict) else enumerate(node):
            places.append((node, key))
            if isinstance(value, (dict, list)):
                walk(value)

    walk(tree)
    refusals = 0
    values = itertools.cycle((None, "x", [], {}, -1))  # not all of them at every place: seconds
    for node, key in places:
        for strange in (next(values), next(values)):
            kept, node[key] = node[key], strange
            try:
                Model.deserialize(tree)
            except ModelFileError:
                refusals += 1
            node[key] = kept
    assert len(places) > 50
    assert refusals > 1.2 * len(places)


def test_null_networks_are_of_types_that_are_not_predicted():
    fitting = {"type": "dipole", "neuron": [5], "seed": 2, "sel_type": [0]}
    model = build_model({**SECTION, "fitting_net": fitting})
    data = model.serialize()
    data["fitting"]["nets"]["networks"][1] = None
    data["fitting"]["exclude_types"] = []
    again = Model.deserialize(data)
    assert again.serialize()["fitting"]["exclude_types"] == [1]
    assert again.atomic_model.sel_type() == [0]
    data["fitting"]["nets"]["networks"] = [None, None]
    with pytest.raises(ModelFileError, match="no networks"):
        Model.deserialize(data)


# -- YAML -----------------------------------------------------------------------------------------


def test_yaml_bombs(tmp_path):
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{k}: &a{k} [{', '.join([f'*a{k - 1}'] * 10)}]" for k in range(1, 12)]
    path = tmp_path / "m.yaml"
    path.write_text("\n".join([*lines, "model: {}"]))
    assert "too often" in refused(path)
    for text in ("[" * 200_000, "- " * 200_000, "? " * 200_000, "model: &a [*a]"):
        path.write_text(text)
        refused(path)


def test_yaml_values():
    text = "a: 2001-12-14\nb: !!str 5\nc: ~\nd: [1, 1.5, .inf, yes, 'yes']\n? e\n: &x {f: 1}\ng: *x"
    assert load(text) == {
        "a": "2001-12-14",
        "b": "5",
        "c": None,
        "d": [1, 1.5, float("inf"), True, "yes"],
        "e": {"f": 1},
        "g": {"f": 1},
    }
    for wrong in ("a: !!python/name:os.system x", "a: !!set {}", "a: *none", "[a]: 1"):
        with pytest.raises(ModelFileError):
            load(wrong)


# -- the door -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error", [KeyError("x"), RecursionError(), MemoryError(), OSError(5, "Input/output error")]
)
def test_foreign_exceptions_name_the_file(error):
    with pytest.raises(ModelFileError, match=r"^some/file: "), opening("some/file"):
        raise error


def test_input_errors_keep_their_class_and_get_the_file():
    with (
        pytest.raises(InputError, match=r"^some/file: fitting_net: wrong; mend it"),
        opening("some/file"),
    ):
        raise InputError("wrong", where="fitting_net", fix="mend it")


def test_trees_are_bounded():
    deep: list = []
    for _ in range(100):
        deep = [deep]
    with pytest.raises(ModelFileError, match="deeply"):
        check_model_tree(deep, 10**9)
    wide: list = [0] * 1000
    for _ in range(4):
        wide = [wide] * 100
    with pytest.raises(ModelFileError, match="too often"):
        check_model_tree(wide, 1000)
    check_model_tree({"a": [1, {"b": 2}]}, 10)


def test_a_heap_that_never_ends():
    whole = b"GCOL\x01\x00\x00\x00" + (64).to_bytes(8, "little")
    item = b"\x01\x00\x01\x00\x00\x00\x00\x00" + (5).to_bytes(8, "little") + b"text\x00\x00\x00\x00"
    free = bytes(8) + (24).to_bytes(8, "little") + bytes(8)
    check_heaps(bytes(16) + whole + item + free)
    with pytest.raises(ModelFileError, match="damaged"):
        check_heaps(bytes(16) + whole + item + bytes(24))


@pytest.mark.parametrize("libver", ["earliest", "latest"])
def test_a_text_longer_than_the_file(tmp_path, libver):
    path, text = tmp_path / "x.h5", "x" * 77
    with h5py.File(path, "w", libver=libver) as file:
        file.attrs["json"] = text
    data = path.read_bytes()
    at = data.index((77).to_bytes(4, "little"))
    path.write_bytes(data[:at] + (1 << 31).to_bytes(4, "little") + data[at + 4 :])
    with pytest.raises(ModelFileError, match="damaged"), opening(path), open_hdf5(path):
        pass
    path.write_bytes(data)
    with open_hdf5(path) as file:
        assert file.attrs["json"] == text


@pytest.mark.parametrize("array", [np.array([{}, 1]), np.array(["a"]), np.array([b"a"]), [0.0]])
def test_an_array_without_numbers(array):
    data = LayerNorm(1).serialize()
    data["@variables"]["b"] = array
    with pytest.raises(ModelFileError, match=r"b of LayerNorm (holds no numbers|is a list)"):
        LayerNorm.deserialize(data)


def test_a_section_that_describes_more_than_the_graph_holds(monkeypatch):
    from deepmd.graphs import files

    wide = {**SECTION, "fitting_net": {"neuron": [6_000_000], "type": "ener"}}
    monkeypatch.setattr(files, "raw_section", lambda graph: wide)
    monkeypatch.setattr(files, "describe", lambda *_: (normalize_model(wide), None, None, None))
    with pytest.raises(ModelFileError, match="larger arrays than the file holds"):
        files.model_of(None, lambda name: np.zeros(3), ["a", "b"])


# -- archives -------------------------------------------------------------------------------------


def test_archives(tmp_path):
    path, records = tmp_path / "a.pt", {"data.pkl": b"x" * 100, "data/0": b"y" * 50}
    whole = packed(records, path).getvalue()
    path.write_bytes(whole)
    assert read_archive(path) == records
    path.write_bytes(whole.replace(b"xxxx", b"xxxz", 1))
    with pytest.raises(ModelFileError, match="CRC"), opening(path):
        read_archive(path)
    path.write_bytes(packed({**records, "DATA.pkl": b""}, path).getvalue())
    with pytest.raises(ModelFileError, match="two records of one name"):
        read_archive(path)


def test_arrays_of_archives(tmp_path):
    np.savez(tmp_path / "a.npz", a=np.arange(6.0).reshape(2, 3), b=np.asfortranarray(np.eye(3)))
    whole = (tmp_path / "a.npz").read_bytes()
    stored = read_npz(whole)
    np.testing.assert_array_equal(stored["a"], np.arange(6.0).reshape(2, 3))
    np.testing.assert_array_equal(stored["b"], np.eye(3))
    np.savez(tmp_path / "b.npz", a=np.array([object()]))
    with pytest.raises(ModelFileError, match="does not fit"):
        read_npz((tmp_path / "b.npz").read_bytes())
