# SPDX-License-Identifier: LGPL-3.0-or-later
"""Files with an exported program: written, checked, opened, damaged."""

import h5py
import numpy as np
import pytest

pytest.importorskip("jax")
pytest.importorskip("flatbuffers")

from deepmd.base.errors import ModelFileError
from deepmd.dpmodel.batch import Batch
from deepmd.dpmodel.model import Model, build_model
from deepmd.dpmodel.neighbors import batch_edges
from deepmd.io import dp, load_model, save_model
from deepmd.io.tree import difference
from deepmd.jax import export
from deepmd.jax.evaluator import JaxEvaluator, open_hlo
from deepmd.jax.export import read_hlo, write_hlo
from deepmd.jax.program import export_program
from deepmd.np.evaluator import NumPyEvaluator
from deepmd.runtime.probes import compare_probes, make_probes, model_file_dict
from tests.jax.conftest import SPIN, make_batch, make_model

ALL = ("force", "virial", "atom_virial")


@pytest.fixture(scope="module")
def model():
    return make_model(small=True, one_side=False, numb_fparam=1, numb_aparam=2)


@pytest.fixture(scope="module")
def file(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("hlo") / "model.hlo"
    write_hlo(path, model_file_dict(model, {"type_map": ["O", "H"]}, 0.9, "JAX"))
    return path


def assert_same(results, reference):
    for key, value in reference.items():
        np.testing.assert_allclose(results[key], value, rtol=0, atol=1e-13, err_msg=key)


def test_the_program_is_used_for_every_size(model, file):
    evaluator = open_hlo(file)
    assert evaluator.program is not None
    assert evaluator.model_def_script == {"type_map": ["O", "H"]}
    assert evaluator.min_nbor_dist == 0.9
    evaluator.forward = None  # the dictionary must not be needed
    for batch in (make_batch(2, 9, fparam=1, aparam=2), make_batch(1, 30, fparam=1, aparam=2)):
        reference = NumPyEvaluator(model).evaluate(batch, derivatives=ALL)
        assert_same(evaluator.evaluate(batch, derivatives=ALL), reference)
    for n in (0, 1):
        batch = Batch.from_arrays(
            np.zeros((1, n, 3)), None, [0] * n, fparam=np.ones((1, 1)), aparam=np.ones((n, 2))
        )
        batch.edges = batch_edges(batch, 4.0)
        reference = NumPyEvaluator(model).evaluate(batch, derivatives=ALL)
        assert_same(evaluator.evaluate(batch, derivatives=ALL), reference)


def test_what_the_program_lacks_comes_from_the_dictionary(model, file):
    batch = make_batch(fparam=1, aparam=2)
    evaluator = open_hlo(file)
    reference = NumPyEvaluator(model).evaluate(batch, derivatives=(), extra=("descriptor",))
    assert_same(evaluator.evaluate(batch, derivatives=(), extra=("descriptor",)), reference)


def test_the_dictionary_comes_back(model, file, tmp_path):
    data = read_hlo(file)
    assert difference(model.serialize(), data["model"]) is None
    assert set(data["@variables"]) == {"min_nbor_dist"}
    save_model(tmp_path / "again.dp", data)
    again = load_model(tmp_path / "again.dp")
    assert "program" not in again
    assert compare_probes(NumPyEvaluator(Model.deserialize(again["model"])), data["probes"]) is None


def test_single_precision_and_one_side(tmp_path):
    model = make_model(precision="float32", small=True)
    write_hlo(tmp_path / "model.hlo", model_file_dict(model, {}, None, "JAX"))
    assert open_hlo(tmp_path / "model.hlo").min_nbor_dist is None


def test_a_wrong_program_is_not_written(model, tmp_path, monkeypatch):
    other = make_model(small=True, one_side=False, numb_fparam=1, numb_aparam=2)
    other.atomic_model.out_bias = other.atomic_model.out_bias + 1e-3
    monkeypatch.setattr(export, "export_program", lambda model: export_program(other))
    path = tmp_path / "model.hlo"
    with pytest.raises(ModelFileError, match="differs from the source"):
        write_hlo(path, model_file_dict(model, {}, None, "JAX"))
    assert list(tmp_path.iterdir()) == []


def rewritten(file, path, change):
    tree = load_model(file)
    change(tree)
    with h5py.File(path, "w") as handle:
        dp.write_tree(handle, tree)
    return path


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t["program"].update(entry_version=7), "entry version 7"),
        (lambda t: t["program"].update(packings=[]), "does not belong"),
        (
            lambda t: t["@variables"].update(forward_edges=np.void(b"no program at all" * 8)),
            "cannot be read",
        ),
    ],
    ids=["version", "packings", "garbage"],
)
def test_files_that_cannot_be_used(file, tmp_path, change, message):
    path = rewritten(file, tmp_path / "bad.hlo", change)
    with pytest.raises(ModelFileError, match=message):
        open_hlo(path)


def test_a_file_of_deepmd_kit(reference):
    path = reference / "models" / "se_e2_a_oneside.hlo"
    evaluator = open_hlo(path)
    assert evaluator.program is None
    batch = make_batch(2, 9)
    wanted = NumPyEvaluator(evaluator.model).evaluate(batch, derivatives=ALL)
    assert_same(evaluator.evaluate(batch, derivatives=ALL), wanted)
    data, source = read_hlo(path), load_model(path.with_suffix(".dp"))
    assert difference(source["model"], data["model"]) is None
    assert data["@variables"] == {"min_nbor_dist": None}
    assert "constants" not in data


def test_probes_through_jax(model):
    assert compare_probes(JaxEvaluator(model), make_probes(model)) is None


def test_a_program_with_spins(tmp_path):
    model, path = build_model(SPIN), tmp_path / "spin.hlo"
    write_hlo(path, model_file_dict(model, SPIN, 0.9, "JAX"))
    evaluator = open_hlo(path)
    evaluator.forward = None
    batch = make_batch(2, 9)
    batch.spin = np.random.default_rng(0).normal(size=(batch.n_atoms, 3))
    reference = NumPyEvaluator(model).evaluate(batch, derivatives=ALL)
    assert {"force_mag", "mask_mag"} <= set(reference)
    assert_same(evaluator.evaluate(batch, derivatives=ALL), reference)
    evaluator.max_edges = 60
    assert_same(evaluator.evaluate(batch, derivatives=ALL), reference)
