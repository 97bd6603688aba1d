# SPDX-License-Identifier: LGPL-3.0-or-later
"""Folders ``.savedmodeltf``: written, checked, opened; what they share is in tests/jax."""

import numpy as np
import pytest

pytest.importorskip("tensorflow")

import tensorflow as tf

from deepmd.backend.detect import backend_of
from deepmd.base.errors import NotAvailableError
from deepmd.dpmodel.model import build_model
from deepmd.infer import DeepPot
from deepmd.io.saved_model import PROGRAM, load_saved
from deepmd.io.tree import difference
from deepmd.np.evaluator import NumPyEvaluator
from deepmd.runtime.probes import compare_probes, model_file_dict
from deepmd.testing.systems import randomize
from deepmd.tf.saved.evaluator import EdgesEvaluator
from deepmd.tf.saved.graph import Functions
from deepmd.tf.savedmodel import open_model, write_savedmodeltf
from tests.members import MEMBERS, section

QUICK = ("dipole", "dpa3", "spin")
CASES = [pytest.param(m, marks=() if m in QUICK else pytest.mark.slow) for m in MEMBERS]


@pytest.mark.parametrize("name", CASES)
def test_every_member(name, tmp_path):
    """Writing compares the functions with the probes; the entry of edges gives their numbers, too."""
    model = randomize(build_model(section(name, tmp_path)))
    data, path = model_file_dict(model, {}, None, "TensorFlow"), tmp_path / "model.savedmodeltf"
    write_savedmodeltf(path, data)
    stored = load_saved(path)
    assert difference(data["model"], stored["model"]) is None
    functions = Functions((path / PROGRAM).read_bytes())
    assert compare_probes(EdgesEvaluator(model, functions), stored["probes"]) is None
    assert ("call_lower_with_atomic_virial" in functions) != (name == "spin")


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A model of energies, its dictionary and its folder."""
    folder = tmp_path_factory.mktemp("saved")
    model = randomize(build_model(section("se_e2_r", folder)))
    data = model_file_dict(model, {}, None, "TensorFlow")
    write_savedmodeltf(folder / "a.savedmodeltf", data)
    return model, data, folder / "a.savedmodeltf"


def test_the_model_of_the_folder_is_evaluated(written):
    *_, path = written
    assert compare_probes(open_model(path), load_saved(path)["probes"]) is None


@pytest.mark.slow  # traced and saved once more
def test_equal_models_give_equal_bytes(written, tmp_path):
    _, data, first = written
    second = tmp_path / "b.savedmodeltf"
    write_savedmodeltf(second, data)
    assert (first / PROGRAM).read_bytes() == (second / PROGRAM).read_bytes()


def test_files_load_in_tensorflow(written):
    model, _, path = written
    call = tf.saved_model.load(str(path)).call
    coord = np.array([[[0.0, 0, 0], [1.1, 0, 0], [0, 1.2, 0]]])
    atype, none = np.array([[0, 1, 1]], np.int32), np.zeros((1, 0))
    out = call(coord, atype, np.zeros((1, 0, 0)), none, np.zeros((1, 3, 0)))
    potential = DeepPot.from_evaluator(NumPyEvaluator(model))
    energy, force, virial = potential.eval(coord, None, atype[0])
    np.testing.assert_allclose(out["energy_redu"], energy, rtol=0, atol=1e-12)
    np.testing.assert_allclose(out["energy_derv_r"][:, :, 0], force, rtol=0, atol=1e-12)
    np.testing.assert_allclose(out["energy_derv_c_redu"][:, 0], virial, rtol=0, atol=1e-12)


def test_checkpoints_of_deepmd_kit_are_refused(tmp_path):
    (tmp_path / "model.tf2").mkdir()
    with pytest.raises(NotAvailableError, match="checkpoints of TensorFlow 2 are known but not"):
        backend_of("model.tf2").deep_eval(tmp_path / "model.tf2")
