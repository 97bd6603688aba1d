# SPDX-License-Identifier: LGPL-3.0-or-later
"""The training loop: everything that is the same for all backends, models and losses."""

import contextlib
import dataclasses
import logging
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from signal import Signals
from typing import Any

import numpy as np

from deepmd import __version__
from deepmd.base.errors import InputError, TrainingDivergedError
from deepmd.data.dataset import Dataset, Prefetcher
from deepmd.dpmodel.loss import Loss
from deepmd.dpmodel.model import Model
from deepmd.dpmodel.neighbors import Overflow
from deepmd.dpmodel.optimizer import part_of
from deepmd.dpmodel.schedule import LearningRate
from deepmd.runtime.checkpoint import Checkpoint
from deepmd.runtime.distributed import ALONE, Distributed
from deepmd.runtime.step import Metrics, TrainStep
from deepmd.train.adapters import adapter_arrays
from deepmd.train.checkpoints import CheckpointStore, remove_fragments_of
from deepmd.train.extras import Extra
from deepmd.train.learning_curve import LearningCurve
from deepmd.train.metrics import Figures, StepFigures, nan_mean
from deepmd.train.nan_guard import NaNGuard, Taken
from deepmd.train.progress import Clock, log_row, progress_bar, summary_table, units_line
from deepmd.train.signals import StopRequest
from deepmd.train.statistics import Sample, change_bias
from deepmd.train.tensorboard import Events

log = logging.getLogger(__name__)


@dataclasses.dataclass
class Task:
    """One thing to be learned; an ordinary training has a single one, ``Default``.

    Attributes
    ----------
    model : Model
        Neutral model at the start.
    loss : Loss
    data : Dataset
    validation : Dataset, optional
    numb_btch : int
        Validation batches averaged for a row.
    weight : float
        Probability that a step belongs to this task, up to normalization.
    bias_batches : int
        Batches per system for the fit of the bias after training.
    """

    model: Model
    loss: Loss
    data: Dataset
    validation: Dataset | None = None
    numb_btch: int = 1
    weight: float = 1.0
    bias_batches: int = 10


@dataclasses.dataclass(frozen=True)
class Run:
    """Outcome of a run: steps done, last checkpoint, the signal that ended it."""

    step: int
    path: Path | None
    signal: Signals | None = None


class Trainer:
    """Takes steps, shows errors, writes checkpoints.

    Parameters
    ----------
    tasks : dict of str to Task
    stepper : TrainStep
        Of the backend, made for the models and losses of ``tasks``.
    schedule : LearningRate
    store : CheckpointStore
    training : mapping
        The normalized ``training`` section.
    numb_steps : int
        Steps in all, earlier runs included.
    model_params : dict
        The normalized ``model`` section, for checkpoints.
    min_nbor_dist : float, optional
        Smallest distance of the data [Å], for checkpoints.
    seed : int
        Of the choice between tasks.
    extra : mapping, optional
        Further numbers and texts for checkpoints.
    before_save : function, optional
        Called before a checkpoint is written; raises InputError where none may be.
    ranks : Distributed
        Processes that train together. The first writes the files; to stop, to save and to refuse
        are decisions of all.
    """

    def __init__(
        self,
        tasks: Mapping[str, Task],
        stepper: TrainStep,
        schedule: LearningRate,
        store: CheckpointStore,
        training: Mapping[str, Any],
        *,
        numb_steps: int,
        model_params: dict[str, Any],
        min_nbor_dist: float | None = None,
        seed: int = 0,
        extra: Mapping[str, Any] | None = None,
        before_save: Callable[[], None] | None = None,
        ranks: Distributed = ALONE,
    ) -> None:
        self.tasks, self.stepper, self.schedule, self.store = dict(tasks), stepper, schedule, store
        self.training, self.numb_steps, self.seed = training, numb_steps, int(seed)
        self.model_params, self.min_nbor_dist = model_params, min_nbor_dist
        self.extra = dict(extra or {})
        self.curve = str(training.get("disp_file", "lcurve.out"))
        self._before_save, self.ranks = before_save, ranks
        #: What the training does beside its steps.
        self.extras: list[Extra] = []
        #: Of the run that is going on, or was the last.
        self.clock: Clock | None = None
        self._first = 0
        self._saved: tuple[int, Path | None] = -1, None
        self.step = 0
        self.names = {name: task.loss.metric_names() for name, task in self.tasks.items()}
        self.figures = StepFigures(self.names, average=bool(training.get("disp_avg", False)))
        self.guard = NaNGuard(store.link.parent, ranks)
        weights = np.array([task.weight for task in self.tasks.values()], dtype=np.float64)
        if not (weights > 0).all():
            raise InputError("weights must be greater than 0", where="training/model_prob")
        self._cumulative = np.cumsum(weights) / weights.sum()
        self._feeds: dict[str, Prefetcher] = {}
        self._overflow_seen = 0
        #: First and last row of this run: errors of training and of validation by task.
        self._rows: tuple[tuple[dict[str, Figures], dict[str, Figures]], ...] = ()

    # -- the loop -----------------------------------------------------------------------------

    def run(self) -> Run:
        """Train to the end, or to a signal.

        Raises
        ------
        TrainingDivergedError
            If a loss or a parameter becomes NaN or infinite; nothing broken is saved.
        InputError
            If data cannot be read or files not be written. What was learned until then is saved,
            after any other error, too.
        """
        if self.ranks.writes:
            self.store.remove_fragments()
            remove_fragments_of(self.curve)
        if self.step >= self.numb_steps:
            log.info("Nothing to do: %d of %d steps are done.", self.step, self.numb_steps)
            known = self.store.path(self.step)
            return Run(self.step, known if known.exists() else self._save())
        log.info("Start to train %d steps.", self.numb_steps - self.step)
        units = units_line(dict.fromkeys(n for names in self.names.values() for n in names))
        if units and self.training.get("disp_training", True):
            log.info(units)
        self._first = self.step
        path = ended = None
        with contextlib.ExitStack() as stack:
            stop = stack.enter_context(StopRequest())
            advance = stack.enter_context(
                progress_bar(self.numb_steps, self.step, shown=self.ranks.writes)
            )
            curve, events = self._outputs(stack)
            for name, task in self.tasks.items():
                self._feeds[name] = stack.enter_context(Prefetcher(task.data))
            stack.callback(self._feeds.clear)
            clock = self.clock = Clock(self.numb_steps, self.step)
            while self.step < self.numb_steps and ended is None:
                with self._saving_on_error():
                    lr, name = self._take_step(clock)
                    ended = self._agree(stop, name)
                    for extra in self.extras:
                        extra.after_step(self)
                    self._show(lr, curve, events, clock)
                advance(self.step, clock.status)
                if ended is not None:
                    log.info("%s received: a checkpoint is written", ended.name)
                finished = any(extra.finished for extra in self.extras)
                last = self.step == self.numb_steps or ended is not None or finished
                if last or self.step % self._freq("save_freq") == 0:
                    path = self._save()
                if finished:
                    break
            log.info(clock.summary())
            self._summarize()
            if self.ranks.exchanged:
                share = 100.0 * self.ranks.exchanged / clock.seconds()
                log.info("exchange between processes: %.0f %% of the time", share)
        if self.step == self.numb_steps:  # a signal in the last step interrupts nothing
            ended = None
        if ended is None:
            log.info("Trained model has been saved to: %s", path)
        return Run(self.step, path, ended)

    def _agree(self, stop: StopRequest, name: str) -> Signals | None:
        """Return the signal that any of the processes got; look at overflow, too.

        One exchange between the processes per step carries both.
        """
        overflow = self.stepper.overflow
        centers = 0 if overflow is None else overflow.centers
        number, found = self.ranks.agree(int(stop.signal or 0), centers)
        if overflow is not None and found:
            self._report_overflow(overflow, int(found), name)
        return Signals(int(number)) if number else None

    def _freq(self, name: str) -> int:
        return int(self.training.get(name, 1000))

    def _outputs(self, stack: contextlib.ExitStack) -> tuple[LearningCurve, Events | None]:
        """Open the learning curve and the events."""
        curve = LearningCurve(
            self.curve if self.ranks.writes else None,
            self.names,
            validated=[name for name, task in self.tasks.items() if task.validation],
            step=self.step,
        )
        events = None
        if self.training.get("tensorboard", False) and self.ranks.writes:
            events = Events(self.training.get("tensorboard_log_dir", "log"))
            stack.callback(events.close)
        return curve, events

    def _take_step(self, clock: Clock) -> tuple[float, str]:
        """Queue one step; return its learning rate and its task."""
        name = self.choose_task(self.step)
        feed = self._feeds[name]
        before = feed.state()
        with clock.waiting():
            batch = feed.next()
        lr = self.schedule.value(self.step)
        try:
            metrics = self.stepper.step(name, batch, lr)
        except BaseException:
            feed.give_back(before)
            raise
        self.step += 1
        self.guard.follow(
            Taken(self.step, name, batch, metrics["loss"], self.tasks[name].data, before)
        )
        self.figures.add(name, metrics)
        clock.tick(self.step)
        return lr, name

    def choose_task(self, step: int) -> str:
        """Task of the step that follows ``step`` steps; depends on the seed and the step only."""
        names = list(self.tasks)
        if len(names) == 1:
            return names[0]
        u = np.random.default_rng([self.seed, 3, step]).random()
        return names[int(np.searchsorted(self._cumulative, u, side="right"))]

    def _report_overflow(self, overflow: Overflow, found: int, name: str) -> None:
        """Warn once, or stop, when atoms have more neighbors than ``sel``."""
        if self.training.get("sel_overflow", "warn") == "error":
            raise InputError(
                f"step {self.step}: atoms have up to {_listed(overflow.needed)} neighbors within "
                f"the cutoff, sel is {self.tasks[name].model.get_sel()}",
                where="model/descriptor/sel",
                fix='raise sel (or "auto"), or set training/sel_overflow to "warn"',
            )
        if not self._overflow_seen:
            log.warning(
                "atoms have up to %s neighbors within the cutoff, sel is %s: the farthest are "
                "left out, and forces jump when they change",
                _listed(overflow.needed),
                self.tasks[name].model.get_sel(),
            )
        self._overflow_seen = found

    # -- what is shown ------------------------------------------------------------------------

    def _show(self, lr: float, curve: LearningCurve, events: Events | None, clock: Clock) -> None:
        """Write a row, and events, if it is time for them."""
        row_due = self.step == 1 or self.step % self._freq("disp_freq") == 0
        every = int(self.training.get("tensorboard_freq", 1))
        events_due = events is not None and (row_due or self.step % every == 0)
        if not row_due and not events_due:
            return
        self.guard.check()
        if row_due:
            for name in self.figures.idle():
                # As they are now, on the batch that the next step of the task will take.
                self.figures.add(name, self.stepper.evaluate(name, self._feeds[name].peek(), lr))
            trained, valid = self.figures.row(), self.validate(lr)
            curve.write(self.step, trained, valid, lr)
            self._rows = *self._rows[:1], (trained, valid)
            if self.training.get("disp_training", True):
                timed = clock if self.training.get("time_training", True) else None
                log_row(self.step, trained, valid, lr, timed)
        if events is not None and events_due:
            events.write(self.step, trained if row_due else self.figures.latest(), lr)

    def _summarize(self) -> None:
        """Log a table of the errors of the first row and the last one, in one record.

        Its lines have no date before them, so that they fit a terminal of 80 columns.
        """
        if self._rows and self.training.get("disp_training", True):
            log.info("errors:\n%s", "\n".join(summary_table(*self._rows[-1], self._rows[0][0])))

    def validate(self, lr: float) -> dict[str, Figures]:
        """Return the errors of the next validation batches of every task that has them."""
        out = {}
        for name, task in self.tasks.items():
            if task.validation is not None:
                rows: list[Metrics] = [
                    self.stepper.evaluate(name, task.validation.next(), lr)
                    for _ in range(task.numb_btch)
                ]
                out[name] = nan_mean(rows, self.names[name])
        return out

    # -- checkpoints --------------------------------------------------------------------------

    @contextlib.contextmanager
    def _saving_on_error(self) -> Iterator[None]:
        """Save the steps that were taken before the run ends with an error of what is inside."""
        try:
            yield
        except TrainingDivergedError:
            raise
        except Exception:
            # Where the state is an exchange, the others would have to take part.
            if self.step > max(self._saved[0], self._first) and not self.stepper.gathers:
                self.guard.alone = True  # the others need not be here
                with contextlib.suppress(Exception):  # the first error is the one to be shown
                    self._save()
            step, path = self._saved
            if step == self.step:
                log.info(
                    "step %d of %d failed; saved %s; continue with --restart %s",
                    step + 1,
                    self.numb_steps,
                    path,
                    self.store.prefix,
                )
            raise

    def _save(self) -> Path:
        """Write a checkpoint of this moment, after a look at what is in it."""
        if self._before_save is not None:
            self._before_save()
        models = {name: self.stepper.model(name) for name in self.tasks}
        optimizer = self.stepper.state()
        self.guard.check_parameters(self.step, models, optimizer)
        if not self.ranks.writes:
            self._saved = self.step, self.store.path(self.step)
            return self.store.path(self.step)
        if self.step == self.numb_steps and self.training.get("change_bias_after_training", False):
            for name, task in self.tasks.items():
                change_bias(models[name], Sample(task.data, task.bias_batches).batches())
        checkpoint = self.checkpoint(models, optimizer)
        path = self.store.save(checkpoint)
        self._saved = self.step, path
        for extra in self.extras:
            extra.save(self, checkpoint)
        return path

    def checkpoint(
        self, models: dict[str, Model] | None = None, optimizer: dict[str, Any] | None = None
    ) -> Checkpoint:
        """Return all of this moment, or with other models, if it may be written."""
        if self._before_save is not None:
            self._before_save()
        models = models or {name: self.stepper.model(name) for name in self.tasks}
        return Checkpoint(
            models=models,
            model_params=self.model_params,
            step=self.step,
            optimizer=self.stepper.state() if optimizer is None else optimizer,
            trainer=self.state() | adapter_arrays(models),
            min_nbor_dist=self.min_nbor_dist,
            backend=self.stepper.name,
        )

    def state(self) -> dict[str, Any]:
        """Return all that a restart needs beside parameters and the optimizer."""
        out: dict[str, Any] = {
            **self.extra,
            "version": __version__,
            "seed": np.array(self.seed, dtype=np.int64),
            "learning_rate": np.array(self.schedule.value(self.step)),
            "learning_rate.last": np.array(self.schedule.value(max(self.step - 1, 0))),
        }
        for name, task in self.tasks.items():
            feed = self._feeds.get(name)
            data = task.data.state() if feed is None else feed.state()
            out |= {f"data.{name}.{k}": v for k, v in data.items()}
            if task.validation is not None:
                out |= {f"valid.{name}.{k}": v for k, v in task.validation.state().items()}
        for extra in self.extras:
            out |= {f"{extra.name}.{k}": v for k, v in extra.state().items()}
        return out | {f"figures.{k}": np.array(v) for k, v in self.figures.state().items()}

    def restore(self, checkpoint: Checkpoint) -> None:
        """Continue after a checkpoint, whose parameters the models must already have."""
        state = checkpoint.trainer
        self.step = int(checkpoint.step)
        self.seed = int(state.get("seed", self.seed))
        self.stepper.load_state(checkpoint.optimizer)
        for name, task in self.tasks.items():
            consumed = part_of(state, f"data.{name}.")
            if consumed:
                task.data.load_state(consumed)
            else:
                log.warning("the checkpoint does not say which data were used; they begin anew")
            known = part_of(state, f"valid.{name}.")
            # Validation data may be added, removed or changed; training is the same without them.
            if task.validation is not None and _same_data(task.validation, known):
                task.validation.load_state(known)
        self.figures.load_state(part_of(state, "figures."))
        for extra in self.extras:
            extra.load_state(part_of(state, f"{extra.name}."))
        log.info("Restart after step %d.", self.step)


def _same_data(data: Dataset, state: Mapping[str, Any]) -> bool:
    return np.array_equal(np.asarray(state.get("nframes", [])), data.sampler.nframes)


def _listed(needed: Any) -> Any:
    return "more" if needed is None else np.asarray(needed).tolist()
