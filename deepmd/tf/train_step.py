# SPDX-License-Identifier: LGPL-3.0-or-later
"""The training step on TensorFlow: loss, gradients and optimizer in one traced function."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from deepmd.base.fork import refuse_fork
from deepmd.base.memory import keep_freed_memory
from deepmd.dpmodel import ops
from deepmd.dpmodel.batch import Batch
from deepmd.dpmodel.loss import Labels, Loss, labels_of
from deepmd.dpmodel.model import Inputs, Model, prepare
from deepmd.dpmodel.module import assign, bind, split
from deepmd.dpmodel.neighbors import Overflow
from deepmd.dpmodel.optimizer import EPSILON, adam_settings, part_of
from deepmd.runtime.programs import architecture, shared
from deepmd.runtime.sharing import Sharing
from deepmd.runtime.step import Metrics, StepOptions, TrainStep
from deepmd.tf.program import Leaves, constants, input_specs, specs_of, traced

_SCALAR = tf.TensorSpec((), tf.float64)
#: Steps, first and second moments by the names of parameters.
Moments = tuple[Any, Leaves, Leaves]
#: Parameters that tasks share have one count of steps: moments by the tasks.
OptState = dict[str, Moments]


class _Program:
    """The traced functions of a model, a loss and an optimizer; holds no numbers."""

    def __init__(
        self, model: Model, loss: Loss, settings: Mapping[str, Any], max_norm: float | None
    ) -> None:
        self.neutral, self.loss, self.settings, self.max_norm = model, loss, settings, max_norm
        self.functions: dict[Any, Callable[..., Any]] = {}

    def run(self, kind: str, state: Any, *arrays: Any) -> Any:
        """Call a function, ``step``, ``gradients`` or ``evaluate``, with the state of a task."""
        labels = arrays[1]
        # Of a Hessian the rows are unrolled, so that their number must be known.
        key = (kind, *(labels.values[x.name].shape[1] for x in self._requirements if x.pairwise))
        if key not in self.functions:
            specs = (specs_of(state), input_specs(self.neutral), self._label_specs(labels), _SCALAR)
            self.functions[key] = traced(getattr(self, kind), *specs)
        return self.functions[key](state, *arrays)

    @functools.cached_property
    def _requirements(self) -> list[Any]:
        return self.loss.label_requirements()

    def _label_specs(self, labels: Labels) -> Labels:
        def rows(value: Any) -> tf.TensorSpec:
            return tf.TensorSpec((None, *value.shape[1:]), value.dtype)

        find = dict.fromkeys(labels.find, _SCALAR)
        return Labels(
            {k: rows(v) for k, v in labels.values.items()},
            find,
            *map(rows, (labels.natoms, labels.frame, labels.weight)),
        )

    def _loss(
        self, leaves: Leaves, inputs: Inputs, labels: Labels, lr: Any, order: int
    ) -> tuple[Any, Metrics]:
        model, (n_frames,) = bind(self.neutral, leaves), ops.shape(labels.natoms)
        pred = self.loss.predict(model, inputs, n_frames, labels, order=order)
        value, figures = self.loss(lr, pred, labels)
        return value, {"loss": value, **figures}

    def evaluate(self, state: Any, inputs: Inputs, labels: Labels, lr: Any) -> Metrics:
        """Return the figures of a batch."""
        params, fixed = state
        return self._loss(params | fixed, inputs, labels, lr, 1)[1]

    def gradients(self, state: Any, inputs: Inputs, labels: Labels, lr: Any) -> Any:
        """Return the figures of a batch and the gradient of every parameter."""
        params, fixed = state
        with tf.GradientTape() as tape:
            tape.watch(params)
            value, metrics = self._loss(params | fixed, inputs, labels, lr, 2)
        return metrics, tape.gradient(value, params, unconnected_gradients="zero")

    def step(
        self, state: Any, inputs: Inputs, labels: Labels, lr: Any
    ) -> tuple[Leaves, OptState, Metrics]:
        """Return parameters and moments after a step, and the figures before it."""
        params, fixed, moments = state
        metrics, grads = self.gradients((params, fixed), inputs, labels, lr)
        if self.max_norm is not None:
            squares = [tf.reduce_sum(tf.square(tf.cast(g, tf.float64))) for g in grads.values()]
            norm = tf.sqrt(tf.add_n(squares)) if squares else tf.constant(0.0, tf.float64)
            factor = tf.minimum(1.0, self.max_norm / (norm + 1e-6))
            grads = {k: tf.cast(factor, g.dtype) * g for k, g in grads.items()}
        new, states = dict(params), {}
        for group, held in moments.items():
            part, states[group] = self._adam(params, grads, held, lr)
            new |= part
        return new, states, metrics

    def _adam(
        self, params: Leaves, grads: Leaves, held: Moments, lr: Any
    ) -> tuple[Leaves, Moments]:
        """Take the step of :class:`deepmd.dpmodel.optimizer.Adam`."""
        s, (count, first, second) = self.settings, held
        b1, b2, decay = s["adam_beta1"], s["adam_beta2"], s["weight_decay"]
        count = count + 1
        n = tf.cast(count, tf.float64)
        rate = lr / (1.0 - tf.pow(tf.constant(b1, tf.float64), n))
        root = tf.sqrt(1.0 - tf.pow(tf.constant(b2, tf.float64), n))
        new, m, v = {}, {}, {}
        for k in first:
            p, g = params[k], grads[k]
            if decay and not s["decoupled"]:
                g = g + decay * p
            m[k] = b1 * first[k] + (1.0 - b1) * g
            v[k] = b2 * second[k] + (1.0 - b2) * g * g
            if decay and s["decoupled"]:
                p = p * tf.cast(1.0 - lr * decay, p.dtype)
            denominator = tf.sqrt(v[k]) / tf.cast(root, p.dtype) + EPSILON
            new[k] = p - tf.cast(rate, p.dtype) * m[k] / denominator
        return new, (count, m, v)


class _Task:
    """What belongs to one model: its arrays, and how it is traced."""

    def __init__(
        self,
        model: Model,
        loss: Loss,
        settings: Mapping[str, Any],
        max_norm: float | None,
        sharing: Callable[[Leaves], Mapping[tuple[str, ...], list[str]]],
    ) -> None:
        self.neutral, self.loss = model, loss
        self.packings, self.names = model.packings(), {one.name for one in model.entry_inputs()}
        params, fixed = split(model)
        self.params, self.fixed = constants(params), constants(fixed)
        self.groups = {"/".join(tasks): tasks for tasks in sharing(self.params)}
        self.moments: OptState = {
            "/".join(tasks): _no_moments({k: params[k] for k in paths})
            for tasks, paths in sharing(self.params).items()
        }
        self.program: _Program = shared(
            lambda: _Program(model, loss, settings, max_norm),
            "tensorflow",
            architecture(model),
            architecture(loss),
            repr((sorted(settings.items()), max_norm, sorted(self.moments))),
        )


def _no_moments(params: Mapping[str, np.ndarray]) -> Moments:
    zeros = {k: np.zeros_like(v) for k, v in params.items()}
    return tf.constant(0, tf.int64), constants(zeros), constants(zeros)


class TfTrainStep(TrainStep):
    """Training with one traced function per task, for batches of all sizes."""

    name = "tensorflow"

    def __init__(
        self,
        models: dict[str, Model],
        losses: dict[str, Loss],
        optimizer: Mapping[str, Any],
        options: StepOptions,
    ) -> None:
        refuse_fork("TensorFlow")
        keep_freed_memory()
        settings, norm = adam_settings(optimizer), options.gradient_max_norm
        self._sharing = Sharing(models)
        self._tasks = {
            task: _Task(
                model,
                losses[task],
                settings,
                norm,
                functools.partial(self._sharing.groups, task),
            )
            for task, model in models.items()
        }
        self.overflow = Overflow()

    @property
    def tracings(self) -> int:
        """Number of functions traced so far."""
        return sum(len(t.program.functions) for t in self._tasks.values())

    def _arguments(self, name: str, batch: Batch, lr: float) -> tuple[_Task, Inputs, Labels, Any]:
        t = self._tasks[name]
        inputs = prepare(t.neutral.expand(batch), t.packings, self.overflow).only(t.names)
        labels = labels_of(batch)
        wanted = [label.name for label in t.program._requirements]
        labels = labels._replace(
            values={k: labels.values[k] for k in wanted},
            find={k: np.float64(labels.find.get(k, 1.0)) for k in wanted},
        )
        return t, inputs, labels, np.float64(lr)

    def step(self, task: str, batch: Batch, lr: float) -> Metrics:
        """Take one step."""
        t, *arguments = self._arguments(task, batch, lr)
        state = (t.params, t.fixed, t.moments)
        t.params, t.moments, metrics = t.program.run("step", state, *arguments)
        self._spread(task)
        return metrics

    def _spread(self, task: str) -> None:
        """Give the tasks that share parameters with one what they are after its step."""
        self._sharing.spread(task, lambda name: self._tasks[name].params)
        t = self._tasks[task]
        for group, (count, first, second) in t.moments.items():
            for other in (name for name in t.groups[group] if name != task):
                there = self._sharing.paths(task, other)
                moved = ({there[k]: v for k, v in part.items()} for part in (first, second))
                self._tasks[other].moments[group] = (count, *moved)

    def gradients(
        self, task: str, batch: Batch, lr: float
    ) -> tuple[Metrics, dict[str, np.ndarray]]:
        """Return the figures of a batch and the gradient of every parameter."""
        t, *arguments = self._arguments(task, batch, lr)
        metrics, grads = t.program.run("gradients", (t.params, t.fixed), *arguments)
        return metrics, _fetched(grads)

    def evaluate(self, task: str, batch: Batch, lr: float) -> Metrics:
        """Return the figures of a batch."""
        t, *arguments = self._arguments(task, batch, lr)
        return t.program.run("evaluate", (t.params, t.fixed), *arguments)

    # -- state: the names are those of the NumPy step ------------------------------------------

    def state(self) -> dict[str, np.ndarray]:
        """Return counts and moments."""
        out: dict[str, np.ndarray] = {}
        for task, t in self._tasks.items():
            counts = {k: np.array(n) for n, first, _ in t.moments.values() for k in first}
            if len({int(n) for n in counts.values()}) > 1:
                out |= {f"{task}/count.{k}": n for k, n in counts.items()}
            else:
                out[f"{task}/count"] = next(iter(counts.values()), np.array(0))
            for _, first, second in t.moments.values():
                out |= {f"{task}/first.{k}": v for k, v in _fetched(first).items()}
                out |= {f"{task}/second.{k}": v for k, v in _fetched(second).items()}
        return out

    def load_state(self, state: Mapping[str, np.ndarray]) -> None:
        """Restore what :meth:`state` returned."""
        for task, t in self._tasks.items():
            mine = part_of(state, f"{task}/")
            t.moments = {group: _restored(held, mine) for group, held in t.moments.items()}

    def model(self, task: str) -> Model:
        """Return the neutral model with the parameters of this moment."""
        t = self._tasks[task]
        model = Model.deserialize(t.neutral.serialize())
        assign(model, _fetched(t.params))
        return model


def _fetched(leaves: Mapping[str, Any]) -> dict[str, np.ndarray]:
    return {k: v.numpy().copy() for k, v in leaves.items()}


def _restored(held: Moments, stored: Mapping[str, np.ndarray]) -> Moments:
    """Return the counts and moments of a task as they are stored; see ``TrainStep.state``."""
    _, first, second = held

    def moments(kind: str, old: Leaves) -> Leaves:
        # No moments are stored before the first step.
        return {
            k: tf.constant(stored.get(f"{kind}.{k}", np.zeros(v.shape)), v.dtype)
            for k, v in old.items()
        }

    # Where tasks share parameters, every one has its count; those of one entry have the same.
    known = (stored.get(f"count.{k}") for k in first)
    count = next((n for n in known if n is not None), stored.get("count", np.array(0)))
    return tf.constant(int(count), tf.int64), moments("first", first), moments("second", second)
