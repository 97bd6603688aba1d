# SPDX-License-Identifier: LGPL-3.0-or-later
"""Fitted biases, and the cache of statistics."""

import json
from pathlib import Path

import h5py
import numpy as np
import pytest

from deepmd.base.errors import DataError, InputError
from deepmd.data.search import open_systems
from deepmd.data.statistics import StatFile, descriptor_key, fit_atomic_bias, fit_bias
from deepmd.dpmodel.descriptor import DescrptSeA, DescrptSeR
from deepmd.dpmodel.label import Label

RNG = np.random.default_rng(0)


def test_exact_bias_is_found() -> None:
    counts, bias = RNG.integers(1, 9, (20, 3)), RNG.normal(size=(3, 2))
    got, std = fit_bias(counts, counts @ bias)
    np.testing.assert_allclose(got, bias, atol=1e-12)
    np.testing.assert_allclose(std, 0, atol=1e-12)


def test_undetermined_bias_is_the_shortest() -> None:
    """One composition only: the share of each type is in proportion to its count."""
    labels = np.array([[10.0], [14.0], [12.0]])
    bias, std = fit_bias(np.tile([1.0, 2.0], (3, 1)), labels)
    np.testing.assert_allclose(bias[:, 0], [2.4, 4.8])
    np.testing.assert_allclose(std, labels.std())


def test_preset_values_stay() -> None:
    counts, bias = RNG.integers(1, 9, (20, 3)), RNG.normal(size=(3, 2))
    preset = np.full((3, 2), np.nan)
    preset[1, 0], preset[2, 1], preset[0, 1] = 5.0, -1.0, 0.0
    got, std = fit_bias(counts, counts @ bias, preset=preset)
    given = ~np.isnan(preset)
    np.testing.assert_array_equal(got[given], preset[given])
    for column in (0, 1):
        free = ~given[:, column]
        rest = counts @ bias[:, column] - counts[:, ~free] @ preset[~free, column]
        want = np.linalg.lstsq(counts[:, free], rest, rcond=None)[0]
        np.testing.assert_allclose(got[free, column], want, atol=1e-12)
    np.testing.assert_allclose(std, (counts @ (bias - got)).std(axis=0))
    everything, _ = fit_bias(counts, counts @ bias, preset=np.ones((3, 2)))
    assert (everything == 1).all()
    with pytest.raises(InputError, match="preset"):
        fit_bias(counts, counts @ bias, preset=np.ones((2, 2)))


def test_atomic_bias() -> None:
    atype, values = np.array([0, 2, 0, 2, 2]), RNG.normal(size=(5, 2))
    bias, std = fit_atomic_bias(atype, values, 4)
    np.testing.assert_allclose(bias[2], values[[1, 3, 4]].mean(axis=0))
    np.testing.assert_allclose(std[0], values[[0, 2]].std(axis=0))
    assert np.isnan(bias[[1, 3]]).all()


def test_reference_energy_bias(reference: Path) -> None:
    """The biases of a model whose training took all 60 frames of three water systems."""
    with h5py.File(reference / "train/step_se_e2_a/init.dp") as f:
        variables = json.loads(f.attrs["json"])["model"]["@variables"]
        want = f[variables["out_bias"]][0], f[variables["out_std"]][0, 0]
    paths = [str(reference / f"data/water/train_{k}") for k in range(3)]
    systems = open_systems(paths, type_map=["O", "H"])
    label = Label("energy", 1, atomic=False, required=True)
    counts = np.concatenate([np.repeat(s.count_types(2), s.nframes, axis=0) for s in systems])
    energy = np.concatenate([s.load(range(s.nframes), [label]).labels["energy"] for s in systems])
    bias, std = fit_bias(counts, energy)
    np.testing.assert_allclose(bias, want[0], rtol=1e-12)
    np.testing.assert_allclose(std, want[1], rtol=1e-9)


def test_descriptor_key_is_the_published_one() -> None:
    options = {"rcut": 6.001, "rcut_smth": 0.5, "sel": [46, 92]}
    key = descriptor_key(DescrptSeA(**options).statistics_key())
    # sha1 of {"type": "se_a", "ntypes": 2, "rcut": 6.0, "rcut_smth": 0.5, "nsel": 138,
    #          "sel": [46, 92], "mixed_types": false}
    assert key == "c11273f3b506e71e40dd8ad97f5d96e2ca26e27e"
    assert key != descriptor_key(DescrptSeR(**options).statistics_key())


@pytest.mark.parametrize("name", ["stat", "stat.h5", "deep/er/stat.hdf5"])
def test_stat_file(tmp_path: Path, name: str) -> None:
    cache = StatFile(tmp_path / name, ["O", "H"])
    assert cache.get("bias_atom_energy") is None
    values = {"abc/r_0": np.array([1.0, 2, 3]), "bias_atom_energy": np.ones((2, 1))}
    for key, value in values.items():
        cache.put(key, value * 7)
        cache.put(key, value)
    cache.put("observed_type", np.array([b"O", b"H"]))
    again = StatFile(tmp_path / name, ["O", "H"], mode="read")
    for key, value in values.items():
        np.testing.assert_array_equal(again.get(key), value)
    assert again.get("observed_type").tolist() == [b"O", b"H"]
    with pytest.raises(DataError, match='r_1: is missing; use stat_file_mode "update"'):
        again.get("abc/r_1")
    again.put("new", np.ones(1))
    assert cache.get("new") is None
    assert StatFile(tmp_path / name, ["H", "O"]).get("bias_atom_energy") is None


def test_stat_file_layout(tmp_path: Path) -> None:
    for name in ("stat", "stat.h5"):
        StatFile(tmp_path / name, ["O", "H"]).put("abc/a_1", np.arange(3.0))
    np.testing.assert_array_equal(np.load(tmp_path / "stat/O H/abc/a_1"), [0, 1, 2])
    with h5py.File(tmp_path / "stat.h5") as f:
        assert f["O H/abc/a_1"][()].tolist() == [0, 1, 2]


def test_stat_file_refuses(tmp_path: Path) -> None:
    for name in ("none", "none.h5"):
        with pytest.raises(DataError, match="is missing"):
            StatFile(tmp_path / name, ["O"], mode="read")
    with pytest.raises(InputError, match="is not a mode"):
        StatFile(tmp_path, ["O"], mode="write")
    cache = StatFile(tmp_path / "stat", ["O"])
    cache.put("x", np.array([np.nan]))
    with pytest.raises(DataError, match="NaN"):
        cache.get("x")
    (tmp_path / "stat/O/y").write_bytes(b"torn")
    with pytest.raises(DataError, match="not a complete"):
        cache.get("y")
