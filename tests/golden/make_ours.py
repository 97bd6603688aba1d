# SPDX-License-Identifier: LGPL-3.0-or-later
"""Golden files of our own formats, one folder per version of the formats, kept for ever.

``PYTHONPATH=tests python tests/golden/make_ours.py v4`` writes ``tests/golden/ours/v4``: small models
with random parameters in every format, checkpoints of every backend, their inputs and results. A folder
that is there is never written again. Results are those of the NumPy backend, and every file is opened
and compared before the folder gets its name. ``--models`` and ``--trainings`` name what is new, where
everything else is as in the version before.
"""

import argparse
import contextlib
import copy
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from members import MEMBERS, section

from deepmd.backend.detect import backend_of
from deepmd.dpmodel.batch import Batch
from deepmd.dpmodel.model import DipoleChargeModifier, Model, build_model
from deepmd.dpmodel.module import split
from deepmd.dpmodel.neighbors import batch_edges
from deepmd.dpmodel.nn.tabulation import TableSettings
from deepmd.dpmodel.uncertainty import SECTION, Uncertainty
from deepmd.infer import DeepEval, DeepPot
from deepmd.infer.uncertainty import Estimator
from deepmd.infer.uncertainty_fit import fit_last_layer
from deepmd.io.files import SINGLE
from deepmd.main import main as dp
from deepmd.runtime.precision import in_precision
from deepmd.runtime.probes import model_file_dict, write_model
from deepmd.schema.check import normalize_model
from deepmd.testing.backends import evaluator
from deepmd.testing.systems import randomize, save_system, small_system

OURS = Path(__file__).resolve().parent / "ours"
TOLERANCE = 1e-10
#: Formats beside .dp, which every model has. Compiled files are large: one per form of model that
#: they treat differently.
FORMATS = {
    "se_e2_a": ("yaml", "pth", "hlo", "pb", "savedmodel"),
    "se_atten": ("yaml", "pth", "pb"),
    "dpa2": ("yaml",),
    "dpa3": ("yaml", "pth", "pb"),
    "hybrid": ("yaml",),
    "dipole": ("pth", "pb"),
    "property": ("yaml",),
    "zbl": ("yaml",),
    "linear_ener": ("yaml", "pth"),
    "spin": ("yaml", "pth", "pb"),
    "parameters": ("yaml", "pth", "savedmodel", "savedmodeltf"),
    "compressed": ("pb",),
    "dplr": ("yaml", "pth", "pb"),
    "type_embedding": ("yaml", "pth", "pb"),
    "population": ("pth", "pb"),
    "float32": ("yaml", "pth", "pb"),
    "bare_table": ("pth",),
    "pairwise_dprc": ("pth", "pb"),
    "named_layers": ("yaml",),
    "uncertainty": ("yaml", "pth"),
}
#: Members of :mod:`members` with something added.
VARIANTS = (
    *("parameters", "compressed", "dplr", "float32"),
    *("bare_table", "pairwise_dprc", "named_layers", "uncertainty"),
)
#: Where backends differ in the rounding of networks.
COARSE = {"float32": 1e-5}
#: Options of ``dp`` and the suffixes of their checkpoints, the first is that of their name.
TRAININGS = {
    "--dp": (".dp",),
    "--pt": (".pt",),
    "--jax": (".jax",),
    "--tf": (".meta", ".index", ".data-00000-of-00001"),
}
STEPS = 3
TRAINING: dict[str, Any] = {
    "model": {
        "type_map": ["O", "H"],
        "descriptor": {
            "type": "se_e2_a",
            "sel": [20, 30],
            "rcut": 3.5,
            "rcut_smth": 2.0,
            "neuron": [2, 4],
            "axis_neuron": 2,
            "type_one_side": True,
            "seed": 1,
        },
        "fitting_net": {"neuron": [4, 4], "seed": 1},
    },
    "learning_rate": {"type": "exp", "start_lr": 0.01, "stop_lr": 1e-4, "decay_steps": 2},
    "loss": {"type": "ener", "start_pref_v": 0.1, "limit_pref_v": 0.1},
    "training": {
        "training_data": {"systems": ["data"], "batch_size": 2},
        "numb_steps": STEPS,
        "seed": 7,
        "disp_freq": 1,
        "save_freq": 1,
    },
}

#: Trainings by the name behind that of their folder, with what is not as in TRAINING.
KINDS: dict[str, dict[str, Any]] = {
    "": {},
    "several": {"model": None, "training": None},  # see training_input
    "lora": {"training": {"lora": {"rank": 2}}},
    "average": {
        "training": {"enable_ema": True, "ema_decay": 0.5},
        "validating": {
            "full_validation": True,
            "ema_full_validation": True,
            "validation_freq": 1,
            "full_val_start": 0.0,
        },
    },
}
#: Other checkpoints that a training leaves, which are opened only, by kind: names without suffixes, of
#: which the first that there is is kept.
OTHERS = {
    "average": {
        "averaged": ("model_ema.ckpt-2",),
        "best": tuple(f"best.ckpt-{k}.t-1" for k in (3, 2, 1)),
        "best_averaged": tuple(f"best_ema.ckpt-{k}.t-1" for k in (3, 2, 1)),
    }
}


def training_input(kind: str) -> dict[str, Any]:
    """Return the input of a kind of training."""
    given = copy.deepcopy(TRAINING)
    if kind != "several":
        for name, more in KINDS[kind].items():
            given[name] = {**given.get(name, {}), **more}
        if kind == "average":
            given["training"]["validation_data"] = {"systems": ["data"], "batch_size": 1}
        return given
    model, training = given.pop("model"), given["training"]
    names = {"types": model["type_map"], "des": model["descriptor"]}
    fitting = {**model["fitting_net"], "dim_case_embd": 2}
    branch = {"type_map": "types", "descriptor": "des", "fitting_net": "fit"}
    given["model"] = {
        "shared_dict": {**names, "fit": fitting},
        "model_dict": {"ice": branch, "gas": branch},
    }
    data = {"training_data": training.pop("training_data")}
    training |= {"data_dict": {"ice": data, "gas": data}, "model_prob": {"ice": 1.0, "gas": 1.0}}
    given["loss_dict"] = dict.fromkeys(("ice", "gas"), given.pop("loss"))
    return given


def model_of(name: str) -> Model:
    """Return a member, or one with something added."""
    with tempfile.TemporaryDirectory() as tables:
        model = randomize(build_model(section_of(name, Path(tables))), seed=2)
    if name == "dplr":
        dipole = section("dipole", Path())
        dipole["fitting_net"]["sel_type"] = [0]
        model.modifier = DipoleChargeModifier("dipole.dp", [-8.0], [6.0, 1.0])
        model.modifier.dipole = randomize(build_model(dipole), seed=4)
        model.modifier.adopt(model.get_type_map())
    if name == "float32":  # as the option --precision makes them
        data = in_precision(model_file_dict(model, {}, 0.5, "NumPy"), "float32")
        model = Model.deserialize(data["model"])
    if name == "compressed":
        model.compress(TableSettings(step=0.05, extrapolate=2.0, min_distance=0.8))
    return model


def section_of(name: str, tables: Path) -> dict[str, Any]:
    """Return the model section of a member or variant; ``tables`` takes the tables it needs."""
    if name == "bare_table":
        return {**section("zbl", tables), "srtab_add_bias": False}
    given = section("se_e2_a" if name in VARIANTS else name, tables)
    if name == "parameters":
        given["fitting_net"] |= {"numb_fparam": 2, "numb_aparam": 1}
    if name == "named_layers":
        given["fitting_net"] |= {"neuron": [5, 5, 5], "layer_name": ["in", "two", "two", "out"]}
    if name == "pairwise_dprc":
        part = {"descriptor": section("se_atten", tables)["descriptor"]}
        part["fitting_net"] = given["fitting_net"]
        given = {"type": name, "type_map": ["O", "H"], "qm_model": part, "qmmm_model": part}
        given["type_embedding"] = {"neuron": [4], "seed": 1, "precision": "float64"}
        return normalize_model(given)
    return given


def uncertainty_of(model: Model) -> Uncertainty:
    """Fit the last layer of a model to made-up frames."""
    rng, batches = np.random.default_rng(6), []
    coord, cell, atype = small_system(2, 4.0, n=8, seed=4)
    potential = DeepPot.from_evaluator(evaluator("numpy", model))
    for frames in (20, 40):
        coords = coord + rng.uniform(-0.3, 0.3, (frames, *coord.shape))
        batch = Batch.from_arrays(coords, np.tile(cell, (frames, 1, 1)), atype)
        batch.edges = batch_edges(batch, model.get_rcut())
        found = potential.evaluate_batch(batch, derivatives=("force",))
        names = ("energy", "force")
        batch.labels = {k: found[k] + 0.1 * rng.normal(size=found[k].shape) for k in names}
        batch.find = dict.fromkeys(names, 1.0)
        batches.append(batch)
    return fit_last_layer(potential, batches[:1], batches[1:])


def inputs(name: str) -> dict[str, dict[str, np.ndarray]]:
    """Return the arguments of ``evaluate`` for a periodic and an open frame."""
    coord, cell, atype = small_system(2, 4.0, n=6, seed=3)
    rng = np.random.default_rng(5)
    given: dict[str, np.ndarray] = {"coords": coord[None], "atom_types": atype}
    if name == "spin":
        given["spin"] = rng.normal(size=(1, *coord.shape))
    if name == "parameters":
        given |= {"fparam": rng.normal(size=(1, 2)), "aparam": rng.normal(size=(1, 6, 1))}
    if name == "pairwise_dprc":
        given["aparam"] = np.array([0.0, 1.0, 0.0, 2.0, 1.0, -1.0]).reshape(1, 6, 1)
    periodic = {"periodic": {**given, "cells": cell.reshape(1, 9)}}
    return periodic if name == "dplr" else {**periodic, "open": given}


def results(
    potential: DeepEval, given: dict[str, np.ndarray], uncertainty: Uncertainty | None = None
) -> dict[str, np.ndarray]:
    """Evaluate a frame: everything that the public class offers, and deviations if there are any."""
    derivatives = ("force", "virial", "atom_virial") if potential.model.differentiable() else ()
    frame = [given.get(k) for k in ("coords", "cells", "atom_types")]
    more = {k: v for k, v in given.items() if k not in ("coords", "cells", "atom_types")}
    out = potential.evaluate(*frame, derivatives=derivatives, **more)
    for forces in ("draws", "atoms") if uncertainty is not None else ():
        estimator = Estimator(potential, uncertainty=uncertainty, forces=forces)
        found = estimator.evaluate(*frame, **more)
        out |= {f"{forces}/{k}": v for k, v in found.items() if k.endswith("_std")}
    return out


def worst(got: dict[str, np.ndarray], want: dict[str, np.ndarray]) -> float:
    """Return the largest deviation, relative to the largest element of each array or 0.01."""
    assert set(got) == set(want), (sorted(got), sorted(want))
    found = [0.0]
    for key, value in want.items():
        assert got[key].shape == value.shape, key
        scale = max(float(np.abs(value).max(initial=0.0)), 0.01)
        found.append(float(np.abs(got[key] - value).max(initial=0.0)) / scale)
    return max(found)


def tolerance(name: str) -> float:
    """Return the largest deviation that a model may have."""
    return COARSE.get(name, TOLERANCE)


def write_models(folder: Path, names: tuple[str, ...]) -> None:
    """Write the models in their formats, and ``values.npz`` with inputs and results."""
    (folder / "models").mkdir(parents=True)
    values = {}
    for name in names:
        model = model_of(name)
        data = model_file_dict(model, {}, 0.5, "NumPy")
        uncertainty = uncertainty_of(model) if name == "uncertainty" else None
        if uncertainty is not None:
            data[SECTION] = uncertainty.serialize()
        for suffix in ("dp", *FORMATS.get(name, ())):
            file = folder / "models" / f"{name}.{suffix}"
            if suffix in ("dp", "yaml"):
                write_model(file, data)
            else:
                backend_of(str(file)).deserialize_hook(str(file), data)
        potential = DeepPot.from_evaluator(evaluator("numpy", model))
        for kind, frame in inputs(name).items():
            values |= {f"{name}/{kind}/{k}": v for k, v in frame.items()}
            found = results(potential, frame, uncertainty)
            values |= {f"{name}/{kind}/out/{k}": v for k, v in found.items()}
    np.savez_compressed(folder / "values.npz", **values)


def write_data(folder: Path, frames: int = 4) -> None:
    """Write a system with made-up labels."""
    rng = np.random.default_rng(11)
    coord, cell, atype = small_system(2, 4.0, n=8, seed=4)
    coords = coord + rng.uniform(-0.2, 0.2, (frames, *coord.shape))
    arrays = {
        "coord": coords.reshape(frames, -1),
        "box": np.tile(cell.ravel(), (frames, 1)),
        "energy": -3.0 + 0.1 * rng.normal(size=frames),
        "force": 0.1 * rng.normal(size=(frames, coord.size)),
        "virial": 0.1 * rng.normal(size=(frames, 9)),
    }
    save_system(folder, atype, ["O", "H"], arrays)


def training_name(kind: str) -> str:
    """Return the folder of a kind of training."""
    return f"training_{kind}" if kind else "training"


def checkpoint_name(step: int, flag: str) -> str:
    """Return the name that the trainer gives a checkpoint."""
    return f"model.ckpt-{step}{TRAININGS[flag][0]}"


def copy_checkpoint(
    name: str, flag: str, source: Path, target: Path, to: str | None = None
) -> None:
    """Copy all files of a checkpoint from folder to folder; names are without suffixes."""
    for suffix in TRAININGS[flag]:
        shutil.copy(source / f"{name}{suffix}", target / f"{to or name}{suffix}")


def state(path: Path) -> dict[str, np.ndarray]:
    """Return the numbers of a checkpoint: parameters, and what the optimizer holds."""
    stored = backend_of(str(path)).read_checkpoint(path)
    arrays = {}
    for task, model in stored.models.items():
        name = "model" if task == SINGLE else f"model/{task}"
        arrays |= {f"{name}/{k}": v for k, v in split(model)[0].items()}
    arrays |= {f"optimizer/{k}": v for k, v in stored.optimizer.items()}
    return {k: np.asarray(v, np.float64) for k, v in arrays.items()}


@contextlib.contextmanager
def training_folder(source: Path) -> Iterator[Path]:
    """Work in a folder with the data and input of ``source``."""
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        shutil.copytree(source / "data", work / "data")
        for file in ("input.json", "base.dp"):
            if (source / file).exists():
                shutil.copy(source / file, work / file)
        os.chdir(work)
        try:
            yield work
        finally:
            os.chdir(before)


def write_checkpoints(folder: Path, kind: str) -> None:
    """Train on every backend; keep the last checkpoint but one, and the numbers of the last."""
    folder.mkdir(parents=True)
    write_data(folder / "data")
    (folder / "input.json").write_text(json.dumps(training_input(kind), indent=1) + "\n")
    start = []
    if kind == "lora":
        model = randomize(build_model(copy.deepcopy(TRAINING["model"])), seed=2)
        write_model(folder / "base.dp", model_file_dict(model, TRAINING["model"], 0.5, "NumPy"))
        start = ["--init-frz-model", "base.dp"]
    after = {}
    for flag in TRAININGS:
        with training_folder(folder) as work:
            dp([flag, "train", "input.json", "--skip-neighbor-stat", *start])
            last = state(work / checkpoint_name(STEPS, flag))
            copy_checkpoint(f"model.ckpt-{STEPS - 1}", flag, work, folder)
            for name, choices in OTHERS.get(kind, {}).items():
                there = [c for c in choices if (work / f"{c}{TRAININGS[flag][0]}").exists()]
                copy_checkpoint(there[0], flag, work, folder, name)
        after |= {f"{flag.strip('-')}/{k}": v for k, v in last.items()}
        for name in OTHERS.get(kind, {}):
            found = state(folder / f"{name}{TRAININGS[flag][0]}")
            after |= {f"{name}/{flag.strip('-')}/{k}": v for k, v in found.items()}
    np.savez_compressed(folder / "after.npz", **after)


def continued(folder: Path, flag: str) -> dict[str, np.ndarray]:
    """Restart from the stored checkpoint for the last step; return the numbers afterwards."""
    with training_folder(folder) as work:
        before = checkpoint_name(STEPS - 1, flag)
        copy_checkpoint(f"model.ckpt-{STEPS - 1}", flag, folder, work)
        dp([flag, "train", "input.json", "--restart", before, "--skip-neighbor-stat"])
        return state(work / checkpoint_name(STEPS, flag))


def grouped(stored: dict[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    """Return the arrays whose name begins with a prefix, under the rest of it."""
    return {k.removeprefix(prefix): v for k, v in stored.items() if k.startswith(prefix)}


def check_model(folder: Path, file: Path) -> float:
    """Open a model file, evaluate it, and return the largest deviation of its results."""
    stored, potential, found = dict(np.load(folder / "values.npz")), DeepEval(file), []
    for kind in inputs(file.stem):
        arrays = grouped(stored, f"{file.stem}/{kind}/")
        want = grouped(arrays, "out/")
        given = {k: v for k, v in arrays.items() if not k.startswith("out/")}
        got = results(potential, given, potential.evaluator.uncertainty)
        found.append(worst(got, want))
    return max(found)


def check_checkpoint(folder: Path, flag: str) -> float:
    """Restart from a checkpoint and return the largest deviation of the state after the step.

    Checkpoints of averages and of the best steps are opened, and their numbers compared.
    """
    after, name = dict(np.load(folder / "after.npz")), flag.strip("-")
    found = [worst(continued(folder, flag), grouped(after, f"{name}/"))]
    for other in OTHERS.get(folder.name.removeprefix("training_"), {}):
        file = folder / f"{other}{TRAININGS[flag][0]}"
        found.append(worst(state(file), grouped(after, f"{other}/{name}/")))
    return max(found)


def make(
    folder: Path,
    names: Sequence[str] = (*MEMBERS, *VARIANTS),
    trainings: Sequence[str] = tuple(KINDS),
) -> None:
    """Write a whole version, check it, and give the folder its name."""
    if folder.exists():
        raise SystemExit(f"{folder}: is there; golden files are kept, choose the next version")
    folder.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        write_models(work, names)
        wrong = {f.name: check_model(work, f) for f in sorted((work / "models").iterdir())}
        for kind in trainings:
            place = work / training_name(kind)
            write_checkpoints(place, kind)
            wrong |= {f"{kind} {flag}": check_checkpoint(place, flag) for flag in TRAININGS}
        if bad := {k: v for k, v in wrong.items() if not v <= tolerance(k.split(".")[0])}:
            raise SystemExit(f"not written, these files give other results: {bad}")
        work.chmod(0o755)  # that of temporary folders is narrower
        work.rename(folder)
    finally:
        shutil.rmtree(work, ignore_errors=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("version", help="name of the new folder, v4 for example")
    parser.add_argument("--models", nargs="*", default=(*MEMBERS, *VARIANTS), metavar="NAME")
    parser.add_argument("--trainings", nargs="*", default=tuple(KINDS), metavar="KIND")
    args = parser.parse_args()
    make(OURS / args.version, args.models, args.trainings)
    sys.exit(0)
