# SPDX-License-Identifier: LGPL-3.0-or-later
"""Folders ``.savedmodel``: written, checked, opened, damaged; functions as DeePMD-kit calls them."""

import re
import shutil
from unittest import mock

import numpy as np
import pytest

pytest.importorskip("tensorflow")
pytest.importorskip("jax")

import tensorflow as tf

from deepmd.base.errors import InputError, ModelFileError, NotAvailableError, OutputError
from deepmd.dpmodel.model import Model
from deepmd.entrypoints.convert_backend import convert_backend
from deepmd.infer import DeepPot
from deepmd.io import load_model
from deepmd.io.saved_model import MODEL, PROGRAM, load_saved
from deepmd.io.tree import difference
from deepmd.jax import files
from deepmd.np.evaluator import NumPyEvaluator
from deepmd.runtime.probes import compare_probes, model_file_dict
from deepmd.tf.saved import foreign
from deepmd.tf.saved.evaluator import EdgesEvaluator, FunctionEvaluator
from deepmd.tf.saved.functions import ENTRIES
from deepmd.tf.saved.graph import Functions, canonical, check_operators
from tests.jax.conftest import make_batch, make_model

ALL = ("force", "virial", "atom_virial")
SCRIPT = {"type_map": ["O", "H"], "info": {"observed_type": ["H", "O"]}}


@pytest.fixture(scope="module")
def model():
    return make_model(small=True, numb_fparam=1, numb_aparam=2, default_fparam=[0.5])


@pytest.fixture(scope="module")
def data(model):
    return model_file_dict(model, SCRIPT, 0.9, "JAX")


@pytest.fixture(scope="module")
def folder(data, tmp_path_factory):
    path = tmp_path_factory.mktemp("saved") / "model.savedmodel"
    files.write_model(path, data)
    return path


@pytest.fixture(scope="module")
def functions(folder):
    return Functions((folder / PROGRAM).read_bytes())


def assert_same(results, reference):
    for key, value in reference.items():
        np.testing.assert_allclose(results[key], value, rtol=0, atol=1e-12, err_msg=key)


def test_the_dictionary_comes_back(model, data, folder, tmp_path):
    convert_backend(INPUT=f"{folder}/", OUTPUT=str(tmp_path / "again.dp"))
    again = load_model(tmp_path / "again.dp")
    assert difference(data["model"], again["model"]) is None
    assert "program" not in again
    assert (
        compare_probes(NumPyEvaluator(Model.deserialize(again["model"])), again["probes"]) is None
    )


@pytest.mark.slow  # traced and saved once more
def test_equal_models_give_equal_bytes(data, folder, tmp_path, monkeypatch):
    monkeypatch.setattr("deepmd.tf.saved.folder.compare_probes", lambda *given: None)
    files.write_model(tmp_path / "b.savedmodel", data)
    names = sorted(p.relative_to(folder) for p in folder.rglob("*") if p.is_file())
    assert len(names) == 5
    for name in names:
        assert (tmp_path / "b.savedmodel" / name).read_bytes() == (folder / name).read_bytes(), name


def test_deep_pot(model, folder):
    potential = DeepPot(folder)
    batch = make_batch(1, 9, fparam=1, aparam=2)
    reference = NumPyEvaluator(model).evaluate(batch, derivatives=ALL)
    given = {"fparam": batch.fparam, "aparam": batch.aparam}
    energy, force, virial = potential.eval(batch.coord, batch.cell, batch.atype, **given)
    found = {"energy": energy, "force": force[0], "virial": virial}
    assert_same(found, {k: reference[k] for k in found})
    assert potential.get_model_def_script() == SCRIPT
    assert potential.evaluator.min_nbor_dist == 0.9


def test_the_entry_of_edges_gives_the_numbers_of_numpy(model, functions):
    batch = make_batch(2, 9, fparam=1, aparam=2)
    reference = NumPyEvaluator(model).evaluate(batch, derivatives=ALL)
    assert_same(EdgesEvaluator(model, functions).evaluate(batch, derivatives=ALL), reference)


def test_functions_of_deepmd_kit(model, folder):
    """As its Python library calls them: attributes, several frames at a time, virtual atoms."""
    loaded = tf.saved_model.load(str(folder))
    batch = make_batch(2, 9, fparam=1, aparam=2)
    reference = NumPyEvaluator(model).evaluate(batch, derivatives=ALL)
    coord = np.insert(batch.coord.reshape(2, 9, 3), 3, 0.0, axis=1)
    atype = np.insert(batch.atype.reshape(2, 9), 3, -1, axis=1).astype(np.int32)
    aparam = np.insert(batch.aparam.reshape(2, 9, 2), 3, 0.0, axis=1)
    out = loaded.call_atomic_virial(coord, atype, batch.cell, batch.fparam, aparam)
    real = atype >= 0
    found = {
        "energy": out["energy_redu"],
        "virial": out["energy_derv_c_redu"][:, 0],
        "atom_energy": out["energy"].numpy()[real],
        "force": out["energy_derv_r"].numpy()[real][:, 0],
        "atom_virial": out["energy_derv_c"].numpy()[real][:, 0],
    }
    assert_same(found, {k: reference[k] for k in found})
    np.testing.assert_array_equal(out["mask"], real)
    fewer = loaded.call(coord, atype, batch.cell, batch.fparam, aparam)
    assert set(out) - set(fewer) == {"energy_derv_c"}
    assert loaded.get_rcut().numpy() == 4.0
    assert loaded.get_type_map().numpy().tolist() == [b"O", b"H"]
    assert loaded.get_default_fparam().numpy().tolist() == [0.5]
    assert not loaded.do_message_passing()


def test_names_arguments_and_results_in_the_graph(functions):
    """What its C++ library looks for; functions take nothing but their arguments."""
    results = ["energy", "energy_derv_c", "energy_derv_c_redu", "energy_derv_r", "energy_redu"]
    for name in ENTRIES.values():
        where = ["nlist", "mapping"] if "lower" in name else ["box"]
        assert functions.arguments(name) == ["coord", "atype", *where, "fparam", "aparam"]
        fewer = name == "call_without_atomic_virial"
        assert list(functions.outputs(name)) == [
            r for r in results if not (fewer and r == "energy_derv_c")
        ] + ["mask"]
    for name in ("get_rcut", "get_sel", "has_message_passing", "get_model_def_script"):
        assert functions.arguments(name) == []


def test_a_program_without_a_model_is_evaluated_by_its_functions(model, folder, tmp_path):
    """As those of DeePMD-kit; converting says what is missing."""
    path = tmp_path / "theirs.savedmodel"
    shutil.copytree(folder, path)
    (path / MODEL).unlink()
    potential = DeepPot(path)
    assert isinstance(potential.evaluator, FunctionEvaluator)
    batch = make_batch(2, 9, fparam=1, aparam=2)
    reference = NumPyEvaluator(model).evaluate(batch, derivatives=ALL)
    assert_same(potential.evaluator.evaluate(batch, derivatives=ALL), reference)
    batch = batch.frames(0, 1)  # of the sizes for which programs are compiled now
    given = {"aparam": batch.aparam, "atomic": True}
    out = potential.eval(batch.coord, batch.cell, batch.atype, **given)
    reference = DeepPot.from_evaluator(NumPyEvaluator(model)).eval(
        batch.coord, batch.cell, batch.atype, **given
    )
    for got, want in zip(out, reference, strict=True):
        np.testing.assert_allclose(got, want, rtol=0, atol=1e-12)
    assert potential.get_sel() == [7, 10]
    assert potential.get_observed_types() == {"type_num": 2, "observed_type": ["H", "O"]}
    with pytest.raises(InputError, match="does not give descriptor"):
        potential.eval_descriptor(batch.coord, batch.cell, batch.atype, **{"aparam": batch.aparam})
    for ask in (potential.get_model_size, potential.eval_typeebd):
        with pytest.raises(
            NotAvailableError, match=r"no parameters of the model; convert the \.dp"
        ):
            ask()
    with pytest.raises(ModelFileError, match=r"theirs\.savedmodel: holds a program and no neutral"):
        convert_backend(INPUT=str(path), OUTPUT=str(tmp_path / "a.dp"))
    assert not (tmp_path / "a.dp").exists()


def test_damage_is_named(folder, tmp_path):
    path = tmp_path / "model.savedmodel"
    with pytest.raises(ModelFileError, match="not found"):
        DeepPot(path)
    path.write_text("text")
    with pytest.raises(ModelFileError, match="is a file, the folder of a SavedModel was expected"):
        load_saved(path)
    path.unlink()
    path.mkdir()
    with pytest.raises(ModelFileError, match=r"saved_model\.pb is missing"):
        load_saved(path)
    shutil.rmtree(path)
    shutil.copytree(folder, path)
    whole = (path / PROGRAM).read_bytes()
    (path / PROGRAM).write_bytes(whole[:-9] + b"\0" + whole[-8:])
    with pytest.raises(ModelFileError, match=r"saved_model\.pb does not belong to the model"):
        DeepPot(path)
    (path / MODEL).unlink()
    (path / PROGRAM).write_bytes(whole[:1000])
    with pytest.raises(ModelFileError, match=r"model\.savedmodel: saved_model\.pb is damaged"):
        DeepPot(path)


def test_programs_that_do_more_than_compute_are_refused(tmp_path):
    class Module(tf.Module):
        @tf.function(input_signature=[])
        def get_rcut(self):
            return tf.io.read_file("/etc/hostname")

    tf.saved_model.save(Module(), str(tmp_path / "a.savedmodel"))
    functions = Functions((tmp_path / "a.savedmodel" / PROGRAM).read_bytes())
    with pytest.raises(ModelFileError, match="uses ReadFile, which no model needs"):
        functions.answer("get_rcut")
    with pytest.raises(ModelFileError, match="holds no function call_lower_with_atomic_virial"):
        foreign.open_foreign(tmp_path / "a.savedmodel")
    node = tf.compat.v1.NodeDef(op="XlaCallModule")
    node.attr["module"].s = b"..xla_ffi_python_cpu_callback.."
    with pytest.raises(ModelFileError, match="callbacks of XLA"):
        check_operators([node])


def test_a_program_that_fails_names_its_folder(folder, tmp_path, monkeypatch):
    path = tmp_path / "theirs.savedmodel"
    shutil.copytree(folder, path)
    (path / MODEL).unlink()
    potential, batch = DeepPot(path), make_batch(1, 9, aparam=2)
    failing = tf.errors.InvalidArgumentError(None, None, "placeholders\nand more")
    for error, words in (
        (failing, "cannot be evaluated (placeholders)"),
        (ModelFileError("x"), "x"),
    ):
        monkeypatch.setattr(potential.evaluator.functions, "function", mock.Mock(side_effect=error))
        with pytest.raises(ModelFileError, match=rf"theirs\.savedmodel: .*{re.escape(words)}"):
            potential.eval(batch.coord, batch.cell, batch.atype, aparam=batch.aparam)


@pytest.fixture
def made(folder, monkeypatch):
    """Let writing take the program that is there: making one takes seconds."""
    program = {PROGRAM: (folder / PROGRAM).read_bytes()}
    monkeypatch.setattr("deepmd.jax.savedmodel.jax_core", lambda model: None)
    monkeypatch.setattr("deepmd.tf.saved.folder.saved_module", lambda *given: None)
    monkeypatch.setattr("deepmd.tf.saved.folder.program_files", lambda module: dict(program))


@pytest.mark.usefixtures("made")
def test_a_program_that_differs_is_not_left_behind(data, tmp_path, monkeypatch):
    monkeypatch.setattr("deepmd.tf.saved.folder.compare_probes", lambda *given: "differs")
    with pytest.raises(ModelFileError, match=r"a\.savedmodel: differs; no file was written"):
        files.write_model(tmp_path / "a.savedmodel", data)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("made")
def test_a_folder_of_something_else_stays(data, tmp_path):
    (tmp_path / "a.savedmodel").mkdir()
    (tmp_path / "a.savedmodel" / "letters").write_text("dear")
    with pytest.raises(OutputError, match=r"is a folder without saved_model\.pb"):
        files.write_model(tmp_path / "a.savedmodel", data)


def test_without_tensorflow_one_line_says_so(data, folder, tmp_path, monkeypatch):
    monkeypatch.setattr("deepmd.io.saved_model.find_spec", lambda name: None)
    with pytest.raises(NotAvailableError, match="need TensorFlow, which is not installed; pip"):
        files.write_model(tmp_path / "a.savedmodel", data)
    assert load_saved(folder)["model"] is not None  # reading ours does without


def test_canonical_names_do_not_change_again(folder):
    whole = (folder / PROGRAM).read_bytes()
    assert canonical(whole) == whole
