# SPDX-License-Identifier: LGPL-3.0-or-later
"""Cost of a training and of dynamics with its model, from a measured while on this machine."""

import copy
import dataclasses
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from deepmd.base.errors import InputError, NotAvailableError
from deepmd.dpmodel.batch import Batch
from deepmd.dpmodel.label import parameter_labels
from deepmd.dpmodel.model import Model
from deepmd.dpmodel.model.inputs import atom_inputs
from deepmd.dpmodel.neighbors import batch_edges
from deepmd.dpmodel.nn.tabulation import TableSettings
from deepmd.infer.queries import model_size
from deepmd.io.packed import named_arrays
from deepmd.np.engine import NativeEvaluator
from deepmd.runtime.evaluator import Evaluator
from deepmd.train.checkpoints import CheckpointStore
from deepmd.train.entry import make_trainer
from deepmd.train.extras import Extra
from deepmd.train.plan import Plan, make_plan
from deepmd.train.trainer import Task, Trainer

#: Steps that are not counted: programs are made, memory is found, data are read.
WARM_UP = 3
#: Atoms of the system that dynamics is measured with, at least, where its cell can be repeated.
ATOMS = 500
#: Alternatives that only change the number format, or evaluate tables; others are descriptors.
PRECISION, COMPRESSED = "float32", "compressed"
DESCRIPTORS = ("se_e2_a", "se_e2_r", "se_e3", "se_atten_v2")
ALTERNATIVES = (PRECISION, COMPRESSED, *DESCRIPTORS)
_SECTIONS = ("descriptor", "fitting_net")


@dataclasses.dataclass
class Cost:
    """What was measured of an input, as far as it was.

    Attributes
    ----------
    name : str
        ``input``, or the alternative.
    step : float
        Seconds per step of the training, the median.
    numb_steps : int
    memory : float
        Largest memory of the process [MiB].
    parameters : int
    size : float
        Of the arrays of a model file [MiB].
    md_atom : float
        Seconds per atom and step of dynamics.
    md_atoms : int
        Atoms of the system that this was measured with.
    engine : str
        Who evaluated it.
    """

    name: str
    step: float
    numb_steps: int
    memory: float
    parameters: int
    size: float
    md_atom: float
    md_atoms: int
    engine: str

    def to_dict(self, timestep: float) -> dict[str, Any]:
        """Return everything with what follows from it; ``timestep`` [fs]."""
        return dataclasses.asdict(self) | {
            "steps_per_hour": 3600.0 / self.step,
            "hours": self.step * self.numb_steps / 3600.0,
            "us_per_atom_step": 1e6 * self.md_atom,
            "ns_per_day": ns_per_day(self.md_atom * self.md_atoms, timestep),
        }


def ns_per_day(seconds: float, timestep: float) -> float:
    """Return the nanoseconds per day of dynamics whose steps of ``timestep`` [fs] take ``seconds``."""
    return 86400.0 / seconds * timestep * 1e-6


class _Watch(Extra):
    """Takes the times of steps, and ends the training after a while."""

    name = "watch"

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.ends: list[float] = []

    def after_step(self, trainer: Trainer) -> None:
        """Note the time."""
        self.ends.append(time.monotonic())
        enough = len(self.ends) > WARM_UP + 1
        self.finished = enough and self.ends[-1] - self.ends[WARM_UP] > self.seconds

    def median(self) -> float:
        """Median time of a step [s]."""
        return float(np.median(np.diff(self.ends[WARM_UP - len(self.ends) :])))


def measure(config: Mapping[str, Any], backend: Any, seconds: float) -> list[Cost]:
    """Train for a while in an empty folder, and evaluate the model as dynamics does.

    Parameters
    ----------
    config : dict
        Normalized input.
    backend : Backend
    seconds : float
        That the training is measured; a tenth of it is for dynamics.

    Returns
    -------
    list of Cost
        Of the input, and of the model with tables, where it can have them: same training.
    """
    if "model_dict" in config["model"]:
        raise NotAvailableError(
            "inputs of several tasks are not planned", fix="plan the branches one by one"
        )
    with tempfile.TemporaryDirectory(prefix="dp-plan-") as folder:
        plan = make_plan(_elsewhere(config, folder))
        suffix = backend.checkpoint_suffix or backend.suffixes[0]
        store = CheckpointStore(
            os.path.join(folder, "model.ckpt"),
            suffix,
            backend.write_checkpoint,
            parts=backend.checkpoint_parts,
        )
        trainer = make_trainer(plan, backend, store)
        numb_steps, trainer.numb_steps = trainer.numb_steps, 1 << 40
        watch = _Watch(seconds)
        trainer.extras.append(watch)
        trainer.run()
    (task,) = trainer.tasks.values()
    step, model = watch.median(), trainer.stepper.model(next(iter(trainer.tasks)))
    memory = peak_memory()
    found = []
    for name, one in (("input", model), (COMPRESSED, _compressed(model, plan))):
        if one is not None:
            md = measure_dynamics(one, task, backend, seconds / 10.0)
            number, size = model_size(one)["total"], file_size(one)
            found.append(Cost(name, step, numb_steps, memory, number, size, *md))
    return found


def _elsewhere(config: Mapping[str, Any], folder: str) -> dict[str, Any]:
    """Return an input whose training writes into a folder, and shows nothing."""
    out = copy.deepcopy(dict(config))
    training = out["training"]
    training |= {"disp_training": False, "tensorboard": False}
    training["disp_file"] = os.path.join(folder, "lcurve.out")
    training["save_freq"] = 1 << 40
    for section in (training, training.get("training_data") or {}):
        section.pop("stat_file", None)
    off = {"full_validation": False, "ema_full_validation": False}
    out["validating"] = {**(out.get("validating") or {}), **off}
    return out


def _compressed(model: Model, plan: Plan) -> Model | None:
    """Return a copy of a model with tables, or None if it cannot have any."""
    if plan.min_nbor_dist is None or not plan.min_nbor_dist > 0.0:
        return None
    made = Model.deserialize(model.serialize())
    try:
        made.compress(TableSettings(0.01, 5.0, plan.min_nbor_dist))
    except (InputError, NotAvailableError):
        return None
    return made


def measure_dynamics(
    model: Model, task: Task, backend: Any, seconds: float
) -> tuple[float, int, str]:
    """Return seconds per atom and step, number of atoms, and name of what evaluates.

    The first frame of the training data is repeated to some hundred atoms; every step finds the
    neighbors anew.
    """
    system = task.data.systems[0]
    batch = repeated(system.load(np.arange(1), parameter_labels(model)), model.get_rcut())
    evaluator, engine = _evaluator(model, backend)

    def step() -> None:
        whole = batch
        if not evaluator.finds_edges:
            whole = dataclasses.replace(batch, edges=batch_edges(batch, model.get_rcut()))
        evaluator.evaluate(whole, derivatives=("force", "virial"))

    return _median(step, seconds) / batch.n_atoms, batch.n_atoms, engine


def _evaluator(model: Model, backend: Any) -> tuple[Evaluator, str]:
    """Return the native engine where it evaluates a model, else what the backend has."""
    try:
        made = NativeEvaluator.of_model(model)
    except NotAvailableError:
        return backend.evaluator(model), backend.name
    return made, made.native.name if made.native is not None else backend.name


def _median(step: Callable[[], None], seconds: float) -> float:
    step()
    times: list[float] = []
    while sum(times) < seconds or len(times) < 3:
        start = time.perf_counter()
        step()
        times.append(time.perf_counter() - start)
    return float(np.median(times))


def repeated(batch: Batch, rcut: float) -> Batch:
    """Return a frame repeated along its cell vectors until it has enough atoms.

    Open systems stay as they are.
    """
    cell, n = batch.cell[0], batch.n_atoms
    if not batch.periodic[0]:
        return batch
    count = max(1, round((ATOMS / n) ** (1 / 3)))
    while count**3 * n < ATOMS:
        count += 1
    shifts = np.stack(np.meshgrid(*[np.arange(count)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    coord = (batch.coord[None] + (shifts @ cell)[:, None]).reshape(1, -1, 3)
    given = {k: np.tile(v, (len(shifts), 1)) for k, v in atom_inputs(batch).items()}
    made = Batch.from_arrays(
        coord,
        count * cell[None],
        np.tile(batch.atype, len(shifts)),
        fparam=batch.fparam,
        aparam=given.get("aparam"),
        spin=given.get("spin"),
    )
    made.charge_spin = batch.charge_spin
    return made


def peak_memory() -> float:
    """Largest memory that this process has had [MiB]."""
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used / (1 << 20 if sys.platform == "darwin" else 1 << 10)


def file_size(model: Model) -> float:
    """Size of the arrays of a model [MiB]."""
    return sum(a.nbytes for a in named_arrays({"model": model.serialize()})[1].values()) / (1 << 20)


def alternative(config: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return an input with another precision or descriptor.

    Parameters
    ----------
    config : dict
        An input, as the user wrote it.
    name : str
        Of :data:`ALTERNATIVES`.

    Raises
    ------
    InputError
        If the input has no descriptor of its own.
    """
    out = copy.deepcopy(dict(config))
    model = out["model"]
    if not isinstance(model.get("descriptor"), Mapping):
        raise InputError(
            "has no descriptor to replace", where="model", fix="leave alternatives out"
        )
    if name == PRECISION:
        for section in _SECTIONS:
            model[section] = {**(model.get(section) or {}), "precision": "float32"}
    elif name != COMPRESSED:
        old = model["descriptor"]
        kept = {k: old[k] for k in ("rcut", "rcut_smth", "seed") if k in old}
        model["descriptor"] = {"type": name, "sel": "auto", **kept}
    return out
