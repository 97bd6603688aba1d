# SPDX-License-Identifier: LGPL-3.0-or-later
"""Frozen graphs: written, checked, opened, damaged, and what other programs read in them."""

import hashlib
import json

import numpy as np
import pytest
import tensorflow as tf

from deepmd.base.errors import ModelFileError
from deepmd.dpmodel.batch import Batch
from deepmd.dpmodel.model import build_model
from deepmd.dpmodel.neighbors import batch_edges
from deepmd.graphs import models, ours
from deepmd.io.graph import read_graph
from deepmd.io.tree import difference
from deepmd.np.evaluator import NumPyEvaluator
from deepmd.runtime.probes import compare_probes, model_file_dict
from deepmd.testing.systems import randomize
from deepmd.tf import files
from deepmd.tf.graph import allowed_operators, model_graph

ALL = ("force", "virial", "atom_virial")
SECTION = {
    "type_map": ["O", "H"],
    "descriptor": {
        **{"type": "se_e2_a", "rcut": 4.0, "rcut_smth": 0.5, "sel": [7, 10], "seed": 1},
        **{"neuron": [4], "axis_neuron": 3, "type_one_side": False},
    },
    "fitting_net": {"neuron": [5], "seed": 2, "numb_fparam": 1, "numb_aparam": 2},
}


@pytest.fixture(scope="module")
def model():
    return randomize(build_model(SECTION))


@pytest.fixture(scope="module")
def file(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("pb") / "model.pb"
    files.write_pb(path, model_file_dict(model, SECTION, 0.9, "TensorFlow"))
    return path


def make_batch(n_frames, n_atoms, seed=0):
    rng = np.random.default_rng(seed)
    cell = np.tile(np.diag([6.0, 6.5, 7.0]) + 0.3, (n_frames, 1, 1))
    batch = Batch.from_arrays(
        rng.uniform(0, 6, (n_frames, n_atoms, 3)),
        cell,
        rng.integers(0, 2, (n_frames, n_atoms)),
        fparam=rng.normal(size=(n_frames, 1)),
        aparam=rng.normal(size=(n_frames * n_atoms, 2)),
    )
    batch.edges = batch_edges(batch, 4.0)
    return batch


@pytest.mark.parametrize(("n_frames", "n_atoms"), [(2, 9), (1, 30), (1, 0), (1, 1)])
def test_the_program_is_used_for_every_size(model, file, n_frames, n_atoms):
    evaluator = files.open_model(file)
    assert evaluator.model_def_script == SECTION and evaluator.min_nbor_dist == 0.9
    evaluator.model = build_model(SECTION)  # with other numbers: the program must be used
    batch = make_batch(n_frames, n_atoms)
    wanted = NumPyEvaluator(model).evaluate(batch, derivatives=ALL)
    found = evaluator.evaluate(batch, derivatives=ALL)
    assert found.keys() == wanted.keys()
    for key, value in wanted.items():
        np.testing.assert_allclose(found[key], value, rtol=0, atol=1e-13, err_msg=key)


def test_what_the_program_lacks_comes_from_the_dictionary(model, file):
    batch = make_batch(2, 9)
    found = files.open_model(file).evaluate(batch, derivatives=(), extra=("descriptor",))
    wanted = NumPyEvaluator(model).evaluate(batch, derivatives=(), extra=("descriptor",))
    np.testing.assert_allclose(found["descriptor"], wanted["descriptor"], rtol=0, atol=1e-13)


def test_the_dictionary_comes_back_without_tensorflow(model, file):
    data = models.read_model(file)
    assert difference(model.serialize(), data["model"]) is None
    assert compare_probes(models.open_model(file), data["probes"]) is None


def test_equal_models_give_equal_bytes(model, file, tmp_path):
    files.write_pb(tmp_path / "again.pb", models.read_model(file))
    assert (tmp_path / "again.pb").read_bytes() == file.read_bytes()


def test_the_interface_of_the_file(model, file):
    """Names, types and texts that programs in C++, and those for DeePMD-kit's files, look for."""
    graph = tf.compat.v1.GraphDef.FromString(file.read_bytes())
    assert {node.op for node in graph.node} <= allowed_operators()
    assert not graph.library.function
    places = {n.name.removeprefix("deepmd/") for n in graph.node if n.op == "Placeholder"}
    inputs = {"vec", "i", "j", "atype", "frame", "frame_inputs/fparam", "atom_inputs/aparam"}
    assert places == inputs | {f"slots/{k}" for k in range(8)}
    results = {n.name for n in graph.node if n.name.startswith("deepmd/out/")}
    assert results == {"deepmd/out/energy", "deepmd/out/energy_grad"}
    read = read_graph(file)
    about = json.loads(read.text("deepmd/metadata"))
    assert about["entry_version"] == 2 and about["probes"] == 2
    assert about == {"entry_version": 2, **model.info(probes=2).to_dict()}
    probe = json.loads(read.text("deepmd/probes"))[0]
    assert np.shape(probe["force"])[0] == 1 and np.shape(probe["coord"])[1] == 3
    assert read.text("model_attr/tmap") == "O H"
    assert read.text("model_attr/model_type") == "ener"
    assert read.constant("descrpt_attr/rcut") == 4.0
    assert read.constant("descrpt_attr/rcut").dtype == np.float64
    assert read.constant("descrpt_attr/ntypes") == 2
    assert read.constant("train_attr/min_nbor_dist") == 0.9
    assert json.loads(read.text("train_attr/training_script")) == {"model": SECTION}


def test_a_wrong_program_is_not_written(model, tmp_path, monkeypatch):
    other = build_model(SECTION)
    monkeypatch.setattr(files, "model_graph", lambda model, notes: model_graph(other, notes))
    with pytest.raises(ModelFileError, match="differs from the source"):
        files.write_pb(tmp_path / "model.pb", model_file_dict(model, {}, None, "TensorFlow"))
    assert list(tmp_path.iterdir()) == []


def changed(file, path, change):
    """Write a file that is changed, with the checksum that it should have."""
    graph = tf.compat.v1.GraphDef.FromString(file.read_bytes())
    del graph.node[-1]
    change(graph)
    path.write_bytes(ours.closed(graph.SerializeToString(deterministic=True)))
    return path


def other_name(graph):
    place = next(n for n in graph.node if n.name == "deepmd/slots/1")
    place.name = "deepmd/slots/9"


def write_a_file(graph):
    graph.node.append(tf.compat.v1.NodeDef(name="w", op="WriteFile"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (write_a_file, "uses what model files must not: WriteFile"),
        (lambda g: g.library.function.add(), "uses what model files must not: functions"),
        (other_name, "no such input as deepmd/slots/1"),
    ],
)
def test_programs_that_are_not_run(file, tmp_path, change, message):
    path = changed(file, tmp_path / "bad.pb", change)
    with pytest.raises(ModelFileError, match=message):
        files.open_model(path)


def test_damage_is_noticed(file, tmp_path):
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / "bad.pb").write_bytes(data)
    for reader in (files.open_model, models.open_model):
        with pytest.raises(ModelFileError, match=r"bad\.pb"):
            reader(tmp_path / "bad.pb")


def test_the_checksum_is_that_of_the_bytes_before(file):
    data = file.read_bytes()
    digest = read_graph(file).text("deepmd/digest")
    before = [data[:n] for n in range(len(data) - 300, data.rindex(b"deepmd/digest"))]
    assert digest in {f"sha256:{hashlib.sha256(part).hexdigest()}" for part in before}


def test_too_large_for_the_format(model, tmp_path, monkeypatch):
    monkeypatch.setattr(files, "_LARGEST", 1000)
    with pytest.raises(ModelFileError, match="holds 2 GB"):
        files.write_pb(tmp_path / "model.pb", model_file_dict(model, {}, None, "TensorFlow"))
