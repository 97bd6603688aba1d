# SPDX-License-Identifier: LGPL-3.0-or-later
"""Model deviation, against its definition written out."""

import numpy as np
import pytest
from infer.models import write

from deepmd.base.errors import InputError
from deepmd.infer import DeepPot, calc_model_devi
from deepmd.infer.model_devi import calc_model_devi_f, calc_model_devi_v, write_model_devi_out

CELL = np.diag([5.0, 5.5, 6.0])
TYPES = [0, 1, 1, 0]


@pytest.fixture(scope="module")
def models(folder):
    return [DeepPot(write(folder / f"devi{k}.dp", seed=k)) for k in (1, 2, 3)]


@pytest.fixture(scope="module")
def coords():
    return np.random.default_rng(0).uniform(0, 5, (3, 4, 3))


def test_definitions(models, coords):
    devi = calc_model_devi(coords, CELL, TYPES, models, frequency=10)
    assert devi.shape == (3, 8)
    results = [m.eval(coords, CELL, TYPES) for m in models]
    for f in range(3):
        e = np.array([r[0][f, 0] for r in results]) / 4
        forces = np.array([r[1][f] for r in results])
        virial = np.array([r[2][f] for r in results]) / 4
        per_atom = [np.sqrt(sum(np.var(forces[:, a, c]) for c in range(3))) for a in range(4)]
        components = [np.std(virial[:, c]) for c in range(9)]
        want = [
            f * 10,
            max(components),
            min(components),
            np.sqrt(sum(x * x for x in components)) / 3,
            max(per_atom),
            min(per_atom),
            sum(per_atom) / 4,
            np.std(e),
        ]
        np.testing.assert_allclose(devi[f], want, rtol=1e-10)


def test_relative_and_real(models, coords):
    fs = np.stack([m.eval(coords, CELL, TYPES)[1] for m in models])
    vs = np.stack([m.eval(coords, CELL, TYPES)[2] for m in models]) / 4
    e, f, v = models[0].eval(coords, CELL, TYPES)
    real = {"energy": e, "force": f, "virial": v}
    devi = calc_model_devi(
        coords, CELL, TYPES, models, real_data=real, relative=0.3, relative_v=0.1
    )
    error = np.sqrt(np.mean((fs - f) ** 2, axis=0))
    per_atom = np.linalg.norm(error, axis=-1) / (np.linalg.norm(f, axis=-1) + 0.3)
    np.testing.assert_allclose(devi[:, 4], per_atom.max(axis=1), rtol=1e-12)
    of_virial = np.sqrt(np.mean((vs - v / 4) ** 2, axis=0))
    of_virial /= np.linalg.norm(v / 4, axis=-1)[:, None] + 0.1
    np.testing.assert_allclose(devi[:, 1], of_virial.max(axis=1), rtol=1e-12)
    mean = np.linalg.norm(fs.mean(axis=0), axis=-1)
    relative = calc_model_devi(coords, CELL, TYPES, models, relative=0.3)
    want = np.linalg.norm(fs.std(axis=0), axis=-1) / (mean + 0.3)
    np.testing.assert_allclose(relative[:, 6], want.mean(axis=1), rtol=1e-12)
    one = calc_model_devi(coords, CELL, TYPES, models[:1], real_data=real)
    np.testing.assert_allclose(one[:, 1:], 0, atol=1e-15)


def test_parts_that_clients_import(models, coords):
    fs = np.stack([m.eval(coords, CELL, TYPES)[1] for m in models])
    vs = np.stack([m.eval(coords, CELL, TYPES)[2] for m in models])
    devi = calc_model_devi(coords, CELL, TYPES, models, atomic=True)
    assert devi.shape == (3, 12)
    largest, smallest, average = calc_model_devi_f(fs)
    np.testing.assert_array_equal(devi[:, 4:7], np.stack([largest, smallest, average], axis=1))
    np.testing.assert_array_equal(devi[:, 8:], calc_model_devi_f(fs, atomic=True)[3])
    np.testing.assert_allclose(devi[:, 1:4], np.stack(calc_model_devi_v(vs / 4), axis=1))


def test_open_system_virtual_atoms_and_mixed_types(models, coords):
    types = np.array([[0, 1, 1, 0], [1, -1, 0, 0], [1, 1, 1, -1]])
    devi = calc_model_devi(coords, None, types, models, mixed_type=True, atomic=True, relative=0.2)
    assert np.isfinite(devi).all()
    for k in range(3):
        real = types[k] >= 0
        want = calc_model_devi(coords[k][real], None, types[k][real], models, relative=0.2)
        np.testing.assert_allclose(devi[k, 1:8], want[0, 1:], rtol=1e-9, atol=1e-15)


def test_unknown_keywords_are_type_errors(models, coords):
    with pytest.raises(TypeError):
        calc_model_devi(coords, CELL, TYPES, models, nopbc=True)


def test_wrong_models(models, coords, folder):
    with pytest.raises(InputError, match="2 are needed"):
        calc_model_devi(coords, CELL, TYPES, models[:1])
    other = DeepPot(write(folder / "other.dp", type_map=("H", "O")))
    with pytest.raises(InputError, match="model 1: has the types"):
        calc_model_devi(coords, CELL, TYPES, [models[0], other])


def test_file(models, coords, tmp_path):
    path = tmp_path / "devi.out"
    devi = calc_model_devi(coords, CELL, TYPES, models, fname=path, frequency=5)
    write_model_devi_out(devi, path, header="data/water")
    lines = path.read_text().splitlines()
    assert (
        lines[0].split()
        == (
            "# step max_devi_v min_devi_v avg_devi_v max_devi_f min_devi_f avg_devi_f devi_e"
        ).split()
    )
    assert len(lines[0]) == len(lines[1]) == 12 + 7 * 19
    assert lines[4] == "# data/water"
    assert lines[2].startswith("           5 ")
    np.testing.assert_allclose(np.loadtxt(path), np.concatenate([devi, devi]), rtol=1e-6)
    atomic = calc_model_devi(coords, CELL, TYPES, models, fname=tmp_path / "a.out", atomic=True)
    assert "atm_devi_f(4)" in (tmp_path / "a.out").read_text()
    assert atomic.shape == (3, 12)
