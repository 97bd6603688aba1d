# SPDX-License-Identifier: LGPL-3.0-or-later
"""Cost of uncertainties: processor time of evaluations with them, beside that without.

    python benchmarks/uncertainty.py [--atoms 192] [--compressed] [--repeats 10]

A model of water (se_e2_a of 25, 50, 100 functions, fitting of three layers of 240) with random
weights and a random covariance of its last layer, evaluated by the native engine, one thread.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from uncertain import add_uncertainty

from deepmd.dpmodel.model import build_model
from deepmd.infer import DeepPot
from deepmd.infer.uncertainty import Estimator
from deepmd.io import load_model, save_model
from deepmd.main import main as dp


def model_file(folder: Path, *, compressed: bool) -> Path:
    """Write the model; return its file."""
    section = {
        "type_map": ["O", "H"],
        "descriptor": {
            "type": "se_e2_a",
            "sel": [46, 92],
            "rcut": 6.0,
            "rcut_smth": 0.5,
            "neuron": [25, 50, 100],
            "axis_neuron": 16,
        },
        "fitting_net": {"neuron": [240, 240, 240], "resnet_dt": True},
    }
    path = folder / "model.dp"
    tree = {"model": build_model(section).serialize(), "min_nbor_dist": 0.9}
    save_model(path, {**tree, "model_def_script": section})
    if compressed:
        dp(["--dp", "compress", "-i", str(path), "-o", str(folder / "c.dp")])
        path = folder / "c.dp"
    save_model(path, add_uncertainty(load_model(path)))
    return path


def cost(call, repeats: int) -> float:
    """Return the least processor time of a call [ms], of `repeats`."""
    call()
    times = []
    for _ in range(repeats):
        start = time.process_time()
        call()
        times.append(time.process_time() - start)
    return 1e3 * min(times)


def main() -> None:
    """Measure, and print a line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--atoms", type=int, default=192)
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--compressed", action="store_true")
    parser.add_argument("--draws", action="store_true", help="measure the 16 draws, too")
    given = parser.parse_args()
    rng = np.random.default_rng(0)
    side = int(np.ceil(given.atoms ** (1 / 3)))
    box = (10.0 * given.atoms) ** (1 / 3)
    grid = np.stack(np.meshgrid(*[np.arange(side)] * 3, indexing="ij"), -1).reshape(-1, 3)
    coord = (grid[: given.atoms] + rng.uniform(0.3, 0.7, (given.atoms, 3))) * box / side
    types = np.array([0, 1, 1] * given.atoms)[: given.atoms]
    frame = (coord[None], box * np.eye(3).reshape(1, 9), types)
    with tempfile.TemporaryDirectory() as folder:
        path = model_file(Path(folder), compressed=given.compressed)
        potential = DeepPot(path)
        calls = {
            "evaluation": lambda: potential.evaluate(*frame),
            "energy and forces (atoms)": lambda: quick.evaluate(*frame),
        }
        quick, slow = Estimator(potential, forces="atoms"), Estimator(potential)
        if given.draws:
            calls["energy and forces (draws)"] = lambda: slow.evaluate(*frame)
        out = {name: cost(call, given.repeats) for name, call in calls.items()}
    base = out["evaluation"]
    print(json.dumps({"atoms": given.atoms, "compressed": given.compressed, "ms": out}))
    print({name: f"{100 * (value / base - 1):+.1f} %" for name, value in out.items()})


if __name__ == "__main__":
    main()
