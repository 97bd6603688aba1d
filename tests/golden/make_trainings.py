# SPDX-License-Identifier: LGPL-3.0-or-later
"""Golden checkpoints of trainings with more than a model: branches, adapters, averages, best ones.

``PYTHONPATH=tests python tests/golden/make_trainings.py v3`` writes ``tests/golden/ours/v3``: for each
training a folder with data, input, the checkpoints of every backend after its last step but one, and
``state.npz`` with their numbers and those of the last step. Models are in the versions before.
"""

import argparse
import copy
import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from golden.make_ours import (
    OURS,
    STEPS,
    TOLERANCE,
    TRAINING,
    TRAININGS,
    checkpoint_name,
    grouped,
    training_folder,
    worst,
    write_data,
)

from deepmd.backend.detect import backend_of
from deepmd.dpmodel.module import split
from deepmd.main import main as dp

#: Model from which the adapted one starts.
BASE = OURS / "v2" / "training" / "model.ckpt-2.dp"
#: What is kept of a run: the checkpoint before the last step, and what is beside it.
KEPT = (f"model.ckpt-{STEPS - 1}", f"model_ema.ckpt-{STEPS - 1}", f"best.ckpt-{STEPS - 1}.t-1")


def branches() -> dict[str, Any]:
    """Return the input of two tasks that share the descriptor and the fitting."""
    config = copy.deepcopy(TRAINING)
    model, loss = config["model"], config.pop("loss")
    parts = {"types": model["type_map"], "des": model["descriptor"]}
    parts["fit"] = {**model["fitting_net"], "dim_case_embd": 2}
    branch = {"type_map": "types", "descriptor": "des", "fitting_net": "fit"}
    config["model"] = {"shared_dict": parts, "model_dict": {"ice": branch, "gas": branch}}
    config["loss_dict"] = {"ice": loss, "gas": loss}
    data = {"training_data": config["training"].pop("training_data")}
    config["training"] |= {"data_dict": {"ice": data, "gas": data}}
    config["training"]["model_prob"] = {"ice": 0.7, "gas": 0.3}
    return config


def adapted() -> dict[str, Any]:
    """Return the input of a fine-tuning with adapters, an average, and a best checkpoint."""
    config = copy.deepcopy(TRAINING)
    config["training"] |= {
        "lora": {"rank": 2, "alpha": 4.0},
        "enable_ema": True,
        "ema_decay": 0.5,
        "validation_data": {"systems": ["data"]},
    }
    config["validating"] = {
        "full_validation": True,
        "validation_freq": STEPS - 1,
        "full_val_start": 0,
        "max_best_ckpt": 1,
        "validation_metric": "F:RMSE",
    }
    return config


#: Name of a folder -> its input, and further options of the command.
INPUTS: dict[str, tuple[Any, list[str]]] = {
    "branches": (branches, []),
    "adapted": (adapted, ["--finetune", str(BASE)]),
}


def state(path: Path) -> dict[str, np.ndarray]:
    """Return the numbers of a checkpoint: parameters of all tasks, optimizer, and adapters."""
    stored = backend_of(str(path)).read_checkpoint(path)
    arrays = {f"{t}/{k}": v for t, m in stored.models.items() for k, v in split(m)[0].items()}
    arrays |= {f"optimizer/{k}": v for k, v in stored.optimizer.items()}
    arrays |= {k: v for k, v in stored.trainer.items() if k.startswith(("lora.", "ema."))}
    return {k: np.asarray(v, np.float64) for k, v in arrays.items()}


def files_of(folder: Path, flag: str) -> list[Path]:
    """Return the checkpoints of a backend in a folder."""
    suffix = TRAININGS[flag][0]
    return [folder / f"{name}{suffix}" for name in KEPT if (folder / f"{name}{suffix}").exists()]


def copy_files(source: Path, target: Path, flag: str) -> None:
    """Copy all files of these checkpoints."""
    for file in files_of(source, flag):
        for suffix in TRAININGS[flag]:
            shutil.copy(file.with_name(file.name.removesuffix(file.suffix) + suffix), target)


def write(folder: Path, name: str) -> None:
    """Run a training on every backend, and keep what is golden of it."""
    make_input, options = INPUTS[name]
    folder.mkdir(parents=True)
    write_data(folder / "data")
    (folder / "input.json").write_text(json.dumps(make_input(), indent=1) + "\n")
    values = {}
    for flag in TRAININGS:
        with training_folder(folder) as work:
            dp([flag, "train", "input.json", "--skip-neighbor-stat", *options])
            copy_files(work, folder, flag)
            found = {f.name: state(f) for f in files_of(work, flag)}
            found[checkpoint_name(STEPS, flag)] = state(work / checkpoint_name(STEPS, flag))
        values |= {f"{file}/{k}": v for file, arrays in found.items() for k, v in arrays.items()}
    np.savez_compressed(folder / "state.npz", **values)


def check_state(file: Path) -> float:
    """Read a checkpoint, and return the largest deviation of its numbers."""
    return worst(state(file), grouped(dict(np.load(file.with_name("state.npz"))), f"{file.name}/"))


def check_step(folder: Path, flag: str) -> float:
    """Restart from a checkpoint, and return the largest deviation after the step."""
    last = checkpoint_name(STEPS, flag)
    with training_folder(folder) as work:
        copy_files(folder, work, flag)
        before = checkpoint_name(STEPS - 1, flag)
        dp([flag, "train", "input.json", "--restart", before, "--skip-neighbor-stat"])
        found = state(work / last)
    return worst(found, grouped(dict(np.load(folder / "state.npz")), f"{last}/"))


def make(folder: Path) -> None:
    """Write a version, check it, and give the folder its name."""
    if folder.exists():
        raise SystemExit(f"{folder}: is there; golden files are kept, choose the next version")
    work = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        for name in INPUTS:
            write(work / name, name)
        wrong = {}
        for one in (work / name for name in INPUTS):
            for flag in TRAININGS:
                wrong |= {f"{one.name}/{f.name}": check_state(f) for f in files_of(one, flag)}
                wrong[f"{one.name} {flag}"] = check_step(one, flag)
        if bad := {k: v for k, v in wrong.items() if not v <= TOLERANCE}:
            raise SystemExit(f"not written, these files give other results: {bad}")
        work.chmod(0o755)  # that of temporary folders is narrower
        work.rename(folder)
    finally:
        shutil.rmtree(work, ignore_errors=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("version", help="name of the new folder, v4 for example")
    make(OURS / parser.parse_args().version)
    sys.exit(0)
