# SPDX-License-Identifier: LGPL-3.0-or-later
"""The training step on TensorFlow: loss, gradients and optimizer in one traced function."""

import copy
import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

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
from deepmd.runtime.host_optimizer import host_muon
from deepmd.runtime.host_steps import HostedTrainStep
from deepmd.runtime.kalman import KalmanSteps, Measurement, compared, kalman_steps
from deepmd.runtime.programs import architecture, shared
from deepmd.runtime.sharing import Sharing
from deepmd.runtime.step import Metrics, StepOptions
from deepmd.tf.program import Leaves, constants, input_specs, specs_of, traced

_SCALAR = tf.TensorSpec((), tf.float64)


class Group(NamedTuple):
    """Parameters of one dtype that lie in one vector, because the same tasks share them.

    Attributes
    ----------
    tasks : tuple of str
        Empty for parameters that one task has.
    dtype : str
    paths : tuple of str
        In the order of the vector; it is that of the same parameters in all tasks.
    shapes : tuple of tuple of int
    """

    tasks: tuple[str, ...]
    dtype: str
    paths: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]

    @property
    def sizes(self) -> list[int]:
        """Lengths of the parts of the vector."""
        return [math.prod(shape) for shape in self.shapes]

    def parts(self, vector: Any) -> Leaves:
        """Return the parameters of a vector, of TensorFlow."""
        parts = zip(self.paths, tf.split(vector, self.sizes), self.shapes, strict=True)
        return {path: tf.reshape(part, shape) for path, part, shape in parts}

    def arrays(self, vector: Any) -> dict[str, np.ndarray]:
        """Return the parameters of a vector as NumPy arrays."""
        parts = np.split(np.array(vector), np.cumsum(self.sizes)[:-1])
        named = zip(self.paths, parts, self.shapes, strict=True)
        return {path: part.reshape(shape).copy() for path, part, shape in named}

    def vector(self, arrays: Mapping[str, Any]) -> Any:
        """Return the vector of parameters."""
        return tf.constant(np.concatenate([np.ravel(arrays[path]) for path in self.paths]))


class Held(NamedTuple):
    """State of the parameters of a group: their number of steps, values and moments."""

    count: Any
    values: Any
    first: Any
    second: Any


def groups_of(task: str, params: Mapping[str, np.ndarray], sharing: Sharing) -> list[Group]:
    """Return how the parameters of a task lie in vectors."""
    out = []
    for tasks, paths in sharing.groups(task, params).items():
        # All tasks have them in the order of the first.
        there = {} if not tasks or tasks[0] == task else sharing.paths(task, tasks[0])
        paths = sorted(paths, key=lambda path: there.get(path, path))
        for dtype in sorted({params[path].dtype.name for path in paths}):
            some = tuple(path for path in paths if params[path].dtype.name == dtype)
            out.append(Group(tasks, dtype, some, tuple(params[path].shape for path in some)))
    return out


class _Program:
    """The traced functions of a model, a loss and an optimizer; holds no numbers."""

    def __init__(
        self,
        model: Model,
        loss: Loss,
        groups: list[Group],
        settings: Mapping[str, Any],
        max_norm: float | None,
    ) -> None:
        self.neutral, self.loss, self.groups = model, loss, groups
        self.settings, self.max_norm = settings, max_norm
        self.functions: dict[Any, Callable[..., Any]] = {}

    def run(self, kind: str, state: Any, *arrays: Any) -> Any:
        """Call a function, ``step``, ``gradients`` or ``evaluate``, with the state of a task."""
        labels = arrays[1]
        # Of a Hessian the rows are unrolled, so that their number must be known.
        key = (kind, *(labels.values[x.name].shape[1] for x in self._requirements if x.pairwise))
        if key not in self.functions:
            specs = (specs_of(state), self._input_specs(), self._label_specs(labels), _SCALAR)
            self.functions[key] = traced(getattr(self, kind), *specs)
        return self.functions[key](state, *arrays)

    def _input_specs(self) -> Inputs:
        return input_specs(self.neutral, self.neutral.assembly_inputs())

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

    def _leaves(self, vectors: list[Any], fixed: Leaves) -> Leaves:
        leaves = dict(fixed)
        for group, vector in zip(self.groups, vectors, strict=True):
            leaves |= group.parts(vector)
        return leaves

    def evaluate(self, state: Any, inputs: Inputs, labels: Labels, lr: Any) -> Metrics:
        """Return the figures of a batch."""
        vectors, fixed = state
        return self._loss(self._leaves(vectors, fixed), inputs, labels, lr, 1)[1]

    def gradients(self, state: Any, inputs: Inputs, labels: Labels, lr: Any) -> Any:
        """Return the figures of a batch and the gradients of the vectors of parameters."""
        vectors, fixed = state
        with tf.GradientTape() as tape:
            tape.watch(vectors)
            value, metrics = self._loss(self._leaves(vectors, fixed), inputs, labels, lr, 2)
        return metrics, tape.gradient(value, vectors, unconnected_gradients="zero")

    def measure(self, state: Any, inputs: Inputs, labels: Labels, name: str, given: Any) -> Any:
        """Return gradients and error of a measurement of the Kalman filter, (rows, weight)."""
        key = ("measure", name)
        if key not in self.functions:
            specs = (specs_of(state), self._input_specs(), self._label_specs(labels))
            rows = tf.TensorSpec((None, None), tf.int64)
            function = functools.partial(self._measured, name)
            self.functions[key] = traced(function, *specs, (rows, _SCALAR))
        return self.functions[key](state, inputs, labels, given)

    def _measured(self, name: str, state: Any, inputs: Inputs, labels: Labels, given: Any) -> Any:
        vectors, fixed = state
        (n_frames,) = ops.shape(labels.natoms)
        with tf.GradientTape() as tape:
            tape.watch(vectors)
            model = bind(self.neutral, self._leaves(vectors, fixed))
            pred = model.predict(inputs, n_frames, derivatives=("force",), order=2)
            value, error = compared(pred, labels, name, *given)
        return tape.gradient(value, vectors, unconnected_gradients="zero"), error

    def step(self, state: Any, inputs: Inputs, labels: Labels, lr: Any) -> Any:
        """Return the state of the groups after a step, and the figures before it."""
        held, fixed = state
        metrics, grads = self.gradients(([h.values for h in held], fixed), inputs, labels, lr)
        if self.max_norm is not None:
            squares = [tf.reduce_sum(tf.square(tf.cast(g, tf.float64))) for g in grads]
            norm = tf.sqrt(sum(squares, start=tf.constant(0.0, tf.float64)))
            factor = tf.minimum(1.0, self.max_norm / (norm + 1e-6))
            grads = [tf.cast(factor, g.dtype) * g for g in grads]
        return [self._adam(h, g, lr) for h, g in zip(held, grads, strict=True)], metrics

    def _adam(self, held: Held, g: Any, lr: Any) -> Held:
        """Take the step of :class:`deepmd.dpmodel.optimizer.Adam`."""
        s, p = self.settings, held.values
        b1, b2, decay = s["adam_beta1"], s["adam_beta2"], s["weight_decay"]
        count = held.count + 1
        n = tf.cast(count, tf.float64)
        rate = lr / (1.0 - tf.pow(tf.constant(b1, tf.float64), n))
        root = tf.sqrt(1.0 - tf.pow(tf.constant(b2, tf.float64), n))
        if decay and not s["decoupled"]:
            g = g + decay * p
        m = b1 * held.first + (1.0 - b1) * g
        v = b2 * held.second + (1.0 - b2) * g * g
        if decay and s["decoupled"]:
            p = p * tf.cast(1.0 - lr * decay, p.dtype)
        denominator = tf.sqrt(v) / tf.cast(root, p.dtype) + EPSILON
        return Held(count, p - tf.cast(rate, p.dtype) * m / denominator, m, v)


class _Task:
    """What belongs to one model: its arrays, and how it is traced."""

    def __init__(
        self,
        model: Model,
        loss: Loss,
        settings: Mapping[str, Any],
        max_norm: float | None,
        groups: list[Group],
    ) -> None:
        self.neutral, self.groups = model, groups
        self.packings, self.names = model.packings(), model.predict_names()
        params, fixed = split(model)
        self.fixed = constants(fixed)
        self.held = [_without_moments(group.vector(params)) for group in groups]
        self.program: _Program = shared(
            lambda: _Program(model, loss, groups, settings, max_norm),
            "tensorflow",
            architecture(model),
            architecture(loss),
            repr((sorted(settings.items()), max_norm, groups)),
        )

    @property
    def vectors(self) -> list[Any]:
        """Parameters of every group."""
        return [held.values for held in self.held]

    def arrays(self, vectors: Sequence[Any]) -> dict[str, np.ndarray]:
        """Return vectors of all groups as arrays by path."""
        pairs = zip(self.groups, vectors, strict=True)
        return {k: v for group, vector in pairs for k, v in group.arrays(vector).items()}

    def set(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Take arrays by path as the parameters of all groups."""
        pairs = zip(self.groups, self.held, strict=True)
        self.held = [held._replace(values=group.vector(arrays)) for group, held in pairs]


def _without_moments(values: Any) -> Held:
    zero = tf.zeros_like(values)
    return Held(tf.constant(0, tf.int64), values, zero, zero)


class TfTrainStep(HostedTrainStep):
    """Training with one traced function per task, for batches of all sizes."""

    name = "tensorflow"

    def __init__(
        self,
        models: dict[str, Model],
        losses: dict[str, Loss],
        optimizer: Mapping[str, Any],
        options: StepOptions,
    ) -> None:
        options.refuse("TensorFlow", "accumulate", "tf32", "zero_stage", "compute")
        refuse_fork("TensorFlow")
        keep_freed_memory()
        self._sharing, norm = Sharing(models), options.gradient_max_norm
        every = {task: split(model)[0] for task, model in models.items()}
        kalman = kalman_steps(optimizer, every, losses, options, KalmanSteps)
        self.host = kalman or host_muon(optimizer, self._sharing, options)
        settings = adam_settings({} if self.host else optimizer)
        self._tasks = {}
        for task, model in models.items():
            groups = groups_of(task, every[task], self._sharing)
            self._tasks[task] = _Task(model, losses[task], settings, norm, groups)
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
        if self.host is not None:
            return self.host_step(self.host, task, batch, lr)
        t, *arguments = self._arguments(task, batch, lr)
        t.held, metrics = t.program.run("step", (t.held, t.fixed), *arguments)
        self._spread(task)
        return metrics

    def _spread(self, task: str) -> None:
        """Give the tasks that share groups with one what they are after its step."""
        t = self._tasks[task]
        for group, held in zip(t.groups, t.held, strict=True):
            for other in (self._tasks[name] for name in group.tasks if name != task):
                kinds = [g[:2] for g in other.groups]
                other.held[kinds.index(group[:2])] = held

    def measure(
        self, task: str, batch: Batch
    ) -> Callable[[Measurement], tuple[dict[str, np.ndarray], Any]]:
        """Return what gives the gradients and the error of a measurement in a batch."""
        t, inputs, labels, _ = self._arguments(task, batch, 0.0)

        def measured(given: Measurement) -> tuple[dict[str, np.ndarray], Any]:
            rest = (given.rows, np.float64(given.weight))
            grads, error = t.program.measure((t.vectors, t.fixed), inputs, labels, given.name, rest)
            return t.arrays(grads), error.numpy()

        return measured

    def replace(self, task: str, arrays: Mapping[str, np.ndarray]) -> None:
        """Take arrays as the parameters of a task, and of those that share them."""
        self._tasks[task].set(arrays)
        self._spread(task)

    def gradients(
        self, task: str, batch: Batch, lr: float
    ) -> tuple[Metrics, dict[str, np.ndarray]]:
        """Return the figures of a batch and the gradient of every parameter."""
        t, *arguments = self._arguments(task, batch, lr)
        metrics, grads = t.program.run("gradients", (t.vectors, t.fixed), *arguments)
        return metrics, t.arrays(grads)

    def evaluate(self, task: str, batch: Batch, lr: float) -> Metrics:
        """Return the figures of a batch."""
        t, *arguments = self._arguments(task, batch, lr)
        return t.program.run("evaluate", (t.vectors, t.fixed), *arguments)

    # -- state: the names are those of the NumPy step ------------------------------------------

    def state(self) -> dict[str, np.ndarray]:
        """Return counts and moments."""
        if self.host is not None:
            return self.host.state()
        out: dict[str, np.ndarray] = {}
        for task, t in self._tasks.items():
            pairs = list(zip(t.groups, t.held, strict=True))
            counts = {k: np.array(held.count) for group, held in pairs for k in group.paths}
            if len({int(n) for n in counts.values()}) > 1:
                out |= {f"{task}/count.{k}": n for k, n in counts.items()}
            else:
                out[f"{task}/count"] = next(iter(counts.values()), np.array(0))
            for kind in ("first", "second"):
                moments = t.arrays([getattr(held, kind) for held in t.held])
                out |= {f"{task}/{kind}.{k}": v for k, v in moments.items()}
        return out

    def load_state(self, state: Mapping[str, np.ndarray]) -> None:
        """Restore what :meth:`state` returned."""
        if self.host is not None:
            self.host.load_state(state)
            return
        for task, t in self._tasks.items():
            mine, pairs = part_of(state, f"{task}/"), zip(t.groups, t.held, strict=True)
            t.held = [_restored(group, held, mine) for group, held in pairs]

    def parameters(self, task: str) -> dict[str, Any]:
        """Return the vectors of a task, by their numbers."""
        return {str(k): v for k, v in enumerate(self._tasks[task].vectors)}

    def to_host(self, task: str, arrays: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """Return vectors as arrays by path."""
        return self._tasks[task].arrays(list(arrays.values()))

    def from_host(self, task: str, arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
        """Return arrays by path as vectors."""
        return {str(k): g.vector(arrays) for k, g in enumerate(self._tasks[task].groups)}

    def model(self, task: str) -> Model:
        """Return the neutral model with the parameters of this moment."""
        t = self._tasks[task]
        model = copy.deepcopy(t.neutral)
        assign(model, t.arrays(t.vectors))
        return model


def _restored(group: Group, held: Held, stored: Mapping[str, np.ndarray]) -> Held:
    """Return the state of a group with the count and moments of a task as they are stored."""
    # No moments are stored before the first step.
    if not all(f"first.{path}" in stored for path in group.paths):
        return _without_moments(held.values)
    # Where tasks share parameters, every one has its count; those of one group have the same.
    count = stored.get(f"count.{group.paths[0]}", stored.get("count", np.array(0)))
    first, second = (group.vector(part_of(stored, f"{kind}.")) for kind in ("first", "second"))
    return Held(tf.constant(int(count), tf.int64), held.values, first, second)
