# SPDX-License-Identifier: LGPL-3.0-or-later
"""The training step on JAX: loss, gradients and optimizer in one compiled program."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from deepmd.dpmodel.batch import Batch
from deepmd.dpmodel.loss import Labels, Loss
from deepmd.dpmodel.model import Inputs, Model
from deepmd.dpmodel.module import assign, bind, split
from deepmd.dpmodel.neighbors import Overflow
from deepmd.dpmodel.training.optimizer import EPSILON, adam_settings
from deepmd.dpmodel.training.step import Metrics, StepOptions, TrainStep
from deepmd.jax.cache import architecture, shared
from deepmd.jax.shapes import Bucketing, pad_labels
from deepmd.utils.fork import refuse_fork
from deepmd.utils.memory import keep_freed_memory

Leaves = dict[str, Any]


def transform(settings: Mapping[str, Any]) -> optax.GradientTransformation:
    """Return the optax form of :class:`deepmd.dpmodel.training.optimizer.Adam`.

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
        self, model: Model, loss: Loss, settings: Mapping[str, Any], max_norm: float | None
    ) -> None:
        self.neutral, self.loss, self.max_norm = model, loss, max_norm
        self.optimizer = transform(settings)
        self.step = jax.jit(self._step, donate_argnums=(0, 1))
        self.gradients = jax.jit(jax.value_and_grad(self._loss, has_aux=True))
        self.evaluate = jax.jit(functools.partial(self._loss, training=False))

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
        value, figures = self.loss(lr, pred, labels)
        return value, {"loss": value, **figures}

    def _step(
        self,
        params: Leaves,
        opt_state: Any,
        fixed: Leaves,
        inputs: Inputs,
        labels: Labels,
        lr: Any,
    ) -> tuple[Leaves, Any, Metrics]:
        gradient = jax.grad(self._loss, has_aux=True)
        grads, metrics = gradient(params, fixed, inputs, labels, lr)
        if self.max_norm is not None:
            factor = jnp.minimum(1.0, self.max_norm / (_global_norm(grads) + 1e-6))
            grads = {k: (factor * g).astype(g.dtype) for k, g in grads.items()}
        updates, opt_state = self.optimizer.update(grads, opt_state, params)
        params = {k: (p - lr * updates[k]).astype(p.dtype) for k, p in params.items()}
        return params, opt_state, metrics


class _Task:
    """What belongs to one model: its arrays on the device, and how it is compiled."""

    def __init__(
        self,
        model: Model,
        loss: Loss,
        settings: Mapping[str, Any],
        max_norm: float | None,
        bucketing: Bucketing,
    ) -> None:
        self.neutral, self.loss, self.bucketing = model, loss, bucketing
        self.program: _Program = shared(
            lambda: _Program(model, loss, settings, max_norm),
            "train",
            architecture(model),
            architecture(loss),
            repr((sorted(settings.items()), max_norm)),
        )
        params, fixed = split(model)
        self.params, self.fixed = own(params), own(fixed)
        self.opt_state = self.program.optimizer.init(self.params)


def _global_norm(grads: Leaves) -> Any:
    """Root of the sum of all squares, in float64."""
    return jnp.sqrt(sum(jnp.sum(jnp.square(g.astype(jnp.float64))) for g in grads.values()))


class JaxTrainStep(TrainStep):
    """Training with one compiled program per task and shape."""

    name = "jax"
    uses_widths = True

    def __init__(
        self,
        models: dict[str, Model],
        losses: dict[str, Loss],
        optimizer: Mapping[str, Any],
        options: StepOptions,
    ) -> None:
        refuse_fork("JAX")
        keep_freed_memory()
        # Else a step on a processor takes its memory while the one before it still holds its own.
        jax.config.update("jax_cpu_enable_async_dispatch", False)
        settings = adam_settings(optimizer)
        widths = options.widths or {}
        self._tasks = {
            task: _Task(
                model,
                losses[task],
                settings,
                options.gradient_max_norm,
                Bucketing(model, widths.get(task), name=task),
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
        return task, inputs, pad_labels(batch, task.loss, sizes), np.float64(lr)

    def step(self, task: str, batch: Batch, lr: float) -> Metrics:
        """Take one step; the call returns while the device still works."""
        t, *arguments = self._arguments(task, "step", batch, lr)
        t.params, t.opt_state, metrics = t.program.step(t.params, t.opt_state, t.fixed, *arguments)
        return metrics

    def gradients(
        self, task: str, batch: Batch, lr: float
    ) -> tuple[Metrics, dict[str, np.ndarray]]:
        """Return the figures of a batch and the gradient of every parameter."""
        t, *arguments = self._arguments(task, "gradients", batch, lr)
        (_, metrics), grads = t.program.gradients(t.params, t.fixed, *arguments)
        return metrics, fetch(grads)

    def evaluate(self, task: str, batch: Batch, lr: float) -> Metrics:
        """Return the figures of a batch."""
        t, *arguments = self._arguments(task, "evaluate", batch, lr)
        return t.program.evaluate(t.params, t.fixed, *arguments)[1]

    # -- state: the names are those of the NumPy step ------------------------------------------

    def state(self) -> dict[str, np.ndarray]:
        """Return counts and moments."""
        out: dict[str, np.ndarray] = {}
        for task, t in self._tasks.items():
            adam = _adam_state(t.opt_state)
            out[f"{task}/count"] = np.array(adam.count, dtype=np.int64)
            for kind, moments in (("first", adam.mu), ("second", adam.nu)):
                out |= {f"{task}/{kind}.{k}": v for k, v in fetch(moments).items()}
        return out

    def load_state(self, state: Mapping[str, np.ndarray]) -> None:
        """Restore what :meth:`state` returned."""
        for task, t in self._tasks.items():
            old = _adam_state(t.opt_state)

            def moments(kind: str, task: str = task, names: Any = old.mu) -> Leaves:
                # No moments are stored before the first step.
                zero = {k: np.zeros(v.shape, v.dtype) for k, v in names.items()}
                return own({k: state.get(f"{task}/{kind}.{k}", v) for k, v in zero.items()})

            new = old._replace(
                count=jnp.array(state[f"{task}/count"], old.count.dtype),
                mu=moments("first"),
                nu=moments("second"),
            )
            t.opt_state = tuple(new if s is old else s for s in t.opt_state)

    def model(self, task: str) -> Model:
        """Return the neutral model with the parameters of this moment."""
        t = self._tasks[task]
        model = Model.deserialize(t.neutral.serialize())
        assign(model, fetch(t.params))
        return model


def _adam_state(opt_state: Any) -> Any:
    """Return the part of an optax state that holds the moments."""
    return next(s for s in opt_state if isinstance(s, optax.ScaleByAdamState))
