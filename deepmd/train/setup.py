# SPDX-License-Identifier: LGPL-3.0-or-later
"""From a checked input to what a trainer needs: data, models, losses, numbers of steps."""

import copy
import dataclasses
import logging
import math
import secrets
from collections.abc import Iterator, Mapping
from typing import Any

from deepmd.data.dataset import Dataset
from deepmd.data.neighbor_stat import drop_close_pairs, longest_shift, update_sel
from deepmd.data.sampler import Sampler, read_blocks
from deepmd.data.search import open_systems
from deepmd.data.statistics import StatFile
from deepmd.data.system import System
from deepmd.dpmodel.label import Label, parameter_labels
from deepmd.dpmodel.loss import Loss, build_loss
from deepmd.dpmodel.model import Model, SpinModel, build_model
from deepmd.dpmodel.model.spin_section import spin_settings
from deepmd.io.files import SINGLE
from deepmd.train.distributed import Distributed
from deepmd.train.statistics import observed_types, set_statistics
from deepmd.train.trainer import Task
from deepmd.utils.errors import DataError, InputError

log = logging.getLogger(__name__)

#: Sections of the model that have neighbours to be counted.
DESCRIPTOR = "descriptor"


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
    try:
        blocks = read_blocks(section.get("auto_prob", "prob_sys_size"))
        systems = open_systems(
            section["systems"],
            type_map=type_map,
            patterns=section.get("rglob_patterns"),
            blocks=[(first, end) for first, end, _ in blocks],
        )
        drop_close_pairs(systems, section.get("min_pair_dist", 0.0))
        return systems
    except DataError as error:
        where = f"{branch.where}/{kind}: {error.where}"
        raise DataError(error.what, where=where, fix=error.fix) from None


def make_dataset(
    systems: list[System],
    section: Mapping[str, Any],
    labels: list[Label],
    rcut: float,
    seed: int,
    group: Distributed,
    where: str,
) -> Dataset:
    """Put systems, their sampler and their labels together."""
    try:
        sampler = Sampler(
            [s.nframes for s in systems],
            [s.natoms for s in systems],
            batch_size=section.get("batch_size", "auto"),
            auto_prob=section.get("auto_prob", "prob_sys_size"),
            sys_probs=section.get("sys_probs"),
            seed=seed,
            rank=group.rank,
            world=group.world,
            numbers=[s.numbers for s in systems],
        )
    except InputError as error:
        raise InputError(error.what, where=f"{where}/{error.where}", fix=error.fix) from None
    return Dataset(systems, sampler, labels, rcut=rcut)


def pair_cutoff(model: Model, systems: list[System]) -> float:
    """Return the cutoff [Å] of the pairs that are kept with the frames.

    With spins it reaches far enough for pairs of virtual atoms, so that none is searched in a step.
    """
    if not isinstance(model, SpinModel):
        return model.get_rcut()
    sides = 1 + model.message_passing()
    return model.get_rcut() + sides * longest_shift(systems, model.virtual_scale)


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


# -- model ----------------------------------------------------------------------------------------


def with_descriptor(model: dict[str, Any], where: str = "model") -> Iterator[tuple[dict, str]]:
    """Iterate over the sections of a model, members included, that have a descriptor."""
    if DESCRIPTOR in model:
        yield model, where
    for k, member in enumerate(model.get("models") or ()):
        yield from with_descriptor(member, f"{where}/models[{k}]")


def count_neighbors(branch: Branch, systems: list[System]) -> float:
    """Resolve ``sel: "auto"`` in the branch's model section; return the smallest distance [Å]."""
    nearest, names = math.inf, branch.model["type_map"]
    spin = branch.model.get("spin")
    scale = spin_settings(spin, names)["virtual_scale"] if spin else None
    for section, _ in with_descriptor(branch.model):
        updated, distance = update_sel(
            section[DESCRIPTOR], systems, len(names), virtual_scale=scale
        )
        section[DESCRIPTOR] = updated
        nearest = min(nearest, distance)
        log.info("neighbor selection: %s", selections(updated))
    log.info("minimal neighbor distance: %f", nearest)
    return nearest


def selections(section: Any) -> Any:
    """Return the values of ``sel`` in a descriptor section, parts included."""
    if isinstance(section, list):
        return [selections(part) for part in section]
    if isinstance(section, dict):
        if "list" in section:
            return selections(section["list"])
        return section.get("sel")
    return None


def refuse_auto(section: Any, where: str) -> None:
    """Raise InputError if a ``sel`` in a descriptor section is still ``"auto"``."""
    if isinstance(section, list):
        for k, part in enumerate(section):
            refuse_auto(part, f"{where}[{k}]")
    if not isinstance(section, dict):
        return
    for key, value in section.items():
        if key.endswith("sel") and isinstance(value, str) and value.startswith("auto"):
            raise InputError(
                f'"{value}" needs the neighbour statistics',
                where=f"{where}/{key}",
                fix="leave out --skip-neighbor-stat, or give numbers",
            )
        refuse_auto(value, f"{where}/{key}")


def take_over_sel(section: Any, known: Any) -> None:
    """Replace ``"auto"`` by the numbers of the checkpoint that is continued, in place."""
    if isinstance(section, list) and isinstance(known, list):
        for part, before in zip(section, known, strict=False):
            take_over_sel(part, before)
    if isinstance(section, dict) and isinstance(known, dict):
        for key, value in section.items():
            if (
                key.endswith("sel")
                and isinstance(value, str)
                and not isinstance(known.get(key), str)
            ):
                section[key] = copy.deepcopy(known.get(key, value))
            else:
                take_over_sel(value, known.get(key))


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
    group: Distributed,
) -> dict[str, Task]:
    """Build the models, losses and data of all tasks; statistics are not yet set."""
    tasks = {}
    for k, branch in enumerate(branches(config)):
        model = build_model(branch.model)
        loss = build_loss(branch.loss, config["learning_rate"]["start_lr"], model)
        labels = [*loss.label_requirements(), *parameter_labels(model)]
        if any(label.pairwise for label in labels):
            branch.model["hessian_mode"] = True  # evaluated by default, once it is trained
        train, valid = systems[branch.name]
        where = f"{branch.where}/training_data"
        data = make_dataset(
            train,
            branch.data["training_data"],
            labels,
            pair_cutoff(model, train),
            seed + k,
            group,
            where,
        )
        check_labels(data, loss, where)
        log.info("%s", data.summary(f"training{_of(branch)}"))
        task = tasks[branch.name] = Task(
            model, loss, data, bias_batches=int(branch.model.get("data_bias_nsample", 10))
        )
        if valid is not None:
            section, where = branch.data["validation_data"], f"{branch.where}/validation_data"
            task.validation = make_dataset(
                valid, section, labels, pair_cutoff(model, valid), seed + k, group, where
            )
            task.numb_btch = int(section.get("numb_btch", 1))
            log.info("%s", task.validation.summary(f"validation{_of(branch)}"))
    _set_weights(tasks, config["training"])
    return tasks


def _of(branch: Branch) -> str:
    return "" if branch.name == SINGLE else f" {branch.name}"


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
