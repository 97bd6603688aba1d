# SPDX-License-Identifier: LGPL-3.0-or-later
"""From a plan to what a trainer needs: models, losses, data, the step of the backend."""

import logging
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from deepmd.base.errors import DataError, InputError
from deepmd.data.dataset import Dataset
from deepmd.data.neighbor_stat import longest_shift
from deepmd.data.sampler import Sampler
from deepmd.data.statistics import StatFile
from deepmd.data.system import System
from deepmd.dpmodel.label import Label, parameter_labels
from deepmd.dpmodel.loss import Loss, build_loss
from deepmd.dpmodel.model import Model, build_model
from deepmd.dpmodel.module import split
from deepmd.io.files import SINGLE
from deepmd.runtime.checkpoint import Checkpoint
from deepmd.runtime.distributed import ALONE, Distributed
from deepmd.runtime.evaluator import Evaluator
from deepmd.runtime.step import StepOptions, TrainStep
from deepmd.train.finetune import Part, fine_tune
from deepmd.train.parallel import scaled_rate
from deepmd.train.plan import Branch, Plan, Start, branches, within
from deepmd.train.sharing import (
    check_agreement,
    set_case_embeddings,
    set_component_statistics,
    share,
)
from deepmd.train.start import differing_keys, model_of, take_parameters
from deepmd.train.statistics import Sample, correction_of, keep_given_bias, set_biases, table_widths
from deepmd.train.trainer import Task

log = logging.getLogger(__name__)

#: Options that change no number and are not built.
_WITHOUT_EFFECT = ("profiling", "enable_profiler")
#: Batches per system in which neighbors are counted for the widths of tables.
_WIDTH_BATCHES = 10


# -- data -----------------------------------------------------------------------------------------


def make_dataset(
    branch: Branch,
    key: str,
    systems: list[System],
    model: Model,
    labels: list[Label],
    seed: int,
    ranks: Distributed = ALONE,
    correction: Any = None,
) -> Dataset:
    """Put the systems of ``training_data`` or ``validation_data`` and their sampler together."""
    section = branch.data[key]
    try:
        sampler = Sampler(
            [s.nframes for s in systems],
            [s.natoms for s in systems],
            batch_size=section.get("batch_size", "auto"),
            auto_prob=section.get("auto_prob", "prob_sys_size"),
            sys_probs=section.get("sys_probs"),
            seed=seed,
            rank=ranks.rank,
            world=ranks.size,
            numbers=[s.numbers for s in systems],
        )
    except InputError as error:
        where = f"{branch.where}/{key}/{error.where}"
        raise InputError(error.what, where=where, fix=error.fix) from None
    rcut = pair_cutoff(model, systems)
    data = Dataset(systems, sampler, labels, rcut=rcut, correction=correction)
    title = key.removesuffix("_data")
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


# -- everything together --------------------------------------------------------------------------


def make_tasks(
    plan: Plan, ranks: Distributed = ALONE, evaluator: Any = Evaluator
) -> dict[str, Task]:
    """Build the models, losses and data of all tasks; statistics are not yet set.

    Before a new training all frames are read once, so that a bad one is found now and not after days.
    """
    tasks, config, seed = {}, plan.config, plan.seed
    rate = scaled_rate(config["learning_rate"], ranks)
    if rate != config["learning_rate"]:
        log.info("start_lr is %g for %d processes (scale_by_worker)", rate["start_lr"], ranks.size)
    elif ranks.size > 1 and rate.get("scale_by_worker", "none") != "none":
        log.info("learning_rate/scale_by_worker has no effect with this backend")
    for k, branch in enumerate(branches(config)):
        model = _build(branch, plan.continued)
        correction = correction_of(model, evaluator)
        loss = build_loss(branch.loss, rate["start_lr"], model)
        labels = [*loss.label_requirements(), *parameter_labels(model)]
        train, valid = plan.systems[branch.name]
        about: Any = model, labels, seed + k, ranks, correction
        data = make_dataset(branch, "training_data", train, *about)
        check_labels(data, loss, f"{branch.where}/training_data")
        task = tasks[branch.name] = Task(
            model, loss, data, bias_batches=int(branch.model.get("data_bias_nsample", 10))
        )
        if valid is not None:
            key = "validation_data"
            task.validation = make_dataset(branch, key, valid, *about)
            task.numb_btch = int(branch.data[key].get("numb_btch", 1))
        if plan.continued is None and ranks.writes:
            _scan(task, branch.where)
    _set_weights(tasks, config["training"])
    if "model_dict" in config["model"]:
        models = {name: task.model for name, task in tasks.items()}
        share(models, config["model"])
        set_case_embeddings(models)
    return tasks


def _build(branch: Branch, continued: Checkpoint | None) -> Model:
    """Build a model; one that is continued keeps its modifier, whatever became of the file of it."""
    if continued is None:
        return build_model(branch.model)
    model = build_model({k: v for k, v in branch.model.items() if k != "modifier"})
    model.modifier = model_of(continued, branch.name).modifier
    return model


def _scan(task: Task, where: str) -> None:
    """Read all frames of a task once."""
    for key, data in (("training_data", task.data), ("validation_data", task.validation)):
        if data is None:
            continue
        for system in data.systems:
            with within(f"{where}/{key}"):
                system.scan(data.labels)


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


def set_all_statistics(plan: Plan, tasks: Mapping[str, Task]) -> None:
    """Set the statistics of new models."""
    parts = {}
    for branch in branches(plan.config):
        task, training = tasks[branch.name], branch.data
        stat_file = None
        if training.get("stat_file") and task.model.modifier is None:
            stat_file = StatFile(
                training["stat_file"],
                task.model.get_type_map(),
                training.get("stat_file_mode", "update"),
            )
            stat_file.put("observed_type", np.array(branch.model["info"]["observed_type"], "S"))
        nbatch = int(branch.model.get("data_stat_nbatch", 10))
        protect = float(branch.model.get("data_stat_protect", 0.01))
        sample = Sample(task.data, nbatch, model=task.model, cache=stat_file, protect=protect)
        parts[branch.name] = task.model, sample, task.weight
    set_component_statistics(parts)
    for model, sample, _ in parts.values():
        set_biases(model, sample)


def start_from(
    plan: Plan, tasks: Mapping[str, Task], *, force: bool, evaluator: Any = Evaluator
) -> None:
    """Put the parameters of a checkpoint or model file, or new statistics, into the models.

    A new training (not a restart) has the biases that its input fixes, wherever it starts from.
    """
    if plan.start is None:
        set_all_statistics(plan, tasks)
    elif plan.start.rules:
        _fine_tune(plan, plan.start, tasks, force=force, evaluator=evaluator)
        if "model_dict" in plan.config["model"]:  # branches may have started from the same one
            set_case_embeddings({name: task.model for name, task in tasks.items()})
    else:
        known = plan.start.checkpoint
        keys = differing_keys(known.model_params, plan.model_params, "model")
        sources = {name: model_of(known, name) for name in tasks}
        for name, task in tasks.items():
            take_parameters(task.model, sources[name], keys=keys, force=force)
        if not force:
            check_agreement({name: task.model for name, task in tasks.items()}, sources)
        for task in tasks.values():
            if not plan.start.restart:
                keep_given_bias(task.model)
    for task in tasks.values():
        for line in task.model.warnings():
            log.warning(line)


def _fine_tune(
    plan: Plan, start: Start, tasks: Mapping[str, Task], *, force: bool, evaluator: Any
) -> None:
    parts = {}
    for branch in branches(plan.config):
        task, protect = tasks[branch.name], float(branch.model.get("data_stat_protect", 0.01))
        sample = Sample(task.data, task.bias_batches, model=task.model, protect=protect)
        parts[branch.name] = Part(task.model, sample, task.weight, start.rules[branch.name])
    fine_tune(
        parts,
        start.checkpoint,
        path=start.path,
        seed=plan.seed,
        force=force,
        evaluator=evaluator,
    )


# -- the step -------------------------------------------------------------------------------------


def make_step(
    plan: Plan,
    backend: Any,
    tasks: Mapping[str, Task],
    widths: Mapping[str, list[int]],
    ranks: Distributed = ALONE,
) -> TrainStep:
    """Give models and losses to the backend."""
    training, optimizer = plan.config["training"], plan.config["optimizer"]
    for name in _WITHOUT_EFFECT:
        if training.get(name):
            log.warning("training/%s is not built yet and has no effect", name)
    models = {name: task.model for name, task in tasks.items()}
    total, trained = count_parameters(models)
    log.info("Model Params: %.3f M   (Trainable: %.3f M)", total / 1e6, trained / 1e6)
    for task in tasks.values():
        task.loss.take_statistics(task.model)
    return backend.train_step(
        models,
        {name: task.loss for name, task in tasks.items()},
        optimizer,
        StepOptions(
            gradient_max_norm=training.get("gradient_max_norm"),
            compile=bool(training.get("enable_compile", False)),
            widths=dict(widths) or None,
            ranks=ranks,
            accumulate=training["acc_freq"],
            tf32=training["enable_tf32"],
            zero_stage=training["zero_stage"],
            compute=(training.get("mixed_precision") or {}).get("compute_prec", ""),
            numb_steps=count_steps(training, tasks) if optimizer["type"] == "LKF" else 0,
        ),
    )


def make_widths(
    plan: Plan, tasks: Mapping[str, Task], step: type[TrainStep]
) -> dict[str, list[int]]:
    """Return the widths of the neighbor tables for backends that want them; a restart keeps them."""
    if not step.uses_widths:
        return {}
    out, start = {}, plan.continued
    for name, task in tasks.items():
        known = None if start is None else start.trainer.get(f"widths.{name}")
        if known is None:
            known = table_widths(task.model, Sample(task.data, _WIDTH_BATCHES).batches())
        out[name] = [int(n) for n in known]
    return out


def count_parameters(models: Mapping[str, Model]) -> tuple[int, int]:
    """Count numbers of all models, and those that are trained; shared ones once."""
    sizes: dict[int, int] = {}
    trained: dict[int, int] = {}
    for model in models.values():
        params, fixed = split(model)
        sizes |= {id(v): int(np.size(v)) for v in (*params.values(), *fixed.values())}
        trained |= {id(v): int(np.size(v)) for v in params.values()}
    return sum(sizes.values()), sum(trained.values())
