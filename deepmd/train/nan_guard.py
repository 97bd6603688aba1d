# SPDX-License-Identifier: LGPL-3.0-or-later
"""The guard against NaN: training stops at the batch that broke it, before anything is saved."""

import copy
import dataclasses
import json
import logging
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from deepmd.base.errors import TrainingDivergedError
from deepmd.base.files import replacing
from deepmd.data.dataset import Dataset
from deepmd.data.system import FIELDS
from deepmd.dpmodel.batch import Batch
from deepmd.dpmodel.model import Model
from deepmd.dpmodel.module import walk
from deepmd.runtime.distributed import ALONE, Distributed

log = logging.getLogger(__name__)


@dataclasses.dataclass
class Taken:
    """A step that was queued.

    Attributes
    ----------
    step : int
    task : str
    batch : Batch
    loss : scalar of the framework
        Waited for only when it is looked at.
    data : Dataset
        Where the batch is from.
    before : dict
        State of the sampler before the batch was drawn, so that its frames can be named.
    """

    step: int
    task: str
    batch: Batch
    loss: Any
    data: Dataset
    before: Mapping[str, np.ndarray]

    def source(self) -> tuple[list[str], np.ndarray]:
        """Path of the system and number in it of every frame."""
        sampler = copy.deepcopy(self.data.sampler)  # the original is being drawn from
        sampler.load_state(dict(self.before))
        # A rank for which there was no frame got the first one, see Dataset.next.
        parts = [(index, f if len(f) else np.array([0])) for index, f in sampler.parts()]
        paths = [self.data.systems[index].path for index, frames in parts for _ in frames]
        return paths, np.concatenate([frames for _, frames in parts])


class NaNGuard:
    """Looks at every loss, one step late so that an accelerator is never waited for.

    Parameters
    ----------
    folder : str or path
        Where the batches of a broken step are put.
    ranks : Distributed
        Processes that train together: the loss and the parameters are those of all.

    Attributes
    ----------
    alone : bool
        Whether other processes are not asked for their batches.
    """

    def __init__(self, folder: str | os.PathLike[str] = ".", ranks: Distributed = ALONE) -> None:
        self.folder, self.ranks, self.alone = Path(folder), ranks, False
        self._last: list[Taken] = []
        self._seen = 0

    def follow(self, taken: Taken) -> None:
        """Take note of a step, and look at the loss of the one before it.

        Raises
        ------
        TrainingDivergedError
        """
        self.check()
        # Not more than two batches are kept: a loss is broken by its own batch, or by parameters
        # that the batch before it broke.
        self._last = [*self._last[-1:], taken]

    def check(self) -> None:
        """Look at the loss of the last step that was noted."""
        if not self._last or self._last[-1].step == self._seen:
            return
        last = self._last[-1]
        value = float(last.loss)
        if not math.isfinite(value):
            self._stop(f"the loss of step {last.step} is {value}")
        self._seen = last.step

    def check_parameters(
        self, step: int, models: Mapping[str, Model], optimizer: Mapping[str, np.ndarray]
    ) -> None:
        """Look at the last loss, every parameter and the optimizer's state before they are saved.

        Raises
        ------
        TrainingDivergedError
        """
        self.check()
        for task, model in models.items():
            for path, value, _ in walk(model):
                if not np.isfinite(value).all():
                    self._stop(f"parameter {path} of {task} is not finite after step {step}")
        for name, value in optimizer.items():
            array = np.asarray(value)
            if array.dtype.kind == "f" and not np.isfinite(array).all():
                self._stop(f"the optimizer's {name} is not finite after step {step}")

    def _stop(self, what: str) -> None:
        if not self._last:
            raise TrainingDivergedError(what, fix="the start is broken; use another checkpoint")
        step = self._last[-1].step
        rank = self.ranks.rank
        file = self.folder / f"diverged-step-{step}{f'-rank-{rank}' if rank else ''}.npz"
        arrays = {"step": np.array(step)}
        for prefix, taken in zip(("", "before_"), reversed(self._last), strict=False):
            arrays |= {prefix + k: v for k, v in batch_arrays(taken).items()}
        try:
            with replacing(file) as output:
                np.savez(output, allow_pickle=False, **arrays)
            kept = f"the last batches are in {file}"
        except OSError as error:
            kept = f"the last batches could not be written ({error})"
        closest = describe_closest(self._last[-1])
        if not self.alone:
            every = self.ranks.gather(json.dumps(closest))
            closest = min(map(tuple, map(json.loads, every)), default=closest)
        raise TrainingDivergedError(
            f"{what}; {closest[1]}; {kept}",
            where="training",
            fix="check these frames, lower start_lr, and restart from the last checkpoint",
        )


def batch_arrays(taken: Taken) -> dict[str, np.ndarray]:
    """Return a batch and its origin as arrays by name."""
    paths, frames = taken.source()
    batch = taken.batch
    names = ("coord", "cell", "atype", "natoms", *FIELDS)
    return {
        "system": np.array(paths),
        "frames": frames,
        "task": np.array(taken.task),
        **{name: getattr(batch, name) for name in names if getattr(batch, name) is not None},
        **{f"label_{k}": v for k, v in batch.labels.items()},
    }


def describe_closest(taken: Taken) -> tuple[float, str]:
    """Return the distance of the closest two atoms [Å], and a text that names their frame."""
    paths, frames = taken.source()
    batch = taken.batch
    if batch.edges is None or len(batch.edges) == 0:
        found = f"frames {frames.tolist()} of {paths[0]} have no two atoms within the cutoff"
        return math.inf, found
    vec = batch.vectors()
    distance = np.sqrt(np.einsum("ea,ea->e", vec, vec))
    e = int(np.argmin(distance))
    i, j = int(batch.edges.i[e]), int(batch.edges.j[e])
    k = int(batch.frame[i])
    first = int(batch.offsets()[k])
    return float(distance[e]), (
        f"the closest atoms of its batch are {distance[e]:.3g} Å apart "
        f"(atoms {i - first} and {j - first} of frame {frames[k]} of {paths[k]})"
    )
