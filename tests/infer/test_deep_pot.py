# SPDX-License-Identifier: LGPL-3.0-or-later
"""What callers of DeepPot may give, what they get, and how wrong input is answered."""

import os
import shutil
import sys

import numpy as np
import pytest
from infer.models import make_section, write

import deepmd
import deepmd.infer
from deepmd.base.errors import InputError, ModelFileError, NotAvailableError
from deepmd.infer import DeepEval, DeepPot, DeepPotential
from deepmd.infer.batch_size import VARIABLE, AutoBatchSize

CELL = np.array([[5.0, 0.2, 0.1], [0.3, 5.4, 0.0], [0.0, -0.4, 5.2]])
TYPES = [0, 1, 1, 0, 1]


@pytest.fixture(scope="module")
def frames():
    return np.random.default_rng(0).uniform(0, 5, (4, 5, 3))


@pytest.fixture(scope="module")
def dp(model_file):
    return DeepPot(model_file)


def same(a, b):
    for x, y in zip(a, b, strict=True):
        np.testing.assert_allclose(x, y, rtol=0, atol=1e-13)


# -- opening --------------------------------------------------------------------------------------


def test_names_and_signature(model_file):
    assert deepmd.DeepPotential is DeepPotential
    assert isinstance(DeepPotential(model_file), DeepPot)
    assert type(DeepEval(str(model_file))) is DeepPot
    assert "auto_batch_size" in DeepPot.__init__.__code__.co_varnames
    with pytest.raises(ImportError):
        __import__("deepmd.DeepPot")


def test_the_file_may_be_deleted(model_file, tmp_path, frames, dp):
    path = tmp_path / "gone.dp"
    shutil.copy(model_file, path)
    potential = DeepPot(path)
    path.unlink()
    same(potential.eval(frames, CELL, TYPES), dp.eval(frames, CELL, TYPES))
    assert potential.get_model_def_script()["type_map"] == ["O", "H"]


def test_missing_and_unknown_files(tmp_path):
    with pytest.raises(ModelFileError, match=r"absent\.dp: model file not found"):
        DeepPot(tmp_path / "absent.dp")
    (tmp_path / "m.txt").write_text("")
    with pytest.raises(InputError, match="no backend opens"):
        DeepPot(tmp_path / "m.txt")
    with pytest.raises(InputError, match="a path was expected"):
        DeepPot(3)
    (tmp_path / "m.dp").write_text("no model")
    with pytest.raises(ModelFileError, match=r"m\.dp"):
        DeepPot(tmp_path / "m.dp")


def test_a_model_of_another_kind(reference):
    from deepmd.io import load_model

    path = reference / "models/dipole_se_e2_a.dp"
    assert load_model(path)["model"]["fitting"]["type"] == "dipole"
    with pytest.raises(InputError, match="dipole"):
        DeepPot(path)


def test_queries(dp, parameter_file, default_file):
    assert dp.get_rcut() == 4.0
    assert dp.get_type_map() == ["O", "H"]
    assert dp.get_ntypes() == 2
    assert dp.get_sel() == [8, 16]
    assert (dp.get_dim_fparam(), dp.get_dim_aparam()) == (0, 0)
    assert dp.get_sel_type() == [0, 1]
    assert dp.get_ntypes_spin() == 0
    assert (dp.has_efield, dp.has_spin, dp.has_hessian) == (False, False, False)
    assert dp.has_default_fparam() is False
    assert dp.get_numb_dos() == 0
    assert dp.get_model_def_script() == make_section()
    # two nets per center type: 1 -> 4 -> 8; descriptor 8 * 3 -> 6 -> 6 -> 1 (one idt)
    embedding, fitting = 4 * (4 + 4 + 32 + 8), 2 * (24 * 6 + 6 + 36 + 6 + 6 + 6 + 1)
    assert dp.get_model_size() == {
        "descriptor": embedding,
        "fitting-net": fitting,
        "total": embedding + fitting,
    }
    assert dp.get_observed_types() == {"type_num": 2, "observed_type": ["H", "O"]}
    recorded = DeepPot.from_evaluator(dp.evaluator)
    recorded.evaluator.model_def_script["info"] = {"observed_type": ["O"]}
    assert recorded.get_observed_types() == {"type_num": 1, "observed_type": ["O"]}
    del recorded.evaluator.model_def_script["info"]
    assert DeepPot(parameter_file).get_dim_aparam() == 1
    assert DeepPot(default_file).has_default_fparam() is True
    with pytest.raises(NotAvailableError):
        dp.eval_typeebd()


# -- what may be given ----------------------------------------------------------------------------


def test_shapes_and_types_of_arguments(dp, frames):
    want = dp.eval(frames, np.tile(CELL, (4, 1, 1)), TYPES, atomic=True)
    shapes = [(4, 1), (4, 5, 3), (4, 9), (4, 5, 1), (4, 5, 9)]
    assert [x.shape for x in want] == shapes
    assert all(x.dtype == np.float64 for x in want)
    same(want, dp.eval(frames.ravel(), np.tile(CELL.ravel(), 4), np.array(TYPES), atomic=True))
    same(want, dp.eval(frames.tolist(), CELL.tolist(), tuple(TYPES), True))
    same(want, dp.eval(frames.reshape(4, -1), [CELL] * 4, np.array([TYPES]), atomic=True))
    same(want, dp.eval(frames, CELL, np.array(TYPES, dtype=np.int32), atomic=True))
    same(want, dp.eval(frames, CELL, np.array(TYPES, dtype=np.float64), atomic=True))
    same(want, dp.eval(frames, CELL, [TYPES] * 4, atomic=True))
    same(want, dp.eval(frames, CELL, [TYPES] * 4, atomic=True, mixed_type=True))
    same(want[:3], dp.eval(coords=frames, cells=CELL, atom_types=TYPES))
    single = frames.astype(np.float32)
    same(dp.eval(single, CELL, TYPES), dp.eval(single.astype(np.float64), CELL, TYPES))
    integers = np.arange(15)
    same(dp.eval(integers, None, TYPES), dp.eval(integers * 1.0, None, TYPES))
    read_only = frames.copy()
    read_only.setflags(write=False)
    same(want, dp.eval(read_only, CELL, TYPES, atomic=True))
    same(want, dp.eval(np.asfortranarray(frames), CELL, TYPES, atomic=True))


def test_arguments_are_not_changed(dp, frames):
    coords, cells = frames.copy() - 20.0, np.tile(CELL, (4, 1, 1))
    before = coords.copy(), cells.copy()
    dp.eval(coords, cells, TYPES)
    np.testing.assert_array_equal(coords, before[0])
    np.testing.assert_array_equal(cells, before[1])


def test_frames_do_not_see_each_other(dp, frames):
    cells = np.stack([CELL, CELL * 1.1, np.zeros((3, 3)), CELL])
    many = dp.eval(frames, cells, TYPES, atomic=True)
    for k in range(4):
        cell = None if k == 2 else cells[k]
        same([x[k : k + 1] for x in many], dp.eval(frames[k], cell, TYPES, atomic=True))


@pytest.mark.parametrize("cell", [CELL, None])
def test_atoms_at_the_same_place_are_told_once(model_file, frames, cell, caplog):
    potential = DeepPot(model_file)
    given = np.array(frames)
    potential.eval(given, cell, TYPES)
    given[2, 4] = given[2, 1] + (CELL[0] - CELL[2] if cell is not None else 0.0)
    assert "same place" not in caplog.text
    for _ in range(2):
        potential.eval(given, cell, [-1, *TYPES[1:]])
    assert caplog.text.count("atoms 1 and 4 of frame 2 are at the same place") == 1


def test_virtual_atoms_are_left_out(dp, frames):
    types = np.array([[0, -1, 1, 1, 0], [1, 1, 0, -1, -2], [-1] * 5])
    coords = frames[:3].copy()
    coords[types < 0] = np.nan
    got = dp.eval(coords, CELL, types, mixed_type=True, atomic=True)
    for k in range(2):
        real = types[k] >= 0
        want = dp.eval(frames[k][real], CELL, types[k][real], atomic=True)
        same((got[0][k : k + 1], got[2][k : k + 1]), (want[0], want[2]))
        for g, w in zip((got[1], got[3], got[4]), (want[1], want[3], want[4]), strict=True):
            np.testing.assert_allclose(g[k][real], w[0], rtol=0, atol=1e-13)
            assert not g[k][~real].any()
    assert not any(x[2].any() for x in got)
    descriptor = dp.eval_descriptor(coords, CELL, types, mixed_type=True)
    assert descriptor.shape == (3, 5, 24)
    assert not descriptor[types < 0].any()
    assert descriptor[0, 0].any()


@pytest.mark.parametrize("cell", [None, CELL])
def test_none_one_and_two_atoms(dp, cell):
    for nf in (0, 1, 3):
        out = dp.eval(np.zeros((nf, 0, 3)), cell, [], atomic=True)
        assert [x.shape for x in out] == [(nf, 1), (nf, 0, 3), (nf, 9), (nf, 0, 1), (nf, 0, 9)]
        assert not out[0].any()
    e, f, v = dp.eval([[1.0, 2.0, 3.0]], cell, [1])
    if cell is None:
        assert not f.any()
        assert not v.any()
    far = dp.eval([[0, 0, 0], [90, 0, 0]], None, [1, 1])
    if cell is None:
        assert far[0][0, 0] == pytest.approx(2 * e[0, 0])
    assert not far[1].any()
    near = dp.eval([[0, 0, 0], [1.5, 0, 0]], cell, [0, 1])[1]
    np.testing.assert_allclose(near.sum(axis=1), 0, atol=1e-14)
    assert np.isfinite(near).all()


def test_extra_results(dp, frames):
    descriptor = dp.eval_descriptor(frames, CELL, TYPES)
    last = dp.eval_fitting_last_layer(frames, CELL, TYPES)
    assert descriptor.shape == (4, 5, 24)
    assert last.shape == (4, 5, 6)


def test_frame_and_atomic_parameters(parameter_file, default_file, frames):
    dp = DeepPot(parameter_file)
    rng = np.random.default_rng(1)
    fparam, aparam = rng.normal(size=(4, 2)), rng.normal(size=(4, 5, 1))
    want = dp.eval(frames, CELL, TYPES, fparam=fparam, aparam=aparam)
    same(want, dp.eval(frames, CELL, TYPES, False, fparam.ravel(), aparam.ravel().tolist()))
    for k in range(4):
        single = dp.eval(frames[k], CELL, TYPES, fparam=fparam[k], aparam=aparam[k])
        same([x[k : k + 1] for x in want], single)
    one = dp.eval(frames, CELL, TYPES, fparam=[0.1, 0.2], aparam=aparam[0])
    tiled = np.tile(aparam[0], (4, 1, 1))
    same(one, dp.eval(frames, CELL, TYPES, fparam=[[0.1, 0.2]] * 4, aparam=tiled))
    scalar = dp.eval(frames, CELL, TYPES, fparam=[0.1, 0.2], aparam=0.7)
    same(scalar, dp.eval(frames, CELL, TYPES, fparam=[0.1, 0.2], aparam=np.full((4, 5), 0.7)))
    assert np.abs(want[0] - one[0]).max() > 1e-6

    dp = DeepPot(default_file)
    same(dp.eval(frames, CELL, TYPES), dp.eval(frames, CELL, TYPES, fparam=[0.3, -0.4]))
    assert np.abs(dp.eval(frames, CELL, TYPES, fparam=[1, 1])[0]).max() > 0


# -- batches --------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [True, False, 1, 7, 1000, AutoBatchSize(12)])
def test_batch_size_does_not_matter(model_file, dp, frames, size):
    same(
        DeepPot(model_file, auto_batch_size=size).eval(frames, CELL, TYPES, atomic=True),
        dp.eval(frames, CELL, TYPES, atomic=True),
    )


def test_batch_size_from_the_environment(monkeypatch):
    monkeypatch.setenv(VARIABLE, "30")
    assert AutoBatchSize(1000).frames(10) == 3
    assert AutoBatchSize(1000).frames(100) == 1
    assert AutoBatchSize(1000).frames(0) == 30
    for wrong in ("many", "0", "-3"):
        monkeypatch.setenv(VARIABLE, wrong)
        with pytest.raises(InputError, match=VARIABLE):
            AutoBatchSize()


def test_batches_shrink_when_memory_runs_out():
    seen = []

    def evaluate(part):
        if len(part) > 3:
            raise RuntimeError("CUDA out of memory. Tried to allocate")
        seen.append(len(part))
        return part

    frames = np.arange(7)
    np.testing.assert_array_equal(AutoBatchSize(90).execute_all(evaluate, 7, 10, frames), frames)
    assert seen == [3, 3, 1]

    def broken(part):
        raise RuntimeError("something else")

    with pytest.raises(RuntimeError, match="something else"):
        AutoBatchSize(90).execute_all(broken, 7, 10, frames)


# -- what is wrong --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"coords": np.zeros(14)}, "14 numbers"),
        ({"coords": np.zeros((2, 4, 3)), "mixed_type": True, "atom_types": [TYPES] * 2}, "24 num"),
        ({"coords": "text"}, "coords"),
        ({"coords": [[1, 2], [3]]}, "coords"),
        ({"coords": np.full(15, 1j)}, "coords"),
        ({"coords": np.where(np.arange(15) == 4, np.nan, 1.0)}, "atom 1 of frame 0"),
        ({"coords": np.full(15, np.inf)}, "infinity"),
        ({"atom_types": [0, 1, 2, 0, 0]}, "atom 2 has type 2, the model has 2 types"),
        ({"atom_types": [0, 1, 0.5, 0, 0]}, "integers"),
        ({"atom_types": []}, "no atom types"),
        ({"coords": np.zeros((2, 5, 3)), "atom_types": [TYPES, TYPES[::-1]]}, "mixed_type"),
        ({"cells": np.zeros(6)}, "6 numbers"),
        ({"cells": np.ones((3, 3))}, "no volume"),
        ({"cells": np.diag([5.0, 5.0, np.nan])}, "NaN"),
        ({"fparam": [1.0]}, "no frame parameters"),
        ({"aparam": [1.0]}, "no atomic parameters"),
        ({"spin": [1.0]}, "spin"),
    ],
)
def test_wrong_input(dp, changes, text):
    given = {"coords": np.arange(15.0), "cells": CELL, "atom_types": TYPES, **changes}
    with pytest.raises(InputError) as caught:
        dp.eval(**given)
    assert text in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"fparam": None}, "needs 2 frame parameters"),
        ({"fparam": [1.0]}, "fparam: 1 numbers"),
        ({"fparam": [1.0, np.nan]}, "NaN"),
        ({"aparam": None}, "needs 1 atomic parameters"),
        ({"aparam": [1.0, 2.0]}, "aparam: 2 numbers"),
    ],
)
def test_wrong_parameters(parameter_file, changes, text):
    given = {"fparam": [0.1, 0.2], "aparam": np.zeros(5), **changes}
    with pytest.raises(InputError, match=text):
        DeepPot(parameter_file).eval(np.arange(15.0), CELL, TYPES, **given)


def test_a_singular_cell_names_its_frame(dp, frames):
    cells = np.tile(CELL, (4, 1, 1))
    cells[2, 1] = cells[2, 0]
    with pytest.raises(InputError, match="frame 2"):
        dp.eval(frames, cells, TYPES)


def test_import_is_light():
    """Nothing of a framework is loaded to evaluate a neutral model."""
    import subprocess

    code = (
        "import deepmd.infer, sys; print([m for m in ('torch', 'jax', 'ase') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_yaml_gives_the_same(tmp_path, frames, dp):
    path = write(tmp_path / "m.yaml")
    assert os.path.getsize(path) > 1000
    same(DeepPot(path).eval(frames, CELL, TYPES), dp.eval(frames, CELL, TYPES))
