# SPDX-License-Identifier: LGPL-3.0-or-later
"""Tiny data and a tiny model, trained with NumPy: milliseconds per step."""

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np

from deepmd.dpmodel.batch import Batch
from deepmd.dpmodel.module import split
from deepmd.np.evaluator import NumPyEvaluator
from deepmd.np.train_step import NumPyTrainStep
from deepmd.runtime.checkpoint import Checkpoint
from deepmd.runtime.checkpoint_file import read_checkpoint, write_checkpoint
from deepmd.testing.systems import save_system

TYPES = (0, 0, 0, 1, 1, 1, 1, 1)


class NumPyBackend:
    """What the trainer asks of a backend."""

    name = "NumPy"
    suffixes = (".dp",)
    checkpoint_suffix = ".dp"
    checkpoint_parts = ()
    train_step = NumPyTrainStep
    evaluator = NumPyEvaluator
    read_checkpoint = staticmethod(read_checkpoint)
    write_checkpoint = staticmethod(write_checkpoint)


class QuickStep(NumPyTrainStep):
    """Steps without a model's evaluation, that still depend on parameters, batch and moments."""

    def gradients(self, task: str, batch: Batch, lr: float) -> tuple[dict, dict]:
        energy = float(batch.labels["energy"].sum())
        grads = {k: 0.1 * p + energy for k, p in self._params[task].items()}
        loss = sum(float((g * g).sum()) for g in grads.values())
        return {"loss": loss, "rmse": loss**0.5, "rmse_e": energy, "rmse_f": 0.0}, grads

    def evaluate(self, task: str, batch: Batch, lr: float) -> dict:
        return self.gradients(task, batch, lr)[0]


class QuickBackend(NumPyBackend):
    """For tests of everything around the step."""

    train_step = QuickStep


def write_system(path: Path, *, frames: int = 6, seed: int = 0, **more: Any) -> None:
    """Write frames of 8 atoms on a distorted grid in a cube of 5 Å, with made-up labels."""
    rng = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(*[[0.0, 2.5]] * 3, indexing="ij"), axis=-1).reshape(8, 3)
    coord = grid + rng.uniform(-0.4, 0.4, (frames, 8, 3))
    arrays = {
        "coord": coord.reshape(frames, -1),
        "box": np.tile((5.0 * np.eye(3)).ravel(), (frames, 1)),
        "energy": -3.0 + 0.1 * rng.normal(size=frames),
        "force": 0.1 * rng.normal(size=(frames, 24)),
        **more,
    }
    save_system(path, TYPES, ["A", "B"], arrays)


CONFIG: dict[str, Any] = {
    "model": {
        "type_map": ["A", "B"],
        "descriptor": {
            "type": "se_e2_a",
            "sel": [20, 30],
            "rcut": 3.5,
            "rcut_smth": 2.0,
            "neuron": [2, 4],
            "axis_neuron": 2,
            "seed": 1,
        },
        "fitting_net": {"neuron": [4, 4], "seed": 1},
    },
    "learning_rate": {"type": "exp", "start_lr": 0.01, "stop_lr": 1e-4, "decay_steps": 3},
    "loss": {"type": "ener"},
    "training": {
        "training_data": {"systems": ["a", "b"], "batch_size": 2},
        "validation_data": {"systems": ["c"], "batch_size": 1, "numb_btch": 2},
        "numb_steps": 12,
        "seed": 7,
        "disp_freq": 2,
        "save_freq": 3,
    },
}


def two_branches(fitting: Any = "fit", **training: Any) -> dict[str, Any]:
    """Return an input of the branches ``ice`` (system a) and ``gas`` (b), which share parts.

    Parameters
    ----------
    fitting : str or dict
        Fitting of both; by default a shared one with a case embedding.
    **training
        Further keys of the section.
    """
    config = copy.deepcopy(CONFIG)
    model, given = config["model"], config["training"]
    names = {"types": model["type_map"], "des": model["descriptor"]}
    branch = {"type_map": "types", "descriptor": "des", "fitting_net": fitting}
    config["model"] = {
        "shared_dict": {**names, "fit": {**model["fitting_net"], "dim_case_embd": 2}},
        "model_dict": {"ice": {**branch, "model_branch_alias": ["Solid"]}, "gas": {**branch}},
    }
    del config["loss"]
    data = {
        name: {"training_data": {"systems": [system], "batch_size": 1}}
        for name, system in (("ice", "a"), ("gas", "b"))
    }
    data["ice"]["validation_data"] = given["validation_data"]
    kept = {k: v for k, v in given.items() if not k.endswith("_data")}
    config["training"] = {**kept, "data_dict": data, "model_prob": {"ice": 0.7, "gas": 0.3}}
    config["training"] |= {"numb_steps": 6, "save_freq": 3, "disp_freq": 1, **training}
    return copy.deepcopy(config)


class Workspace:
    """A folder with data, input files and trainings."""

    def __init__(self, path: Path) -> None:
        self.path = path
        write_system(path / "a", seed=1)
        write_system(path / "b", seed=2, frames=3)
        write_system(path / "c", seed=3, frames=4)

    def config(self, **training: Any) -> dict[str, Any]:
        """Return the input with other keys in ``training``; None removes a key."""
        config = copy.deepcopy(CONFIG)
        config["training"].update(training)
        config["training"] = {k: v for k, v in config["training"].items() if v is not None}
        return config

    def write(self, config: dict[str, Any]) -> str:
        (self.path / "input.json").write_text(json.dumps(config))
        return "input.json"

    def prepare(self, config: dict[str, Any] | None = None, **options: Any) -> Any:
        """Return a trainer."""
        from deepmd.train.entry import prepare

        options.setdefault("backend", NumPyBackend())
        return prepare(INPUT=self.write(config or self.config()), **options)

    def names(self) -> list[str]:
        """Checkpoints that are there."""
        return sorted(
            (p.name for p in self.path.glob("model.ckpt-*.dp")),
            key=lambda n: int(n.split("-")[1].split(".")[0]),
        )


def same_checkpoints(a: Checkpoint, b: Checkpoint) -> None:
    """Every array and number of two checkpoints is the same, bit for bit."""
    assert a.step == b.step
    assert a.min_nbor_dist == b.min_nbor_dist
    assert a.models.keys() == b.models.keys()
    pairs = [(a.optimizer, b.optimizer), (a.trainer, b.trainer)]
    for task in a.models:
        pairs += zip(split(a.models[task]), split(b.models[task]), strict=True)
    for x, y in pairs:
        assert x.keys() == y.keys()
        for k in x:
            if isinstance(x[k], str):
                assert x[k] == y[k], k
            else:
                assert np.asarray(x[k]).dtype == np.asarray(y[k]).dtype, k
                assert np.asarray(x[k]).tobytes() == np.asarray(y[k]).tobytes(), k
