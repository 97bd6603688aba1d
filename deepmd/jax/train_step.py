# SPDX-License-Identifier: LGPL-3.0-or-later
"""The training step on JAX: loss, gradients and optimizer in one compiled program."""

import copy
import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from deepmd.base.errors import NotAvailableError
from deepmd.base.fork import refuse_fork
from deepmd.base.memory import keep_freed_memory
from deepmd.dpmodel.batch import Batch
from deepmd.dpmodel.loss import Labels, Loss
from deepmd.dpmodel.model import Inputs, Model
from deepmd.dpmodel.module import assign, bind, split
from deepmd.dpmodel.neighbors import Overflow
from deepmd.dpmodel.optimizer import EPSILON, adam_settings, part_of
from deepmd.jax.cache import make_room
from deepmd.jax.distributed import JaxDistributed
from deepmd.runtime.bucketing import Bucketing, pad_labels
from deepmd.runtime.distributed import Distributed
from deepmd.runtime.host_optimizer import host_muon
from deepmd.runtime.host_steps import HostedTrainStep
from deepmd.runtime.kalman import KalmanSteps, Measurement, compared, kalman_steps
from deepmd.runtime.programs import architecture, shared
from deepmd.runtime.sharing import Sharing
from deepmd.runtime.step import Metrics, StepOptions

Leaves = dict[str, Any]


def transform(settings: Mapping[str, Any]) -> optax.GradientTransformation:
    """Return the optax form of :class:`deepmd.dpmodel.optimizer.Adam`.

    Its result is subtracted after multiplication with the learning rate.
    """
    adam = optax.scale_by_adam(b1=settings["adam_beta1"], b2=settings["adam_beta2"], eps=EPSILON)
    if not settings["weight_decay"]:
        return optax.chain(adam)
    decay = optax.add_decayed_weights(settings["weight_decay"])
    return optax.chain(adam, decay) if settings["decoupled"] else optax.chain(decay, adam)


def own(leaves: Mapping[str, np.ndarray]) -> Leaves:
    """Copy arrays to the device. They must not share memory with NumPy: steps overwrite them."""
    return {k: jnp.array(v, copy=True) for k, v in leaves.items()}


def fetch(leaves: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Copy arrays back; see :func:`own`."""
    return {k: np.array(v, copy=True) for k, v in leaves.items()}


class _Program:
    """The compiled functions of a model, a loss and an optimizer; holds no numbers."""

    def __init__(
        self,
        model: Model,
        loss: Loss,
        settings: Mapping[str, Any],
        max_norm: float | None,
        ranks: Distributed,
    ) -> None:
        self.neutral, self.loss, self.max_norm, self.ranks = model, loss, max_norm, ranks
        self.optimizer = transform(settings)
        evaluate = functools.partial(self._loss, training=False)
        if isinstance(ranks, JaxDistributed):
            # Nothing is donated: what is left when a process is lost is saved.
            self.step = ranks.program(self._step, own=(3, 4))
            self.gradients = ranks.program(self._gradients, own=(2, 3))
            self.evaluate = ranks.program(evaluate, own=(2, 3))
        else:
            self.step = jax.jit(self._step, donate_argnums=(0, 1))
            self.gradients = jax.jit(self._gradients)
            self.evaluate = jax.jit(evaluate)

    def _loss(
        self,
        params: Leaves,
        fixed: Leaves,
        inputs: Inputs,
        labels: Labels,
        lr: Any,
        *,
        training: bool = True,
    ) -> tuple[Any, Metrics]:
        model = bind(self.neutral, params | fixed)
        n_frames = labels.natoms.shape[0]
        pred = self.loss.predict(model, inputs, n_frames, labels, order=2 if training else 1)
        value, figures = self.loss(lr, pred, labels, self.ranks.reduce)
        return value, {"loss": value, **figures}

    @functools.partial(jax.jit, static_argnums=(0, 1))
    def measure(
        self, name: str, params: Leaves, fixed: Leaves, inputs: Inputs, labels: Labels, given: Any
    ) -> tuple[Leaves, Any]:
        """Return gradients and error of a measurement of the Kalman filter, (rows, weight)."""

        def objective(params: Leaves) -> tuple[Any, Any]:
            model, n_frames = bind(self.neutral, params | fixed), labels.natoms.shape[0]
            pred = model.predict(inputs, n_frames, derivatives=("force",), order=2)
            return compared(pred, labels, name, *given)

        return jax.grad(objective, has_aux=True)(params)

    def _gradients(
        self, params: Leaves, fixed: Leaves, inputs: Inputs, labels: Labels, lr: Any
    ) -> tuple[Leaves, Metrics]:
        gradient = jax.grad(self._loss, has_aux=True)
        grads, metrics = gradient(params, fixed, inputs, labels, lr)
        if self.ranks.size > 1:
            grads = jax.tree.map(self.ranks.total, grads)
        return grads, metrics

    def _step(
        self,
        params: Leaves,
        opt_state: Any,
        fixed: Leaves,
        inputs: Inputs,
        labels: Labels,
        lr: Any,
    ) -> tuple[Leaves, Any, Metrics]:
        grads, metrics = self._gradients(params, fixed, inputs, labels, lr)
        if self.max_norm is not None:
            factor = jnp.minimum(1.0, self.max_norm / (_global_norm(grads) + 1e-6))
            grads = {k: (factor * g).astype(g.dtype) for k, g in grads.items()}
        updates: Leaves = {}
        states: dict[tuple[str, ...], Any] = {}
        for group, state in opt_state.items():
            mine, held = ({k: x[k] for k in _adam_state(state).mu} for x in (grads, params))
            part, states[group] = self.optimizer.update(mine, state, held)
            updates |= part
        params = {k: (p - lr * updates[k]).astype(p.dtype) for k, p in params.items()}
        return params, states, metrics


class _Task:
    """State of one model: its arrays on the device, and its compiled functions."""

    def __init__(
        self,
        model: Model,
        loss: Loss,
        settings: Mapping[str, Any],
        max_norm: float | None,
        bucketing: Bucketing,
        sharing: Callable[[Leaves], Mapping[tuple[str, ...], list[str]]],
        ranks: Distributed,
    ) -> None:
        self.neutral, self.loss, self.bucketing = model, loss, bucketing
        self.program: _Program = shared(
            lambda: _Program(model, loss, settings, max_norm, ranks),
            "train",
            architecture(model),
            architecture(loss),
            repr((sorted(settings.items()), max_norm, ranks.size)),
        )
        params, fixed = split(model)
        # By the tasks that share the parameters: those of one entry have one count of steps.
        opt_state: dict[tuple[str, ...], Any] = {
            tasks: self.program.optimizer.init({k: jnp.array(params[k]) for k in paths})
            for tasks, paths in sharing(params).items()
        }
        if isinstance(ranks, JaxDistributed):
            self.params, self.fixed, self.opt_state = ranks.place((params, fixed, opt_state))
        else:
            self.params, self.fixed, self.opt_state = own(params), own(fixed), opt_state


def _global_norm(grads: Leaves) -> Any:
    """Root of the sum of all squares, in float64."""
    return jnp.sqrt(sum(jnp.sum(jnp.square(g.astype(jnp.float64))) for g in grads.values()))


class JaxTrainStep(HostedTrainStep):
    """Training with one compiled program per task and shape."""

    name = "jax"
    distributes = True
    uses_widths = True

    def __init__(
        self,
        models: dict[str, Model],
        losses: dict[str, Loss],
        optimizer: Mapping[str, Any],
        options: StepOptions,
    ) -> None:
        options.refuse("JAX", "accumulate", "tf32", "zero_stage", "compute")
        refuse_fork("JAX")
        keep_freed_memory()
        # Else a step on a processor takes its memory while the one before it still holds its own.
        jax.config.update("jax_cpu_enable_async_dispatch", False)
        self._sharing = Sharing(models)
        every = {task: split(model)[0] for task, model in models.items()}
        kalman = kalman_steps(optimizer, every, losses, options, KalmanSteps)
        self.host = kalman or host_muon(optimizer, self._sharing, options)
        settings = adam_settings({} if self.host else optimizer)
        widths = options.widths or {}
        self._ranks = ranks = options.ranks
        for loss in losses.values() if ranks.size > 1 else ():
            if any(label.pairwise for label in loss.label_requirements()):
                raise NotAvailableError(
                    "JAX compares second derivatives in one process only",
                    where="loss",
                    fix="train with PyTorch (--pt), or in one process",
                )
        common = ranks.common if isinstance(ranks, JaxDistributed) else None
        self._tasks = {
            task: _Task(
                model,
                losses[task],
                settings,
                options.gradient_max_norm,
                Bucketing(
                    model, widths.get(task), name=task, before_program=make_room, common=common
                ),
                functools.partial(self._sharing.groups, task),
                ranks,
            )
            for task, model in models.items()
        }
        self.overflow = Overflow()

    @property
    def compilations(self) -> int:
        """Number of programs compiled so far."""
        return sum(len(t.bucketing.seen) for t in self._tasks.values())

    def _arguments(
        self, name: str, kind: str, batch: Batch, lr: float
    ) -> tuple[_Task, Inputs, Labels, Any]:
        task = self._tasks[name]
        inputs, sizes = task.bucketing.prepare(batch, self.overflow)
        task.bucketing.count(kind, sizes)
        if task.neutral.has_spin():  # labels are those of atoms, without virtual partners
            sizes = dataclasses.replace(sizes, types=(sizes.atoms // 2,))
        labels = pad_labels(batch, task.loss, sizes)
        if isinstance(self._ranks, JaxDistributed):
            inputs, labels = self._ranks.place((inputs, labels), own=True)
        return task, inputs, labels, np.float64(lr)

    def step(self, task: str, batch: Batch, lr: float) -> Metrics:
        """Take one step; the call returns while the device still works."""
        if self.host is not None:
            return self.host_step(self.host, task, batch, lr)
        t, *arguments = self._arguments(task, "step", batch, lr)
        with self._ranks.explained():
            stepped = t.program.step(t.params, t.opt_state, t.fixed, *arguments)
            if self._ranks.size > 1:  # else a lost process shows where the result is used
                stepped = jax.block_until_ready(stepped)
        t.params, t.opt_state, metrics = stepped
        self._spread(task)
        return metrics

    def measure(
        self, task: str, batch: Batch
    ) -> Callable[[Measurement], tuple[dict[str, np.ndarray], Any]]:
        """Return what gives the gradients and the error of a measurement in a batch."""
        t, inputs, labels, _ = self._arguments(task, "measure", batch, 0.0)

        def measured(given: Measurement) -> tuple[dict[str, np.ndarray], Any]:
            rest = (given.rows, np.float64(given.weight))
            found = t.program.measure(given.name, t.params, t.fixed, inputs, labels, rest)
            return fetch(found[0]), np.float64(found[1])

        return measured

    def replace(self, task: str, arrays: Mapping[str, np.ndarray]) -> None:
        """Take arrays as the parameters of a task, and of those that share them."""
        self._tasks[task].params = own(arrays)
        self._sharing.spread(task, lambda name: self._tasks[name].params)

    def _spread(self, task: str) -> None:
        """Give the tasks that share parameters with one what they are after its step."""
        self._sharing.spread(task, lambda name: self._tasks[name].params)
        for tasks, state in self._tasks[task].opt_state.items():
            adam = _adam_state(state)
            for other in (name for name in tasks if name != task):
                there = self._sharing.paths(task, other)
                mu, nu = ({there[k]: v for k, v in m.items()} for m in (adam.mu, adam.nu))
                new = adam._replace(mu=mu, nu=nu)
                self._tasks[other].opt_state[tasks] = _with_adam(state, new)

    def gradients(
        self, task: str, batch: Batch, lr: float
    ) -> tuple[Metrics, dict[str, np.ndarray]]:
        """Return the figures of a batch and the gradient of every parameter."""
        t, *arguments = self._arguments(task, "gradients", batch, lr)
        grads, metrics = t.program.gradients(t.params, t.fixed, *arguments)
        return metrics, fetch(grads)

    def evaluate(self, task: str, batch: Batch, lr: float) -> Metrics:
        """Return the figures of a batch."""
        t, *arguments = self._arguments(task, "evaluate", batch, lr)
        with self._ranks.explained():
            return t.program.evaluate(t.params, t.fixed, *arguments)[1]

    # -- state: the names are those of the NumPy step ------------------------------------------

    def state(self) -> dict[str, np.ndarray]:
        """Return counts and moments."""
        if self.host is not None:
            return self.host.state()
        out: dict[str, np.ndarray] = {}
        for task, t in self._tasks.items():
            parts = [_adam_state(state) for state in t.opt_state.values()]
            counts = {k: np.array(adam.count, dtype=np.int64) for adam in parts for k in adam.mu}
            if len({int(n) for n in counts.values()}) > 1:
                out |= {f"{task}/count.{k}": n for k, n in counts.items()}
            else:
                out[f"{task}/count"] = next(iter(counts.values()), np.array(0))
            for adam in parts:
                for kind, moments in (("first", adam.mu), ("second", adam.nu)):
                    out |= {f"{task}/{kind}.{k}": v for k, v in fetch(moments).items()}
        return out

    def load_state(self, state: Mapping[str, np.ndarray]) -> None:
        """Restore what :meth:`state` returned."""
        if self.host is not None:
            self.host.load_state(state)
            return
        for task, t in self._tasks.items():
            mine = part_of(state, f"{task}/")
            t.opt_state = {k: _restored(held, mine) for k, held in t.opt_state.items()}
            if isinstance(self._ranks, JaxDistributed):
                t.opt_state = self._ranks.place(t.opt_state)

    def parameters(self, task: str) -> dict[str, Any]:
        """Return the trained arrays of a task."""
        return self._tasks[task].params

    def from_host(self, task: str, arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
        """Return arrays on the devices."""
        if isinstance(self._ranks, JaxDistributed):
            return self._ranks.place(dict(arrays))
        return own(arrays)

    def model(self, task: str) -> Model:
        """Return the neutral model with the parameters of this moment."""
        t = self._tasks[task]
        model = copy.deepcopy(t.neutral)
        assign(model, fetch(t.params))
        return model


def _adam_state(opt_state: Any) -> Any:
    """Return the part of an optax state that holds the moments."""
    return next(s for s in opt_state if isinstance(s, optax.ScaleByAdamState))


def _with_adam(opt_state: Any, new: Any) -> Any:
    """Return an optax state with another part that holds the moments."""
    old = _adam_state(opt_state)
    return tuple(new if s is old else s for s in opt_state)


def _restored(opt_state: Any, stored: Mapping[str, np.ndarray]) -> Any:
    """Return an optax state with the counts and moments of a task; see ``TrainStep.state``."""
    old = _adam_state(opt_state)

    def moments(kind: str) -> Leaves:
        # No moments are stored before the first step.
        zero = {k: np.zeros(v.shape, v.dtype) for k, v in old.mu.items()}
        return own({k: stored.get(f"{kind}.{k}", v) for k, v in zero.items()})

    # Where tasks share parameters, every one has its count; those of one entry have the same.
    known = (stored.get(f"count.{k}") for k in old.mu)
    count = next((n for n in known if n is not None), stored.get("count", np.array(0)))
    new = old._replace(
        count=jnp.array(count, old.count.dtype), mu=moments("first"), nu=moments("second")
    )
    return _with_adam(opt_state, new)
