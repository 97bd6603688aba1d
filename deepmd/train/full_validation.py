# SPDX-License-Identifier: LGPL-3.0-or-later
"""Errors on the whole validation set every few steps, the best checkpoints, and early stopping."""

import json
import logging
import math
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from deepmd.base.files import append_text, write_text
from deepmd.data.dataset import Dataset
from deepmd.dpmodel.batch import Batch
from deepmd.dpmodel.model import Model
from deepmd.runtime.evaluator import Evaluator
from deepmd.train.checkpoints import CheckpointStore
from deepmd.train.extras import Extra

if TYPE_CHECKING:
    from deepmd.train.trainer import Trainer

log = logging.getLogger(__name__)

#: Quantity -> unit of its errors, all of them 1/1000 of the units of data.
UNITS = {
    "E": "meV/atom",
    "F": "meV/Å",
    "FR": "meV/Å",
    "FM": "meV/μB",
    "S": "meV/Å³",
    "V": "meV/atom",
}
_NOTE = (
    "# E uses per-atom energy, F uses component-wise force errors, and the second-rank column is S, "
    "stress as the negated virial divided by the cell volume, or V, virial normalized by natoms, "
    "following `validation_metric`.\n"
)
Errors = dict[str, dict[str, float]]


class ErrorSums:
    """Sums of absolute and of squared errors, and numbers of values, by quantity."""

    def __init__(self, quantities: list[str]) -> None:
        self.sums = {name: np.zeros(3) for name in quantities}

    def add(self, name: str, error: np.ndarray) -> None:
        """Take errors of any shape."""
        self.sums[name] += [np.abs(error).sum(), np.square(error).sum(), error.size]

    def errors(self) -> Errors:
        """Return mean absolute and root mean square errors, NaN where there is no label."""
        out: Errors = {}
        for name, (first, second, count) in self.sums.items():
            n = count if count else math.nan
            out[name] = {"MAE": 1000.0 * first / n, "RMSE": 1000.0 * math.sqrt(second / n)}
        return out


def add_errors(sums: ErrorSums, batch: Batch, pred: Mapping[str, np.ndarray], model: Model) -> None:
    """Compare the predictions for a batch with its labels, those that it has."""

    def difference(name: str) -> np.ndarray:
        return pred[name].reshape(batch.labels[name].shape) - batch.labels[name]

    def found(name: str) -> bool:
        return batch.find.get(name, 0.0) > 0

    natoms = batch.natoms[:, None]
    if found("energy"):
        sums.add("E", difference("energy") / natoms)
    if found("force"):
        sums.add("FR" if "FR" in sums.sums else "F", difference("force"))
    if "FM" in sums.sums and found("force_mag"):
        magnetic = np.asarray(model.get_use_spin())[batch.atype]
        sums.add("FM", difference("force_mag")[magnetic])
    if found("virial") and batch.periodic.all():
        volume = np.abs(np.linalg.det(batch.cell))[:, None]
        error = difference("virial")
        if "S" in sums.sums:
            sums.add("S", -error / volume)
        else:
            sums.add("V", error / natoms)


class FullValidation(Extra):
    """Evaluation of the whole validation set.

    Parameters
    ----------
    section : mapping
        The normalized ``validating`` section.
    numb_steps : int
        Length of the training.
    store : CheckpointStore
        Of the training; best checkpoints are written as it writes.
    evaluator : function
        Of the backend.
    spin : bool
        Whether the model has spins.
    models : function, optional
        Gives the models to evaluate; by default those of the training. They are then called
        averaged, and files have ``_ema`` in their names.
    early_stop : mapping, optional
        The normalized ``training/early_stop`` section.
    """

    name = "validation"

    def __init__(
        self,
        section: Mapping[str, Any],
        numb_steps: int,
        store: CheckpointStore,
        *,
        evaluator: Callable[[Model], Evaluator] = Evaluator,
        spin: bool = False,
        models: Callable[[], dict[str, Model]] | None = None,
        early_stop: Mapping[str, Any] | None = None,
    ) -> None:
        self.frequency = int(section["validation_freq"])
        self.start = first_step(section["full_val_start"], numb_steps)
        quantity, self.kind = str(section["validation_metric"]).upper().split(":")
        self.quantity = quantity
        self.columns = [
            "E",
            *(["FR", "FM"] if spin else ["F"]),
            "V" if quantity == "V" else "S",
        ]
        self._models, self._store, self._evaluator = models, store, evaluator
        tag = "" if models is None else "_ema"
        path = Path(section["full_val_file"])
        self.path = path.with_name(f"{path.stem}{tag}{path.suffix}")
        folder = section["save_best_dir"]
        self.folder = store.prefix.parent if folder is None else Path(folder)
        self.prefix = f"best{tag}.ckpt"
        self.kept = int(section["max_best_ckpt"]) if section["save_best"] else 0
        self.early_stop = dict(early_stop or {})
        #: (error, step) of the best checkpoints, the best first.
        self.best: list[tuple[float, int]] = []
        self._goal, self._waited = math.inf, 0
        self._begun = False

    # -- after a step ---------------------------------------------------------------------------

    def after_step(self, trainer: "Trainer") -> None:
        """Evaluate if it is time."""
        step = trainer.step
        if step < self.start or step % self.frequency:
            return
        models = None if self._models is None else self._models()
        (name, task), *_ = trainer.tasks.items()
        model = trainer.stepper.model(name) if models is None else models[name]
        assert task.validation is not None, "checked with the input"
        errors = self.evaluate(trainer, self._evaluator(model), task.validation)
        value = errors[self.quantity][self.kind]
        if trainer.ranks.writes:
            self._write_row(step, errors)
        self._rank(trainer, value, models)
        self._follow(value)

    def evaluate(self, trainer: "Trainer", evaluator: Evaluator, data: Dataset) -> Errors:
        """Return the errors of a model, with the frames dealt out to the processes."""
        sums = ErrorSums(self.columns)
        wanted = ["force"] + (["virial"] if any(f.get("virial") for f in data.found) else [])
        ranks = trainer.ranks
        for number, part in enumerate(_parts(data, evaluator.batch_atoms)):
            if number % ranks.size == ranks.rank:
                batch = data.load(*part)
                predicted = evaluator.evaluate(batch, derivatives=wanted, modified=False)
                add_errors(sums, batch, predicted, evaluator.model)
        if ranks.size > 1:
            every = ranks.gather(json.dumps({k: v.tolist() for k, v in sums.sums.items()}))
            total = np.sum([list(json.loads(text).values()) for text in every], axis=0)
            _, got = ranks.broadcast(sums=total)
            sums.sums = dict(zip(self.columns, got["sums"], strict=True))
        return sums.errors()

    def _follow(self, value: float) -> None:
        """Stop where the error did not fall for too long."""
        if not self.early_stop:
            return
        if value < self._goal - self.early_stop["min_delta"]:
            self._goal, self._waited = value, 0
            return
        self._waited += 1
        if self._waited >= self.early_stop["patience"]:
            log.info(
                "early stop: %s:%s was %s %s at best, and did not fall in %d validations",
                self.quantity,
                self.kind,
                five(self._goal),
                UNITS[self.quantity],
                self._waited,
            )
            self.finished = True

    # -- the log --------------------------------------------------------------------------------

    def header(self) -> str:
        """Return the first two lines of the log."""
        return f"# step {' '.join(self._titles())}\n{_NOTE}"

    def _titles(self) -> list[str]:
        return [f"{q}_{kind}({UNITS[q]})" for q in self.columns for kind in ("MAE", "RMSE")]

    def _write_row(self, step: int, errors: Errors) -> None:
        self._begin(step)
        values = [errors[q][kind] for q in self.columns for kind in ("MAE", "RMSE")]
        row = [f"{five(v):^{len(t)}}" for v, t in zip(values, self._titles(), strict=True)]
        append_text(self.path, f"  {step:^4} {' '.join(row)}\n")

    def _begin(self, step: int) -> None:
        """Begin the log of this run; rows of the one that it continues stay."""
        if self._begun:
            return
        self._begun = True
        kept, known = [], False
        if self.best and self.path.is_file():  # restored
            for line in self.path.read_text(encoding="utf-8").splitlines(keepends=True)[2:]:
                word = line.split()[0] if line.split() else ""
                known = int(word) < step if word.isdecimal() else known
                kept += [line] if known else []
        write_text(self.path, self.header() + "".join(kept))

    # -- best checkpoints -----------------------------------------------------------------------

    def _rank(self, trainer: "Trainer", value: float, models: dict[str, Model] | None) -> None:
        """Keep a checkpoint if it is one of the best."""
        step = trainer.step
        place = sum(known <= value for known, _ in self.best)
        if math.isnan(value) or place >= max(self.kept, 1):
            return
        before = list(self.best)
        self.best = [*before[:place], (value, step), *before[place:]][: max(self.kept, 1)]
        if not self.kept:
            return
        checkpoint = trainer.checkpoint(models)  # may be an exchange
        if not trainer.ranks.writes:
            return
        path = self._path(place + 1, step)
        self.folder.mkdir(parents=True, exist_ok=True)
        fresh = path.with_name(f"new-{path.name}")
        self._store.write(fresh, checkpoint)
        steps = [known for _, known in self.best]
        for old, (_, known) in reversed(list(enumerate(before))):
            here = self._path(old + 1, known)
            if known not in steps:
                for file in self._store.files(here):
                    file.unlink(missing_ok=True)
            elif steps.index(known) != old:
                self._move(here, self._path(steps.index(known) + 1, known))
        self._move(fresh, path)
        log.info("Saved best model to %s with %s", path, self._shown(value))
        append_text(self.path, f"# saved best checkpoint: {path.name} ({self._shown(value)})\n")

    def _shown(self, value: float) -> str:
        return f"{self.quantity}:{self.kind} = {five(value)} {UNITS[self.quantity]}"

    def _path(self, place: int, step: int) -> Path:
        return self.folder / f"{self.prefix}-{step}.t-{place}{self._store.suffix}"

    def _move(self, source: Path, target: Path) -> None:
        for old, new in zip(self._store.files(source), self._store.files(target), strict=True):
            if old.exists():  # nobody removed it
                old.replace(new)

    # -- restarts -------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """Return the best errors, and how long early stopping has waited."""
        best = np.array(self.best, dtype=np.float64).reshape(-1, 2)
        return {"best": best, "goal": np.array(self._goal), "waited": np.array(self._waited)}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Restore what :meth:`state` returned."""
        if state:
            self.best = [(float(v), int(s)) for v, s in np.asarray(state["best"])]
            self._goal, self._waited = float(state["goal"]), int(state["waited"])

    def files(self, step: int) -> list[Path]:
        """Return the best checkpoints of later steps, and the log of a run that is not continued."""
        name = rf"{re.escape(self.prefix)}-(\d+)\.t-\d+{re.escape(self._store.suffix)}"
        found: list[Path] = [] if step else [self.path]
        for path in sorted(self.folder.iterdir()) if self.folder.is_dir() else ():
            match = re.fullmatch(name, path.name)
            if match is not None and int(match[1]) > step:
                found += self._store.files(path)
        return found


class AverageValidation(FullValidation):
    """The same for the averaged parameters."""

    name = "validation_ema"


def first_step(start: float, numb_steps: int) -> float:
    """Return the step from which on to evaluate: a step, or a fraction of the run; 1 is never."""
    if start == 1:
        return math.inf
    return float(start) if start > 1 else math.floor(start * numb_steps)


def five(value: float) -> str:
    """Return a number with five significant digits."""
    return "nan" if math.isnan(value) else f"{value:#.5g}".rstrip(".")


def _parts(data: Dataset, atoms: int) -> Iterator[tuple[int, np.ndarray]]:
    """Iterate over the systems and all their frames, a moderate number of atoms at a time."""
    for index, system in enumerate(data.systems):
        size = max(1, atoms // max(system.natoms, 1))
        for first in range(0, system.nframes, size):
            yield index, np.arange(first, min(first + size, system.nframes))
