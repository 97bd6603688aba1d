# SPDX-License-Identifier: LGPL-3.0-or-later
"""Checkpoints in HDF5: everything comes back as it was."""

import h5py
import numpy as np
import pytest

from deepmd.base.errors import InputError, ModelFileError
from deepmd.dpmodel.model import build_model
from deepmd.io import load_model, save_model
from deepmd.io.tree import difference
from deepmd.np.evaluator import open_model
from deepmd.runtime.checkpoint import Checkpoint
from deepmd.runtime.checkpoint_file import read_checkpoint, write_checkpoint


def section(seed):
    descriptor = {
        "type": "se_e2_a",
        "rcut": 4.0,
        "rcut_smth": 0.5,
        "sel": [4, 5],
        "neuron": [3, 6],
        "axis_neuron": 2,
        "seed": seed,
    }
    return {
        "type_map": ["O", "H"],
        "descriptor": descriptor,
        "fitting_net": {"neuron": [5], "seed": seed},
    }


def make(tasks=("Default",)):
    models = {t: build_model(section(k)) for k, t in enumerate(tasks)}
    several = {"model_dict": {t: section(k) for k, t in enumerate(tasks)}}
    return Checkpoint(
        models=models,
        model_params=section(0) if len(tasks) == 1 else several,
        step=17,
        optimizer={"t": np.asarray(17), "m.a/b.0": np.ones((2, 3), np.float32), "v": np.zeros(0)},
        trainer={
            "data.Default.cursor": np.arange(4),
            "seed": 3,
            "hash": "abc",
            "none": None,
            "rng": {"state": [1, 2, 2**100], "name": "PCG64"},
            "scalar": np.float64(0.25),
            "flags": np.array([True, False]),
        },
        min_nbor_dist=0.85,
        backend="NumPy",
    )


@pytest.mark.parametrize("suffix", [".dp", ".jax"])
@pytest.mark.parametrize("tasks", [("Default",), ("water", "Ice")])
def test_round_trip(tmp_path, suffix, tasks):
    path = tmp_path / f"model.ckpt-17{suffix}"
    one = make(tasks)
    write_checkpoint(path, one)
    two = read_checkpoint(path)
    assert list(two.models) == list(tasks)
    for task in tasks:
        assert difference(one.models[task].serialize(), two.models[task].serialize()) is None
    assert difference(one.model_params, two.model_params) is None
    assert difference(one.optimizer, two.optimizer) is None
    assert difference(one.trainer, two.trainer) is None
    assert (two.step, two.min_nbor_dist, two.backend) == (17, 0.85, "NumPy")


def test_a_checkpoint_is_a_model_file(tmp_path):
    path = tmp_path / "model.ckpt-17.dp"
    one = make()
    write_checkpoint(path, one)
    assert difference(load_model(path)["model"], one.models["Default"].serialize()) is None
    evaluator = open_model(path)
    assert evaluator.model_def_script == section(0)
    assert evaluator.min_nbor_dist == 0.85


def test_branches(tmp_path):
    path = tmp_path / "m.dp"
    one = make(("water", "Ice"))
    write_checkpoint(path, one)
    evaluator = open_model(path, head="ice")
    assert difference(evaluator.model.serialize(), one.models["Ice"].serialize()) is None
    assert evaluator.model_def_script == section(1)
    with pytest.raises(InputError, match="water, Ice"):
        open_model(path)
    with pytest.raises(InputError, match='did you mean "water"'):
        open_model(path, head="watr")


def test_an_ordinary_model_takes_any_head(tmp_path):
    path = tmp_path / "m.dp"
    write_checkpoint(path, make())
    assert open_model(path, head="whatever").model.get_type_map() == ["O", "H"]


def test_what_is_no_checkpoint(tmp_path):
    model = make().models["Default"]
    for name in ("m.dp", "m.yaml"):
        save_model(tmp_path / name, {"model": model.serialize(), "@variables": {}})
        with pytest.raises(ModelFileError, match="without the state of a training"):
            read_checkpoint(tmp_path / name)
    with pytest.raises(ModelFileError, match="not found"):
        read_checkpoint(tmp_path / "absent.dp")


def test_torn_checkpoints_are_refused(tmp_path):
    path = tmp_path / "m.dp"
    write_checkpoint(path, make())
    whole = path.read_bytes()
    for part in (0, 50, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:part])
        with pytest.raises(ModelFileError) as caught:
            read_checkpoint(path)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("changed", [np.zeros(3), np.array(["a"] * 3, "S1")])
def test_an_edit_without_checksum_is_noticed_on_opening(tmp_path, changed):
    """Of a checkpoint, which has no probes: it is evaluated where nothing else vouches for it."""
    path = tmp_path / "model.ckpt-17.dp"
    write_checkpoint(path, make())
    with h5py.File(path, "r+") as file:
        names = [n for n in file if n.startswith("variable") and file[n].shape == (2, 9, 4)]
        for name in names or pytest.fail("no davg"):
            del file[name]
            file[name] = changed
        for group in (file, file["training"]):
            group.attrs.pop("digest")
    for read in (read_checkpoint, open_model):
        with pytest.raises(ModelFileError, match=path.name):
            read(path)
