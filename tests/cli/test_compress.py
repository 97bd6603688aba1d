# SPDX-License-Identifier: LGPL-3.0-or-later
"""``dp compress`` on model files."""

import numpy as np
import pytest
from infer.models import make_section
from infer.models import write as write_model

from deepmd.dpmodel.model import Model, build_model
from deepmd.entrypoints.compress import compress
from deepmd.infer import DeepPot
from deepmd.io import load_model, save_model
from deepmd.io.tree import difference
from deepmd.runtime.probes import model_file_dict

TYPES = [0, 1, 1, 0, 1, 1]


def _write(path, nearest=0.9):
    write_model(path)
    data = load_model(path)
    data["@variables"] = {} if nearest is None else {"min_nbor_dist": np.asarray(nearest)}
    save_model(path, data)
    return path.name


def _forces(path):
    grid = [[x, y, z] for x in (0, 2) for y in (0, 2) for z in (0, 2)][:6]
    coord = np.array(grid) + np.random.default_rng(3).uniform(0.0, 0.8, (6, 3))
    return DeepPot(path).eval(coord.reshape(1, 18), np.eye(3).reshape(1, 9) * 5.0, TYPES)


def test_and_back(dp, tmp_path):
    name = _write(tmp_path / "m.dp")
    result = dp("compress", "-i", name, "-o", "c.dp")
    assert result.code == 0, result.err
    assert "largest difference from the networks on small frames: energy " in result.log
    assert "compressed model written to c.dp" in result.log
    assert Model.deserialize(load_model("c.dp")["model"]).compressed()
    for found, want in zip(_forces("c.dp"), _forces("m.dp"), strict=True):
        np.testing.assert_allclose(found, want, rtol=0, atol=1e-7)
    assert dp("compress", "--undo", "-i", "c.dp", "-o", "back.dp").code == 0
    assert difference(load_model("m.dp")["model"], load_model("back.dp")["model"]) is None


@pytest.mark.parametrize("suffix", [".pth", ".hlo"])
def test_other_files(suffix, dp, tmp_path, quick_programs):
    pytest.importorskip({".pth": "torch", ".hlo": "jax"}[suffix])
    _write(tmp_path / "m.dp")
    compress(input="m.dp", output="c.dp")
    assert dp("convert-backend", "c.dp", f"c{suffix}").code == 0
    for found, want in zip(_forces(f"c{suffix}"), _forces("c.dp"), strict=True):
        np.testing.assert_allclose(found, want, rtol=0, atol=1e-10 * max(1.0, np.abs(want).max()))
    assert dp("convert-backend", f"c{suffix}", "again.dp").code == 0
    assert difference(load_model("c.dp")["model"], load_model("again.dp")["model"]) is None


def test_distance_of_the_training_data(dp, tmp_path, write_system):
    name = _write(tmp_path / "m.dp", nearest=None)
    wrong = dp("compress", "-i", name, "-o", "c.dp")
    assert wrong.code == 1
    assert "min_nbor_dist" in wrong.err
    assert "--training-script" in wrong.err
    assert not (tmp_path / "c.dp").exists()
    write_system(tmp_path / "data")
    (tmp_path / "input.json").write_text('{"training": {"training_data": {"systems": "data"}}}')
    assert dp("compress", "-i", name, "-o", "c.dp", "-t", "input.json").code == 0
    stored = float(load_model("c.dp")["@variables"]["min_nbor_dist"])
    assert 0.0 < stored < 6.0


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--step", "0"], "--step"),
        (["--step", "nan"], "--step"),
        (["--extrapolate", "0.5"], "--extrapolate"),
        (["-o", "m.dp"], "read and written"),
        (["--undo"], "has no tables"),
        (["--head", "a"], "no branches"),
        (["-i", "none.dp"], "none.dp"),
    ],
)
def test_wrong_use(options, text, dp, tmp_path):
    _write(tmp_path / "m.dp")
    result = dp("compress", "-i", "m.dp", "-o", "c.dp", *options)
    assert result.code == 1
    assert text in result.err
    assert not (tmp_path / "c.dp").exists()


def test_twice(dp, tmp_path):
    _write(tmp_path / "m.dp")
    compress(input="m.dp", output="c.dp")
    result = dp("compress", "-i", "c.dp", "-o", "d.dp")
    assert result.code == 1
    assert "--undo" in result.err


def test_side_by_side_types_are_refused(dp, tmp_path):
    section = make_section()
    descriptor = {"type": "se_atten", "rcut": 4.0, "rcut_smth": 0.5, "sel": 20, "neuron": [4]}
    model = build_model({**section, "descriptor": {**descriptor, "axis_neuron": 2}})
    save_model("m.dp", model_file_dict(model, section, 0.9, "NumPy"))
    result = dp("compress", "-i", "m.dp", "-o", "c.dp")
    assert result.code == 1
    assert '"tebd_input_mode": "strip"' in result.err
