# SPDX-License-Identifier: LGPL-3.0-or-later
"""The example of electrostatics: data, dipole model, energy model, as its page says."""

import runpy
import shutil
from pathlib import Path

import numpy as np
from examples.test_examples_run import EXAMPLES, shortened, train

from deepmd.backend.detect import backend_of
from deepmd.infer import DeepPot
from deepmd.schema import load_input

FOLDER = EXAMPLES / "water" / "dplr"


def test_both_models_train(tmp_path, monkeypatch):
    (tmp_path / "data").symlink_to(EXAMPLES / "water" / "data")
    shutil.copytree(FOLDER, tmp_path / "dplr", ignore=shutil.ignore_patterns("model*", "*.pth"))
    monkeypatch.chdir(tmp_path / "dplr")
    runpy.run_path("make_centroids.py", run_name="__main__")
    moved = np.load("centroids/valid/valid_0/set.000/atomic_dipole.npy").reshape(-1, 22, 3, 3)
    assert 0.05 < np.linalg.norm(moved[:, :, 0], axis=-1).mean() < 0.12
    assert not moved[:, :, 1:].any()
    runpy.run_path("lammps_data.py", run_name="__main__")
    assert Path("water.data").read_text().splitlines()[2:5] == [
        "88 atoms",
        "3 atom types",
        "22 bonds",
    ]
    for name in ("dipole", "energy"):
        given = shortened(load_input(f"{name}.json"), steps=2)
        if name == "energy":
            given["model"]["modifier"]["model_name"] = "dipole.dp"
        curve = train("dpmodel", given)
        assert np.isfinite(curve).all()
        tree = backend_of("model.ckpt-2.dp").serialize_hook("model.ckpt-2.dp")
        backend_of("x.dp").deserialize_hook(f"{name}.dp", tree)
        for path in Path.cwd().glob("model.ckpt*"):
            path.unlink()
    part = Path("centroids/valid/valid_0/set.000")
    coord, box = (np.load(part / f"{k}.npy")[:1] for k in ("coord", "box"))
    potential = DeepPot("energy.dp")
    energy = potential.eval(coord, box, [0, 1, 1] * 22)[0]
    bare = potential.deep_eval.evaluator.model
    assert bare.modifier is not None
    bare.modifier = None
    assert abs(energy - potential.eval(coord, box, [0, 1, 1] * 22)[0]).item() > 0.1
