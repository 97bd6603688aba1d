# SPDX-License-Identifier: LGPL-3.0-or-later
"""From a checked input to what a trainer needs: data, models, losses, numbers of steps."""

import contextlib
import copy
import dataclasses
import logging
import math
import secrets
from collections.abc import Iterator, Mapping
from typing import Any

from deepmd.base.errors import DataError, InputError
from deepmd.data.dataset import Dataset
from deepmd.data.neighbor_stat import (
    drop_close_pairs,
    longest_shift,
    model_selections,
    update_sel,
)
from deepmd.data.sampler import Sampler, read_blocks
from deepmd.data.search import open_systems
from deepmd.data.statistics import StatFile
from deepmd.data.system import System
from deepmd.dpmodel.label import Label, parameter_labels
from deepmd.dpmodel.loss import Loss, build_loss
from deepmd.dpmodel.model import Model, build_model
from deepmd.dpmodel.model.spin_section import spin_settings
from deepmd.io.files import SINGLE
from deepmd.train.statistics import observed_types, set_statistics
from deepmd.train.trainer import Task

log = logging.getLogger(__name__)


@dataclasses.dataclass
class Branch:
    """The sections of one task, references into the whole input."""

    name: str
    model: dict[str, Any]
    loss: dict[str, Any]
    data: dict[str, Any]
    where: str = "training"


def branches(config: Mapping[str, Any]) -> list[Branch]:
    """Return the tasks of a normalised input."""
    training, model = config["training"], config["model"]
    if "model_dict" not in model:
        return [Branch(SINGLE, model, config["loss"], training)]
    return [
        Branch(
            name,
            section,
            config["loss_dict"][name],
            training["data_dict"][name],
            f"training/data_dict/{name}",
        )
        for name, section in model["model_dict"].items()
    ]


# -- data -----------------------------------------------------------------------------------------


def open_data(branch: Branch, kind: str) -> list[System]:
    """Open the systems of ``training_data`` or ``validation_data``."""
    section = branch.data[kind]
    type_map = branch.model.get("type_map")
    if not type_map:
        raise InputError("no type_map", where="model", fix='name the types, e.g. ["O", "H"]')
    with _within(f"{branch.where}/{kind}"):
        blocks = read_blocks(section.get("auto_prob", "prob_sys_size"))
        systems = open_systems(
            section["systems"],
            type_map=type_map,
            patterns=section.get("rglob_patterns"),
            blocks=[(first, end) for first, end, _ in blocks],
        )
        drop_close_pairs(systems, section.get("min_pair_dist", 0.0))
        return systems


def open_both(branch: Branch) -> tuple[list[System], list[System] | None]:
    """Open training and validation data; the latter may be absent."""
    train, given = open_data(branch, "training_data"), branch.data.get("validation_data")
    return train, open_data(branch, "validation_data") if given else None


def make_dataset(
    branch: Branch, kind: str, systems: list[System], model: Model, labels: list[Label], seed: int
) -> Dataset:
    """Put the systems of ``training_data`` or ``validation_data`` and their sampler together."""
    section = branch.data[kind]
    try:
        sampler = Sampler(
            [s.nframes for s in systems],
            [s.natoms for s in systems],
            batch_size=section.get("batch_size", "auto"),
            auto_prob=section.get("auto_prob", "prob_sys_size"),
            sys_probs=section.get("sys_probs"),
            seed=seed,
            numbers=[s.numbers for s in systems],
        )
    except InputError as error:
        where = f"{branch.where}/{kind}/{error.where}"
        raise InputError(error.what, where=where, fix=error.fix) from None
    data = Dataset(systems, sampler, labels, rcut=pair_cutoff(model, systems))
    title = kind.removesuffix("_data")
    log.info("%s", data.summary(title if branch.name == SINGLE else f"{title} {branch.name}"))
    return data


def pair_cutoff(model: Model, systems: list[System]) -> float:
    """Return the cutoff [Å] of the pairs that are kept with the frames.

    With spins it reaches far enough for pairs of virtual atoms, so that none is searched in a step.
    """
    scale = model.spin_scale()
    if not scale:
        return model.get_rcut()
    sides = 1 + model.message_passing()
    return model.get_rcut() + sides * longest_shift(systems, scale)


def check_labels(data: Dataset, loss: Loss, where: str) -> None:
    """Warn of terms of the loss without any label; refuse data without all of them."""
    names = [label.name for label in loss.label_requirements()]
    absent = [n for n in names if not any(found[n] for found in data.found)]
    defaulted = {la.name for la in loss.label_requirements() if la.default != 0.0}
    if names and not set(names) - set(absent) - defaulted:
        raise DataError(
            f"none of the labels of the loss ({', '.join(names)}) is in any system",
            where=where,
            fix="add the files, e.g. set.000/energy.npy",
        )
    for name in absent:
        if name not in defaulted:
            log.warning(
                "%s: no system has %s.npy; that term of the loss counts nothing", where, name
            )
    for name in names if data.sampler.mixing is not None else ():
        count = sum(found[name] for found in data.found)
        if 0 < count < len(data.found):
            log.warning(
                "%s: %d of %d systems have no %s.npy; that term counts in those mixed batches only "
                "that have no frame of them",
                where,
                len(data.found) - count,
                len(data.found),
                name,
            )


# -- neighbours -----------------------------------------------------------------------------------


def count_neighbors(branch: Branch, systems: list[System]) -> float:
    """Resolve ``sel: "auto"`` in the branch's model section; return the smallest distance [Å]."""
    names, spin = branch.model["type_map"], branch.model.get("spin")
    scale = spin_settings(spin, names)["virtual_scale"] if spin else None
    found = list(model_selections(branch.model))
    min_dist = update_sel(found, systems, len(names), virtual_scale=scale)
    for one in found:
        log.info("neighbor selection: %s", one.value)
    log.info("minimal neighbor distance: %f", min_dist)
    return min_dist


def take_over_sel(branch: Branch, known: Mapping[str, Any]) -> None:
    """Replace ``"auto"`` by the numbers of the checkpoint that is continued, in place."""
    before = {one.where: one.value for one in model_selections(known)}
    for one in model_selections(branch.model):
        if isinstance(one.value, str):
            one.value = copy.deepcopy(before.get(one.where, one.value))


def refuse_auto(branch: Branch) -> None:
    """Raise InputError if a ``sel`` of the branch's model section is still ``"auto"``."""
    for one in model_selections(branch.model):
        if isinstance(one.value, str):
            raise InputError(
                f'"{one.value}" needs the neighbour statistics',
                where=one.where,
                fix="leave out --skip-neighbor-stat, or give numbers",
            )


# -- everything together --------------------------------------------------------------------------


def choose_seed(training: Mapping[str, Any]) -> int:
    """Return the seed of the order of the data; a new one, which is logged, if none is given."""
    seed = training.get("seed")
    if seed is None:
        seed = secrets.randbelow(2**31)
        log.info("training/seed is not given; %d is used", seed)
    return int(seed)


def make_tasks(
    config: Mapping[str, Any],
    systems: Mapping[str, tuple[list[System], list[System] | None]],
    *,
    seed: int,
    scan: bool = False,
) -> dict[str, Task]:
    """Build the models, losses and data of all tasks; statistics are not yet set.

    With ``scan`` all frames are read once, so that a bad one is found now and not after days.
    """
    tasks = {}
    for k, branch in enumerate(branches(config)):
        model = build_model(branch.model)
        loss = build_loss(branch.loss, config["learning_rate"]["start_lr"], model)
        labels = [*loss.label_requirements(), *parameter_labels(model)]
        if any(label.pairwise for label in labels):
            branch.model["hessian_mode"] = True  # evaluated by default, once it is trained
        train, valid = systems[branch.name]
        data = make_dataset(branch, "training_data", train, model, labels, seed + k)
        check_labels(data, loss, f"{branch.where}/training_data")
        task = tasks[branch.name] = Task(
            model, loss, data, bias_batches=int(branch.model.get("data_bias_nsample", 10))
        )
        if valid is not None:
            kind = "validation_data"
            task.validation = make_dataset(branch, kind, valid, model, labels, seed + k)
            task.numb_btch = int(branch.data[kind].get("numb_btch", 1))
        if scan:
            _scan(task, branch.where)
    _set_weights(tasks, config["training"])
    return tasks


def _scan(task: Task, where: str) -> None:
    """Read all frames of a task once."""
    for kind, data in (("training_data", task.data), ("validation_data", task.validation)):
        if data is None:
            continue
        for system in data.systems:
            with _within(f"{where}/{kind}"):
                system.scan(data.labels)


@contextlib.contextmanager
def _within(section: str) -> Iterator[None]:
    """Put the section of the input before the place of an error in the data."""
    try:
        yield
    except DataError as error:
        where = f"{section}: {error.where}"
        raise DataError(error.what, where=where, fix=error.fix) from None


def _set_weights(tasks: dict[str, Task], training: Mapping[str, Any]) -> None:
    given, epochs = training.get("model_prob") or {}, training.get("num_epoch_dict") or {}
    for name, task in tasks.items():
        if epochs:
            task.weight = epochs[name] * task.data.sampler.steps_per_epoch()
        else:
            task.weight = given.get(name, float(len(task.data.systems)))


def count_steps(training: Mapping[str, Any], tasks: Mapping[str, Task]) -> int:
    """Return the number of steps of the whole training."""
    if training.get("num_epoch_dict"):
        return math.ceil(sum(task.weight for task in tasks.values()))
    if training.get("numb_steps") is not None:
        return int(training["numb_steps"])
    (task,) = tasks.values()
    per_epoch = task.data.sampler.steps_per_epoch()
    steps = math.ceil(training["numb_epoch"] * per_epoch)
    log.info("%g epochs of %d steps: %d steps", training["numb_epoch"], per_epoch, steps)
    return steps


def set_all_statistics(config: Mapping[str, Any], tasks: Mapping[str, Task]) -> None:
    """Set the statistics of new models, and note the types that occur."""
    for branch in branches(config):
        task, training = tasks[branch.name], branch.data
        stat_file = None
        if training.get("stat_file"):
            stat_file = StatFile(
                training["stat_file"],
                task.model.get_type_map(),
                training.get("stat_file_mode", "update"),
            )
        nbatch = int(branch.model.get("data_stat_nbatch", 10))
        set_statistics(task.model, task.data, nbatch=nbatch, stat_file=stat_file)
        seen = observed_types(task.data, task.model.get_type_map(), stat_file)
        missing = [name for name in task.model.get_type_map() if name not in seen]
        if missing:
            log.warning("no atom of type %s is in the training data", ", ".join(missing))
        branch.model.setdefault("info", {})["observed_type"] = seen
