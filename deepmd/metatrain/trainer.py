# SPDX-License-Identifier: LGPL-3.0-or-later
"""Trainer interface of metatrain around our training step."""

import copy
import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from metatomic.torch import System
from metatrain.utils.abc import TrainerInterface

from deepmd.base.errors import InputError
from deepmd.data.statistics import NoStatFile
from deepmd.dpmodel.batch import Batch, join
from deepmd.dpmodel.loss import build_loss
from deepmd.dpmodel.model import Model
from deepmd.dpmodel.neighbors import batch_edges
from deepmd.dpmodel.schedule import learning_rate
from deepmd.metatrain.checkpoints import TRAINER_UPGRADES, TRAINER_VERSION, upgrade
from deepmd.metatrain.hypers import TrainerHypers, checked_input
from deepmd.metatrain.model import DeepMD, energy_target
from deepmd.pt.train_step import TorchTrainStep
from deepmd.runtime.step import StepOptions
from deepmd.train.sharing import set_component_statistics
from deepmd.train.statistics import Sample, cut_between, set_biases

log = logging.getLogger(__name__)
TASK = "Default"


class Structures(Sample):
    """Structures of metatrain's data sets as frames with edges, which stay in memory.

    Parameters
    ----------
    datasets : sequence
        Of metatrain.
    model : DeepMD
    """

    def __init__(self, datasets: Sequence[Any], model: DeepMD) -> None:
        self.protect = float(model.hypers.get("data_stat_protect", 0.01))
        self.cache, self.types, self.apart = NoStatFile(), None, ()
        name, _ = energy_target(model.dataset_info)
        index = {z: t for t, z in enumerate(model.atomic_types)}
        rcut = float(model.evaluation.energies.options.cutoff)
        self.frames = [
            _frame(sample, name, index, rcut)
            for dataset in datasets
            for sample in _samples(dataset)
        ]
        if not self.frames:
            raise InputError("there are no structures", where="training_set")
        if len({tuple(frame.find.values()) for frame in self.frames}) > 1:
            raise InputError(
                "some structures have forces or stress, others have none",
                where="training_set",
                fix="give all data sets the same gradients",
            )

    def batches(self) -> Iterator[Batch]:
        """Iterate over all structures."""
        return iter(self.frames)

    without_edges = batches

    def of_types(self, type_map: Sequence[str]) -> "Structures":
        """Return the structures; their types are those of the model."""
        return self

    def without_pairs(
        self, pairs: Sequence[Sequence[int]], type_map: Sequence[str]
    ) -> "Structures":
        """Return the structures without edges between these pairs of types."""
        if not len(pairs):
            return self
        frames = [cut_between(frame, pairs, len(type_map)) for frame in self.frames]
        return self._changed(frames=frames)


def _samples(dataset: Any) -> Iterator[Any]:
    return (dataset[k] for k in range(len(dataset)))


def _frame(sample: Any, name: str, index: Mapping[int, int], rcut: float) -> Batch:
    """Return one structure with energy, and forces and virial where it has these gradients."""
    fields = sample if isinstance(sample, Mapping) else sample._asdict()
    system: System = fields["system"]
    block = fields[name].block(0)
    n, host = len(system), lambda x: x.detach().cpu().numpy().astype(np.float64)
    labels = {
        "energy": host(block.values).reshape(1, 1),
        "force": np.zeros((n, 3)),
        "virial": np.zeros((1, 9)),
    }
    find = {"energy": 1.0, "force": 0.0, "virial": 0.0}
    for label, gradient in (("force", "positions"), ("virial", "strain")):
        if gradient in block.gradients_list():
            values = host(block.gradient(gradient).values)
            labels[label], find[label] = -values.reshape(labels[label].shape), 1.0
    types = [index[int(z)] for z in system.types]
    coord, cell = host(system.positions)[None], host(system.cell)[None]
    _refuse_slabs(system.pbc)
    batch = Batch.from_arrays(coord, cell, types, labels=labels, find=find)
    batch.edges = batch_edges(batch, rcut)
    return batch


def _refuse_slabs(pbc: torch.Tensor) -> None:
    if 0 < int(pbc.sum()) < 3:
        raise InputError(
            "a structure is periodic in some directions only",
            where="training_set",
            fix="make it periodic in all three, with vacuum, or in none",
        )


class Trainer(TrainerInterface[TrainerHypers]):
    """Training with our losses, schedules and optimizers.

    Parameters
    ----------
    hypers : dict
        See :data:`deepmd.metatrain.hypers.TrainerHypers`.
    """

    __checkpoint_version__ = TRAINER_VERSION

    def __init__(self, hypers: Any) -> None:
        super().__init__(hypers)
        self.optimizer_state: dict[str, np.ndarray] | None = None
        self.epoch: int | None = None
        self.best_epoch: int | None = None
        self.best_metric: float | None = None
        self.best_state: dict[str, torch.Tensor] | None = None
        self.from_other_model = False

    def train(
        self,
        model: Any,
        dtype: torch.dtype,
        devices: list[torch.device],
        train_datasets: Sequence[Any],
        val_datasets: Sequence[Any],
        checkpoint_dir: str,
    ) -> None:
        """Train a model in place; see metatrain's trainer interface."""
        if len(devices) > 1:
            raise InputError(
                f"{len(devices)} devices are given", where="device", fix="give one device"
            )
        structures = Structures(train_datasets, model)
        checked = Structures(val_datasets, model) if any(map(len, val_datasets)) else None
        size, frames = int(self.hypers["batch_size"]), structures.frames
        per_epoch = max(1, math.ceil(len(frames) / size))
        epochs = int(self.hypers["num_epochs"])
        total = epochs * per_epoch
        data = checked_input(model.hypers, self.hypers, model.neutral().get_type_map(), total)
        rate = learning_rate(data["learning_rate"], total)
        step = self._step(model, structures, data, rate.start)
        start = 0 if self.epoch is None else self.epoch + 1
        for epoch in range(start, epochs):
            order = np.random.default_rng((int(self.hypers["seed"]), epoch)).permutation(
                len(frames)
            )
            for k in range(per_epoch):
                batch = join([frames[n] for n in order[k * size : (k + 1) * size]])
                found = step.step(TASK, batch, rate.value(epoch * per_epoch + k))
            lr = rate.value((epoch + 1) * per_epoch)
            metrics = found if checked is None else _mean(step, checked.frames, size, lr)
            self._finish(epoch, model, step, metrics)
            if (epoch + 1) % int(self.hypers["checkpoint_interval"]) == 0:
                model.set_model(step.model(TASK))
                self.save_checkpoint(model, Path(checkpoint_dir) / f"model_{epoch + 1}.ckpt")
        model.set_model(step.model(TASK))
        model.to(device=devices[0])

    def _step(
        self, model: DeepMD, structures: Structures, data: Mapping[str, Any], start_lr: float
    ) -> TorchTrainStep:
        """Return the training step, with statistics of the data in a new model."""
        neutral: Model = model.neutral()
        if self.epoch is None and not self.from_other_model and not model.is_trained:
            set_component_statistics({TASK: (neutral, structures, 1.0)})
            set_biases(neutral, structures)
        elif self.epoch is None and not self.hypers["keep_bias"]:
            set_biases(neutral, structures)
        loss = build_loss(data["loss"], start_lr, neutral)
        step = TorchTrainStep({TASK: neutral}, {TASK: loss}, data["optimizer"], StepOptions())
        if self.optimizer_state is not None:
            step.load_state(self.optimizer_state)
        return step

    def _finish(
        self, epoch: int, model: DeepMD, step: TorchTrainStep, metrics: Mapping[str, Any]
    ) -> None:
        """Note what an epoch gave."""
        self.epoch, self.optimizer_state = epoch, step.state()
        loss = float(metrics["loss"])
        if self.best_metric is None or loss < self.best_metric:
            model.set_model(step.model(TASK))
            self.best_metric, self.best_epoch = loss, epoch
            self.best_state = copy.deepcopy(model.state_dict())
        model.best_state = self.best_state
        model.is_trained = True
        if epoch % int(self.hypers["log_interval"]) == 0:
            shown = ", ".join(f"{k} {float(v):.3e}" for k, v in metrics.items() if np.ndim(v) == 0)
            log.info("Epoch %d: %s", epoch, shown)

    def save_checkpoint(self, model: Any, path: str | Path) -> None:
        """Write model and trainer to a file."""
        checkpoint = model.get_checkpoint()
        checkpoint |= {
            "trainer_ckpt_version": self.__checkpoint_version__,
            "train_hypers": self.hypers,
            "epoch": self.epoch,
            "best_epoch": self.best_epoch,
            "optimizer_state_dict": self.optimizer_state,
            "best_metric": self.best_metric,
        }
        torch.save(checkpoint, path)

    @classmethod
    def load_checkpoint(
        cls,
        checkpoint: dict[str, Any],
        hypers: Any,
        context: Literal["restart", "finetune"],
    ) -> "Trainer":
        """Return a trainer that goes on, or one that starts from the model of another training."""
        trainer = cls(hypers)
        if context == "restart":
            for name in ("epoch", "best_epoch", "best_metric"):
                setattr(trainer, name, checkpoint[name])
            trainer.optimizer_state = checkpoint["optimizer_state_dict"]
            trainer.best_state = checkpoint["best_model_state_dict"]
        else:
            trainer.from_other_model = True
        return trainer

    @classmethod
    def upgrade_checkpoint(cls, checkpoint: dict[str, Any]) -> dict[str, Any]:
        """Return a checkpoint of the current version."""
        return upgrade(checkpoint, "trainer_ckpt_version", TRAINER_VERSION, TRAINER_UPGRADES)


def _mean(step: TorchTrainStep, frames: Sequence[Batch], size: int, lr: float) -> dict[str, float]:
    """Return the means of what is validated, weighted by structures."""
    total: dict[str, float] = {}
    for start in range(0, len(frames), size):
        part = frames[start : start + size]
        for name, value in step.evaluate(TASK, join(part), lr).items():
            total[name] = total.get(name, 0.0) + float(value) * len(part) / len(frames)
    return total
