# SPDX-License-Identifier: LGPL-3.0-or-later
"""Graphs and checkpoints of TensorFlow as nodes and arrays."""

import itertools

import numpy as np
import pytest
from conftest import REFERENCE

pytest.importorskip("google.protobuf", reason="protobuf is not installed")

from deepmd.base.errors import ModelFileError
from deepmd.io.graph import read_bundle, read_graph, read_meta_graph, write_graph
from deepmd.io.graph.bundle import checksum
from deepmd.io.graph.messages import MESSAGES, message

FOLDER = REFERENCE / "checkpoints" / "tf_checkpoint" if REFERENCE else None


def constant(raw, name, array, **given):
    """Add a constant to a GraphDef; ``given`` are fields of its tensor besides the array's bytes."""
    node = raw.node.add(name=name, op="Const")
    tensor = node.attr["value"].tensor
    tensor.dtype = {"f": {4: 1, 8: 2, 2: 19}, "i": {4: 3, 8: 9}}[array.dtype.kind][array.itemsize]
    for n in array.shape:
        tensor.tensor_shape.dim.add(size=n)
    for field, value in (given or {"tensor_content": array.tobytes()}).items():
        if isinstance(value, list):
            getattr(tensor, field).extend(value)
        else:
            setattr(tensor, field, value)
    return node


@pytest.fixture
def raw():
    return message("GraphDef")


def written(raw, tmp_path, name="graph.pb"):
    write_graph(tmp_path / name, raw)
    return read_graph(tmp_path / name)


def test_declarations_are_those_of_tensorflow():
    """Name, number, type and label of every field that is declared."""
    pytest.importorskip("tensorflow", reason="tensorflow is not installed")
    from tensorflow.core.framework import graph_pb2
    from tensorflow.core.protobuf import meta_graph_pb2, tensor_bundle_pb2

    roots = (
        graph_pb2.GraphDef,
        meta_graph_pb2.MetaGraphDef,
        tensor_bundle_pb2.BundleHeaderProto,
        tensor_bundle_pb2.BundleEntryProto,
    )
    todo, theirs = [r.DESCRIPTOR for r in roots], {}
    while todo:
        found = todo.pop()
        if found.full_name not in theirs:
            theirs[found.full_name] = found
            todo += [f.message_type for f in found.fields if f.message_type]
    by_name = {name.rpartition(".")[2]: d for name, d in theirs.items()}
    compared = 0
    for name in set(MESSAGES) - {"Slice"}:
        for ours in message(name).DESCRIPTOR.fields:
            field = by_name[name].fields_by_name[ours.name]
            kind = 14 if ours.name == "endianness" else ours.type  # an enum, the same on the wire
            assert (ours.number, kind) == (field.number, field.type), (name, ours.name)
            compared += 1
            if ours.enum_type:
                values = {v.name: v.number for v in field.enum_type.values}
                assert {v.name: v.number for v in ours.enum_type.values}.items() <= values.items()
    assert compared > 50


@pytest.mark.parametrize("dtype", ["f4", "f8", "f2", "i4", "i8"])
@pytest.mark.parametrize("suffix", ["pb", "pbtxt"])
def test_constants_survive(raw, tmp_path, dtype, suffix):
    array = np.arange(6).reshape(2, 3).astype(dtype)
    constant(raw, "a", array)
    value = written(raw, tmp_path, f"graph.{suffix}").constant("a")
    assert value.dtype == array.dtype and np.array_equal(value, array)


def test_listed_values_are_repeated_to_the_end(raw, tmp_path):
    constant(raw, "a", np.zeros((2, 2)), double_val=[1.0, 2.0])
    constant(raw, "b", np.zeros(3, np.int32), int_val=[-7])
    constant(raw, "c", np.zeros(2, np.float16), half_val=[0x3C00])
    graph = written(raw, tmp_path)
    assert graph.constant("a").tolist() == [[1.0, 2.0], [2.0, 2.0]]
    assert graph.constant("b").tolist() == [-7, -7, -7]
    assert graph.constant("c").tolist() == [1.0, 1.0]


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ({"tensor_content": b"1234"}, "has 0 values"),
        ({"double_val": [1.0, 2.0, 3.0]}, "has 3 values"),
    ],
)
def test_constants_that_do_not_fit_are_refused(raw, tmp_path, given, complaint):
    constant(raw, "a", np.zeros(2), **given)
    with pytest.raises(ModelFileError, match=complaint):
        written(raw, tmp_path).constant("a")


def test_large_claims_take_no_memory(raw, tmp_path):
    node = constant(raw, "a", np.zeros(1), double_val=[1.0])
    node.attr["value"].tensor.tensor_shape.dim[0].size = 1 << 50
    with pytest.raises(ModelFileError, match="which the file cannot hold"):
        written(raw, tmp_path).constant("a")


def test_attributes_are_plain_values():
    graph = read_graph(FOLDER / "frozen.pb")
    attrs = graph["ProdEnvMatA"].attrs
    assert attrs["sel_a"] == [40, 80] and attrs["rcut_r"] == 4.5 and attrs["T"] == "DOUBLE"
    assert "descrpt_attr/t_avg/read" in graph["ProdEnvMatA"].inputs
    assert graph.text("model_attr/tmap") == "O H"
    assert [n.name for n in graph.users("model_attr/tmap")] == []


def test_two_nodes_of_one_name_are_refused(raw, tmp_path):
    constant(raw, "a", np.zeros(1))
    constant(raw, "a", np.ones(1))
    with pytest.raises(ModelFileError, match="two nodes"):
        written(raw, tmp_path)


@pytest.mark.parametrize("content", [b"", b"\x00", b"{}", b"\x0a\xff\xff\xff\xff\x7f"])
def test_other_files_are_refused_in_one_line(tmp_path, content):
    for name in ("x.pb", "x.pbtxt"):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ModelFileError) as caught:
            read_graph(tmp_path / name)
        assert str(tmp_path / name) in str(caught.value) and "\n" not in str(caught.value)


# -- checkpoints ----------------------------------------------------------------------------------


def test_checksums_are_those_of_the_definition():
    assert checksum(b"123456789") == 0xE3069283
    data = np.random.default_rng(1).bytes(5000)
    for size in (0, 1, 63, 64, 65, 130, 4999):
        table, crc = _table(), 0xFFFFFFFF
        for byte in data[:size]:
            crc = table[(crc ^ byte) & 0xFF] ^ (crc >> 8)
        assert checksum(data[:size]) == crc ^ 0xFFFFFFFF


def _table():
    out = []
    for crc in range(256):
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
        out.append(crc)
    return out


def test_tensors_are_those_of_tensorflow():
    tf = pytest.importorskip("tensorflow", reason="tensorflow is not installed")
    reader = tf.train.load_checkpoint(str(FOLDER / "model.ckpt-4"))
    found = read_bundle(FOLDER / "model.ckpt-4")
    assert set(found) == set(reader.get_variable_to_shape_map())
    assert all(np.array_equal(found[name], reader.get_tensor(name)) for name in found)


def test_checkpoint_holds_what_it_should():
    found = read_bundle(FOLDER / "model.ckpt-4", lambda name: "Adam" not in name)
    assert found["global_step"] == 4 and found["filter_type_all/matrix_2_1"].shape == (5, 10)
    assert not any("Adam" in name for name in found)
    assert "descrpt_attr/rcut" in read_meta_graph(FOLDER / "model.ckpt-4.meta")


@pytest.mark.parametrize("suffix", ["index", "data-00000-of-00001"])
def test_damage_is_found(tmp_path, suffix):
    """Every byte of the index counts, and those of the data that belong to tensors."""
    for name in ("index", "data-00000-of-00001"):
        (tmp_path / f"c.{name}").write_bytes((FOLDER / f"model.ckpt-4.{name}").read_bytes())
    path = tmp_path / f"c.{suffix}"
    data = path.read_bytes()
    right = read_bundle(tmp_path / "c")
    found = 0
    for at in itertools.chain(range(0, len(data), len(data) // 97), (len(data) - 1,)):
        wrong = bytearray(data)
        wrong[at] ^= 4
        path.write_bytes(wrong)
        try:
            got = read_bundle(tmp_path / "c")
        except ModelFileError:
            found += 1
        else:  # padding of the footer
            assert all(np.array_equal(got[k], right[k]) for k in right) and set(got) == set(right)
    assert found > 90


def test_a_part_is_missing(tmp_path):
    (tmp_path / "c.index").write_bytes((FOLDER / "model.ckpt-4.index").read_bytes())
    with pytest.raises(ModelFileError, match=r"data-00000-of-00001.*not found"):
        read_bundle(tmp_path / "c")
    with pytest.raises(ModelFileError, match=r"d\.index.*not found"):
        read_bundle(tmp_path / "d")
