# SPDX-License-Identifier: LGPL-3.0-or-later
"""Models with spins through DeepPot: results, shapes, wrong use."""

import numpy as np
import pytest
from infer.models import make_section, write

from deepmd.base.errors import InputError, NotAvailableError
from deepmd.dpmodel.model import build_model
from deepmd.infer import DeepEval, DeepPot
from deepmd.io import load_model, save_model
from deepmd.runtime.probes import compare_probes, model_file_dict

TYPES = [0, 1, 1, 0, 1]
CELL = np.array([[5.0, 0.2, 0.1], [0.3, 5.4, 0.0], [0.0, -0.4, 5.2]])


def spin_data():
    section = make_section()
    section["spin"] = {"use_spin": ["O"], "virtual_scale": [0.3]}
    model = build_model(section)
    model.atomic_model.out_bias[:, :2] = 1.0
    return model_file_dict(model, section, 0.9, "NumPy")


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("spin") / "spin.dp"
    save_model(path, spin_data())
    return path


@pytest.fixture(scope="module")
def dp(file):
    return DeepPot(file)


@pytest.fixture(scope="module")
def frames():
    rng = np.random.default_rng(0)
    return rng.uniform(0, 5, (3, 5, 3)), rng.normal(size=(3, 5, 3))


def test_queries(dp, file, model_file):
    assert type(DeepEval(file)) is DeepPot
    assert (dp.has_spin, dp.get_ntypes_spin(), dp.get_ntypes()) == (True, 1, 2)
    assert dp.get_type_map() == ["O", "H"]
    usual = DeepPot(model_file)
    assert (usual.has_spin, usual.get_ntypes_spin()) == (False, 0)


def test_shapes_and_order(dp, frames):
    coord, spin = frames
    out = dp.eval(coord, CELL, TYPES, atomic=True, spin=spin)
    shapes = [(3, 1), (3, 5, 3), (3, 9), (3, 5, 1), (3, 5, 9), (3, 5, 3), (3, 5, 1)]
    assert [v.shape for v in out] == shapes
    short = dp.eval(coord.reshape(3, -1), CELL, TYPES, spin=spin.reshape(3, -1))
    for a, b in zip(short, (*out[:3], *out[5:]), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-13)
    assert np.array_equal(out[-1][0, :, 0], [1, 0, 0, 1, 0])
    assert not out[-2][:, [1, 2, 4]].any()


def test_magnetic_force_is_the_slope(dp, frames):
    coord, spin = frames
    force = dp.eval(coord[0], CELL, TYPES, spin=spin[0])[3][0]
    for atom, axis in ((0, 1), (3, 2)):
        energies = []
        for step in (1e-4, -1e-4):
            moved = spin[0].copy()
            moved[atom, axis] += step
            energies.append(dp.eval(coord[0], CELL, TYPES, spin=moved)[0][0, 0])
        assert (energies[1] - energies[0]) / 2e-4 == pytest.approx(force[atom, axis], abs=1e-7)
    assert np.abs(force[[0, 3]]).max() > 1e-5


def test_virtual_atoms_and_frames_of_other_types(dp, frames):
    coord, spin = frames
    types = np.array([TYPES, [1, -1, 0, 0, -1], [0, 0, 0, 0, -1]])
    out = dp.eval(coord, None, types, mixed_type=True, spin=spin)
    for k, row in enumerate(types):
        real = row >= 0
        one = dp.eval(coord[k, real], None, row[real], spin=spin[k, real])
        for a, b in zip(out, one, strict=True):
            whole = a[k] if a.shape[1:] in ((1,), (9,)) else a[k, real]
            np.testing.assert_allclose(whole, b[0], rtol=0, atol=1e-12)
        assert not out[3][k, ~real].any()
        assert not out[4][k, ~real].any()


def test_descriptors_are_those_of_atoms(dp, frames):
    coord, spin = frames
    assert dp.eval_descriptor(coord, CELL, TYPES, spin=spin).shape[:2] == (3, 5)


@pytest.mark.parametrize(
    ("spin", "message"),
    [
        (None, "spin: the model needs the spins"),
        (np.zeros((4, 3)), "spin: 12 numbers do not fit 3 frames of 5 atoms"),
        (np.full((5, 3), np.nan), "spin: atom 0 of frame 0 has a NaN"),
        ("up", "spin: is no array"),
    ],
)
def test_wrong_spins(dp, frames, spin, message):
    with pytest.raises(InputError, match=message):
        dp.eval(frames[0], CELL, TYPES, spin=spin)


def test_what_is_refused(file, dp, model_file, frames):
    coord, spin = frames
    with pytest.raises(NotAvailableError, match="takes no spins"):
        DeepPot(model_file).eval(coord, CELL, TYPES, spin=spin)
    listed = DeepPot(file, neighbor_list=object())
    with pytest.raises(NotAvailableError, match="neighbor_list"):
        listed.eval(coord, CELL, TYPES, spin=spin)
    with pytest.raises(NotAvailableError, match="second derivatives"):
        dp.evaluate(coord, CELL, TYPES, derivatives=("hessian",), spin=spin)


def test_probes(file, dp):
    probes = load_model(file)["probes"]
    for frame in probes["frames"]:
        assert frame["@variables"]["spin"].any()
        assert frame["@variables"]["force_mag"].any()
    assert compare_probes(dp.evaluator, probes) is None
    other = load_model(file)["model"]
    other["spin"]["virtual_scale"][0] += 1e-6
    from deepmd.dpmodel.model import Model
    from deepmd.np.evaluator import NumPyEvaluator

    assert compare_probes(NumPyEvaluator(Model.deserialize(other)), probes)


def test_probes_without_the_key_spin(tmp_path):
    """Files of before spins were known."""
    write(tmp_path / "old.dp")
    probes = load_model(tmp_path / "old.dp")["probes"]
    for frame in probes["frames"]:
        frame["@variables"].pop("spin")
    assert compare_probes(DeepPot(tmp_path / "old.dp").evaluator, probes) is None
