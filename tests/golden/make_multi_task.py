# SPDX-License-Identifier: LGPL-3.0-or-later
"""Golden multi-task trainings: parameters after every step that DeePMD-kit takes.

``python tests/golden/make_multi_task.py DP [CASE ...]`` writes ``tests/golden/multi_task``; DP is the
program ``dp`` of DeePMD-kit 3.2.0 with PyTorch. Every branch has one frame, so that no choice of data
matters; the branch of a step is the one whose parameters have made one more. A first training of
one step at a negligible rate writes the initial parameters, and the one that counts starts from
its checkpoint.
"""

import copy
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from deepmd.dpmodel.module import split
from deepmd.pt.checkpoint.checkpoint import read_checkpoint
from deepmd.testing.systems import save_system

FOLDER = Path(__file__).resolve().parent / "multi_task"
STEPS = 8
TYPES = {"ice": (0, 0, 0, 1, 1, 1, 1, 1), "gas": (0, 1, 1, 0, 1, 1)}
CUT = {"rcut": 3.5, "rcut_smth": 2.0, "neuron": [3, 6], "axis_neuron": 2, "seed": 1}
LOSS = {
    "type": "ener",
    "start_pref_e": 0.1,
    "limit_pref_e": 1,
    "start_pref_f": 10,
    "limit_pref_f": 1,
    "start_pref_v": 0.1,
    "limit_pref_v": 1,
}
#: Parts that are shared, what branches have of their own.
CASES: dict[str, dict[str, Any]] = {
    # One descriptor, a fitting for every branch.
    "descriptor": {
        "shared": {"des": {"type": "se_e2_a", "sel": [20, 30], **CUT}},
        "ice": {"descriptor": "des", "fitting_net": {"neuron": [4, 4], "seed": 1}},
        "gas": {"descriptor": "des", "fitting_net": {"neuron": [5], "seed": 2}},
    },
    # One type embedding, and one fitting that tells branches apart.
    "fitting": {
        "shared": {
            "des": {
                "type": "se_atten",
                "sel": 30,
                "attn": 4,
                "attn_layer": 1,
                "tebd_dim": 3,
                "set_davg_zero": False,
                **CUT,
            },
            "fit": {"neuron": [4, 4], "seed": 1, "numb_fparam": 1, "dim_case_embd": 2},
        },
        "ice": {"descriptor": "des:1", "fitting_net": "fit"},
        "gas": {"descriptor": "des", "fitting_net": "fit"},
    },
}


def frame(types: tuple[int, ...], seed: int) -> dict[str, np.ndarray]:
    """One frame on a distorted grid, with made-up labels."""
    rng, n = np.random.default_rng(seed), len(types)
    side = 2.4 + 0.2 * seed
    grid = np.stack(np.meshgrid(*[[0.0, side]] * 3, indexing="ij"), axis=-1).reshape(8, 3)[:n]
    return {
        "coord": (grid + rng.uniform(-0.4, 0.4, (n, 3))).reshape(1, -1),
        "box": (2 * side * np.eye(3)).reshape(1, 9),
        "energy": np.array([-3.0 * seed]),
        "force": rng.normal(size=(1, 3 * n)),
        "virial": rng.normal(size=(1, 9)),
        "fparam": rng.normal(size=(1, 1)),
    }


def config(case: dict[str, Any]) -> dict[str, Any]:
    """Input of a case."""
    shared = {"types": ["O", "H"], **case["shared"]}
    branches = {name: {"type_map": "types", **case[name]} for name in TYPES}
    data = {k: {"training_data": {"systems": [k], "batch_size": 1}} for k in TYPES}
    return copy.deepcopy(
        {
            "model": {"shared_dict": shared, "model_dict": branches},
            "learning_rate": {"type": "exp", "start_lr": 0.01, "stop_lr": 1e-4, "decay_steps": 3},
            "loss_dict": {"ice": LOSS, "gas": {**LOSS, "start_pref_v": 0.0, "limit_pref_v": 0.0}},
            "training": {
                "data_dict": data,
                "model_prob": {"ice": 0.6, "gas": 0.4},
                "numb_steps": STEPS,
                "seed": 3,
                "disp_freq": 1,
                "save_freq": 1,
                "max_ckpt_keep": STEPS + 1,
            },
        }
    )


def train(program: str, given: dict[str, Any], *options: str) -> None:
    """Run a training here."""
    Path("input.json").write_text(json.dumps(given))
    command = [program, "--pt", "train", "input.json", "--skip-neighbor-stat", *options]
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    subprocess.run(command, check=True, env={**environment, "OMP_NUM_THREADS": "1"})


def initial(program: str, given: dict[str, Any]) -> None:
    """Write the checkpoint ``init.pt`` before the first step."""
    first = copy.deepcopy(given)
    first["learning_rate"] = {"type": "exp", "start_lr": 1e-60, "stop_lr": 1e-61}
    first["training"]["numb_steps"] = 1
    train(program, first)
    shutil.copy(Path("model.ckpt-1.pt"), "init.pt")


def arrays(path: str, *, fixed: bool) -> dict[str, np.ndarray]:
    """Arrays of a checkpoint by branch and path, the trained ones or all."""
    models = read_checkpoint(path).models
    parts = {name: split(model)[: 1 + fixed] for name, model in models.items()}
    return {f"{name}/{k}": v for name in parts for part in parts[name] for k, v in part.items()}


def branches_of(stored: dict[str, np.ndarray], columns: list[str]) -> list[str]:
    """Branch of every step: the one whose own parameters change.

    There is no checkpoint of the first step. If each branch makes one of the first two, the second
    is the one whose figures do not change between these rows: it is shown as it is after the first
    step, and as it is before its own.
    """
    found = []
    for row in range(STEPS - 1):
        changed = []
        for branch in TYPES:
            own = [k for k in stored if k.startswith(f"after/{branch}/") and _is_own(k, stored)]
            before = [stored["init" + k[5:]] if row == 0 else stored[k][row - 1] for k in own]
            if any((stored[k][row] != old).any() for k, old in zip(own, before, strict=True)):
                changed.append(branch)
        if row == 0 and len(changed) == 1:
            changed *= 2
        elif row == 0:
            changed = sorted(changed, key=lambda name: _stays(stored["lcurve"][:2], columns, name))
        found += changed
    assert len(found) == STEPS
    return found


def _stays(rows: np.ndarray, columns: list[str], branch: str) -> bool:
    """Whether rows of the learning curve show the same figures of a branch."""
    mine = rows[:, [column.endswith(f"_trn_{branch}") for column in columns]]
    return bool((np.ptp(mine, axis=0) == 0).all())


def _is_own(key: str, stored: dict[str, np.ndarray]) -> bool:
    """Whether an array belongs to one branch."""
    other = {"ice": "gas", "gas": "ice"}[key.split("/")[1]]
    twin = key.replace(key.split("/")[1], other, 1)
    return twin in stored and not np.array_equal(stored[key], stored[twin])


def make(program: str, name: str, case: dict[str, Any]) -> None:
    """Write the files of one case."""
    given = config(case)
    frames = {k: frame(types, number + 1) for number, (k, types) in enumerate(TYPES.items())}
    for branch, types in TYPES.items():
        save_system(Path(branch), types, ["O", "H"], frames[branch])
    initial(program, given)
    train(program, given, "--init-model", "init.pt")
    paths = [f"model.ckpt-{step}.pt" for step in range(1, STEPS + 1)]
    after = [arrays(path, fixed=False) for path in paths[1:]]
    stored = {f"init/{k}": v for k, v in arrays("init.pt", fixed=True).items()}
    stored |= {f"after/{k}": np.stack([one[k] for one in after]) for k in after[0]}
    for key in [k for k in stored if k.startswith("after/gas/")]:
        if np.array_equal(stored[key], stored.get(key.replace("/gas/", "/ice/"))):
            stored.pop(key)  # shared
    stored |= {f"data/{k}/{n}": v for k, one in frames.items() for n, v in one.items()}
    stored["lcurve"] = np.loadtxt("lcurve.out")
    FOLDER.mkdir(exist_ok=True)
    np.savez_compressed(FOLDER / f"{name}.npz", **stored)
    columns = Path("lcurve.out").read_text().splitlines()[0].split()[1:]
    about = {
        "input": given,
        "types": TYPES,
        "branches": branches_of(stored, columns),
        "columns": columns,
    }
    (FOLDER / f"{name}.json").write_text(json.dumps(about, indent=1) + "\n")


if __name__ == "__main__":
    for name in sys.argv[2:] or CASES:
        with tempfile.TemporaryDirectory() as folder:
            os.chdir(folder)
            make(sys.argv[1], name, CASES[name])
