# SPDX-License-Identifier: LGPL-3.0-or-later
"""The training step of the PyTorch backend."""

import contextlib
import functools
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from deepmd.base.errors import NotAvailableError
from deepmd.base.memory import keep_freed_memory
from deepmd.dpmodel.batch import Batch
from deepmd.dpmodel.loss import Labels, Loss, labels_of
from deepmd.dpmodel.model import Inputs, Model, prepare
from deepmd.dpmodel.muon import muon_of
from deepmd.dpmodel.neighbors import Overflow
from deepmd.dpmodel.optimizer import EPSILON, adam_settings
from deepmd.pt.compiled import CompiledLoss
from deepmd.pt.device import default_device, single_thread_after_fork, to_tensor
from deepmd.pt.distributed import TorchDistributed
from deepmd.pt.fully_sharded import FullyShardedModels, FullyShardedOptimizer
from deepmd.pt.kalman import TorchKalmanSteps
from deepmd.pt.lift import convert, to_neutral
from deepmd.pt.loss_scale import LossScale
from deepmd.pt.muon import MuonOptimizer
from deepmd.pt.reduced import check_bfloat16, check_single
from deepmd.pt.sharded import ShardedOptimizer
from deepmd.runtime.kalman import kalman_steps
from deepmd.runtime.step import Metrics, StepOptions, TrainStep

log = logging.getLogger(__name__)
Tensor = torch.Tensor


class TorchTrainStep(TrainStep):
    """Training of lifted models with ``torch.optim``, on the CUDA device if there is one."""

    name = "pytorch"
    distributes = True

    def __init__(
        self,
        models: dict[str, Model],
        losses: dict[str, Loss],
        optimizer: Mapping[str, Any],
        options: StepOptions,
    ) -> None:
        keep_freed_memory()
        single_thread_after_fork()
        self._losses, self._options = dict(losses), options
        if options.compile and options.ranks.size > 1:
            raise NotAvailableError(
                "steps of several processes cannot be compiled",
                where="training/enable_compile",
                fix="set it to false",
            )
        self.device = default_device()
        self._mixed = _mixed_precision(options, self.device)
        self._scale = LossScale() if options.compute == "float16" else None
        memo: dict[int, Any] = {}  # nodes that tasks share stay shared
        self.lifted = {t: convert(m, memo).to(self.device) for t, m in models.items()}
        self._params = {t: dict(m.named_parameters()) for t, m in self.lifted.items()}
        self._shards = _shards(self.lifted, options)
        if self._shards is not None:
            self._params = self._shards.params
        if options.compute:
            every = [p.dtype for part in self._params.values() for p in part.values()]
            check_single(every, "training/mixed_precision")
        self._packings = {t: m.packings() for t, m in models.items()}
        self._expand = {t: m.expand for t, m in models.items()}
        self._names = {t: m.predict_names() for t, m in models.items()}
        self._kalman = kalman_steps(optimizer, self._params, losses, options, TorchKalmanSteps)
        self._optimizer = _optimizer(
            self._params, {} if self._kalman else optimizer, options, self._shards
        )
        self.gathers = isinstance(self._optimizer, ShardedOptimizer)
        self._divides = self.gathers and self._optimizer.divides_gradients
        self._compiled = {t: CompiledLoss(self.lifted[t], losses[t]) for t in models}
        self.overflow = Overflow()
        # Gradients of steps that wait for further ones, and the number of these steps.
        self._waiting: dict[Tensor, Tensor] = {}
        self._waited = 0
        if options.tf32 and self.device.type == "cuda":
            torch.set_float32_matmul_precision("high")
        elif options.tf32:
            log.warning("training/enable_tf32 has no effect: TF32 is of CUDA devices")

    # -- loss and gradients -------------------------------------------------------------------

    def _tensors(self, task: str, batch: Batch) -> tuple[Inputs, Labels]:
        def move(x: np.ndarray) -> Tensor:
            return to_tensor(x, self.device)

        expanded = self._expand[task](batch)
        inputs = prepare(expanded, self._packings[task], self.overflow)
        return inputs.only(self._names[task]).map(move), labels_of(batch).map(move)

    def gradients(self, task: str, batch: Batch, lr: float) -> tuple[Metrics, dict[str, Tensor]]:
        """Return the figures of a batch and the gradient of every parameter.

        Where gradients are divided among the ranks, it is the part of this rank.
        """
        inputs, labels = self._tensors(task, batch)
        params = self._params[task]
        wanted = list(params.values())

        def evaluate() -> tuple[Any, Metrics]:
            if self._options.compile:
                total, figures = self._compiled[task](inputs, labels, lr, params)
                return total, _metrics(total, figures)
            # Operations with derivatives of their own, of order 2, do without mixed precision.
            order = 3 if self._options.compute else 2
            loss = self._losses[task]
            with self._mixed():
                model = self.lifted[task]
                pred = loss.predict(model, inputs, batch.n_frames, labels, order=order)
            total, figures = loss(lr, pred, labels, self._options.ranks.reduce)
            scaled = total if self._scale is None else self._scale.value * total
            return scaled, _metrics(total, figures)

        if self._shards is not None:
            metrics, every = self._shards.gradients(evaluate)
            grads = [every[p] for p in wanted]
        else:
            total, metrics = evaluate()
            found: Sequence[Tensor | None] = [None] * len(wanted)
            if wanted and isinstance(total, Tensor) and total.requires_grad:
                found = torch.autograd.grad(total, wanted, allow_unused=True)
            pairs = zip(wanted, found, strict=True)
            grads = [torch.zeros_like(p) if g is None else g for p, g in pairs]
        if self._scale is not None:
            grads = [g / self._scale.value for g in grads]
        ranks = self._options.ranks
        if isinstance(ranks, TorchDistributed) and not self._divides:
            grads = ranks.add_up(grads)
        return metrics, dict(zip(params, grads, strict=True))

    def step(self, task: str, batch: Batch, lr: float) -> Metrics:
        """Take one optimizer step, or wait for more; nothing waits for the device but float16."""
        if self._kalman is not None:
            return self._kalman_step(self._kalman, task, batch, lr)
        metrics, by_name = self.gradients(task, batch, lr)
        grads = {self._params[task][name]: g for name, g in by_name.items()}
        del by_name
        if self._divides:
            grads = self._optimizer.add_up(grads)
        total = self._options.ranks.total if self._divides else None
        if self._scale is not None and not self._scale.accept(grads.values(), total):
            return metrics  # the batch is left out
        if self._options.accumulate > 1:
            for p, g in grads.items():
                self._waiting[p] = self._waiting[p] + g if p in self._waiting else g
            self._waited += 1
            if self._waited < self._options.accumulate:
                return metrics
            grads, self._waiting, self._waited = self._waiting, {}, 0
        if self._options.gradient_max_norm is not None:
            _clip(list(grads.values()), self._options.gradient_max_norm, total)
        for group in self._optimizer.param_groups:
            group["lr"] = lr
            for p in group["params"]:
                p.grad = None
        for p, g in grads.items():
            # The fused optimizer goes through memory: a view of a larger gradient would be mixed up.
            p.grad = g.contiguous()
        self._optimizer.step()
        return metrics

    def _kalman_step(self, kalman: TorchKalmanSteps, task: str, batch: Batch, lr: float) -> Metrics:
        """Take the steps of the Kalman filter for a batch."""
        inputs, labels = self._tensors(task, batch)
        model, loss = self.lifted[task], self._losses[task]
        metrics: Metrics = {}

        def predict() -> dict[str, Tensor]:
            pred = model.predict(inputs, batch.n_frames, derivatives=("force",), order=2)
            if not metrics:
                with torch.no_grad():
                    whole = loss.predict(model, inputs, batch.n_frames, labels, order=1)
                    metrics.update(_metrics(*loss(lr, whole, labels)))
            return pred

        kalman.take_in(predict, labels, batch)
        return metrics

    def evaluate(self, task: str, batch: Batch, lr: float) -> Metrics:
        inputs, labels = self._tensors(task, batch)
        loss = self._losses[task]
        with torch.no_grad(), self._whole():
            model = self.lifted[task]
            pred = loss.predict(model, inputs, batch.n_frames, labels, order=1)
            return _metrics(*loss(lr, pred, labels, self._options.ranks.reduce))

    # -- state --------------------------------------------------------------------------------

    def state(self) -> dict[str, np.ndarray]:
        if self._kalman is not None:
            return self._kalman.state()
        out: dict[str, np.ndarray] = {}
        whole = self._optimizer.states() if self.gathers else self._optimizer.state
        waiting = self._waiting
        if self._divides and self._waited:
            waiting = self._optimizer.gathered(waiting)
        for task, params in self._params.items():
            counts = []
            for name, p in params.items():
                held = whole.get(p)
                if not held:
                    continue
                counts.append(int(held["step"]))
                out[f"{task}/count.{name}"] = np.array(counts[-1])
                out[f"{task}/first.{name}"] = held["exp_avg"].cpu().numpy().copy()
                if "exp_avg_sq" in held:
                    out[f"{task}/second.{name}"] = held["exp_avg_sq"].cpu().numpy().copy()
            if len(set(counts)) <= 1:  # always, unless tasks share parameters
                out = {k: v for k, v in out.items() if not k.startswith(f"{task}/count.")}
                out[f"{task}/count"] = np.array(counts[0] if counts else 0)
            if self._scale is not None:
                out |= {f"{task}/{name}": value for name, value in self._scale.state().items()}
            if self._waited:
                out[f"{task}/waited"] = np.array(self._waited)
                for name, p in params.items():
                    if p in waiting:
                        out[f"{task}/waiting.{name}"] = waiting[p].cpu().numpy().copy()
        return out

    def load_state(self, state: Mapping[str, np.ndarray]) -> None:
        if self._kalman is not None:
            self._kalman.load_state(state)
            return
        self._waiting, self._waited = {}, 0
        for task, params in self._params.items():
            self._waited = int(state.get(f"{task}/waited", 0))
            if self._scale is not None:
                self._scale.load_state(state, f"{task}/")
            for name, p in params.items():
                mine = not self._divides or self._optimizer.owns(p)
                if mine and f"{task}/waiting.{name}" in state:
                    self._waiting[p] = self._part(p, state[f"{task}/waiting.{name}"])
                if self.gathers and not self._optimizer.owns(p):
                    continue
                if f"{task}/first.{name}" not in state:
                    self._optimizer.state.pop(p, None)
                    continue
                own = f"{task}/count.{name}"  # where tasks share parameters
                count = state[own if own in state else f"{task}/count"]
                self._optimizer.state[p] = {
                    "step": torch.tensor(float(count), dtype=torch.float32, device=p.device),
                    "exp_avg": self._part(p, state[f"{task}/first.{name}"]),
                }
                if f"{task}/second.{name}" in state:
                    second = self._part(p, state[f"{task}/second.{name}"])
                    self._optimizer.state[p]["exp_avg_sq"] = second

    def _part(self, p: Tensor, array: np.ndarray) -> Tensor:
        """Return an array like a parameter, or what this rank keeps of it."""
        whole = torch.tensor(array).to(p)
        return self._optimizer.part(p, whole) if self.gathers else whole

    def model(self, task: str) -> Model:
        with self._whole():
            return to_neutral(self.lifted[task])

    def _whole(self) -> contextlib.AbstractContextManager[None]:
        """Context in which the parameters of the models are whole."""
        return contextlib.nullcontext() if self._shards is None else self._shards.whole()

    def parameters(self, task: str) -> dict[str, Any]:
        return {k: p.detach() for k, p in self._params[task].items()}

    def to_host(self, task: str, arrays: Mapping[str, Any]) -> dict[str, np.ndarray]:
        return {k: v.cpu().numpy().copy() for k, v in arrays.items()}

    def from_host(self, task: str, arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
        return {k: to_tensor(v, self.device).clone() for k, v in arrays.items()}


def _mixed_precision(options: StepOptions, device: torch.device) -> Callable[[], Any]:
    """Return a context in which products of single precision have fewer bits, or one without effect.

    Positions, sums over neighbors and atoms, and everything else in double precision stay as they are.
    """
    if not options.compute:
        return contextlib.nullcontext
    where = "training/mixed_precision"
    if options.compile:
        raise NotAvailableError(
            "compiled steps have no mixed precision",
            where=where,
            fix="leave training/enable_compile out",
        )
    if options.compute == "bfloat16":
        check_bfloat16(device, where)
    kind = getattr(torch, options.compute)
    return functools.partial(torch.autocast, device.type, dtype=kind)


def _shards(
    lifted: Mapping[str, torch.nn.Module], options: StepOptions
) -> FullyShardedModels | None:
    """Divide the parameters of models among the ranks, where that is asked for."""
    if options.zero_stage < 3 or not isinstance(options.ranks, TorchDistributed):
        return None
    return FullyShardedModels(lifted, options.ranks)


def _optimizer(
    params: Mapping[str, Mapping[str, Tensor]],
    section: Mapping[str, Any],
    options: StepOptions,
    shards: FullyShardedModels | None = None,
) -> Any:
    """Return the optimizer of all parameters, a shared one once."""
    every = list({id(p): p for part in params.values() for p in part.values()}.values())
    muon = muon_of(section)
    if muon is not None:
        if options.zero_stage:
            raise NotAvailableError(
                f"states of {section['type']} are not divided among processes",
                where="training/zero_stage",
                fix="set it to 0, or use Adam or AdamW",
            )
        return MuonOptimizer(every or [torch.nn.Parameter(torch.zeros(1))], muon)
    settings = adam_settings(section)
    kind = torch.optim.AdamW if settings["decoupled"] else torch.optim.Adam

    def make(some: list[Tensor]) -> Any:
        # A model without a trained parameter can still be evaluated.
        return kind(
            some or [torch.nn.Parameter(torch.zeros(1))],
            lr=1e-3,
            betas=(settings["adam_beta1"], settings["adam_beta2"]),
            eps=EPSILON,
            weight_decay=settings["weight_decay"],
            fused=True,
        )

    if shards is not None and isinstance(options.ranks, TorchDistributed):
        return FullyShardedOptimizer(shards, make, options.ranks)
    if options.zero_stage and isinstance(options.ranks, TorchDistributed):
        divides = options.zero_stage > 1
        return ShardedOptimizer(every, make, options.ranks, divides_gradients=divides)
    return make(every)


def _clip(
    grads: list[Tensor], max_norm: float, total: Callable[[Tensor], Tensor] | None = None
) -> None:
    """Scale gradients in place so that their global norm is at most ``max_norm``.

    ``total`` adds up a tensor over the ranks, where each has a share of the gradients.
    """
    if not grads and total is None:
        return
    norms = [torch.linalg.vector_norm(g.double()) for g in grads]
    norm = (
        torch.linalg.vector_norm(torch.stack(norms))
        if norms
        else torch.zeros((), dtype=torch.float64)
    )
    norm = norm if total is None else total(norm * norm).sqrt()
    factor = torch.clamp(max_norm / (norm + 1e-6), max=1.0)
    for g in grads:
        g.mul_(factor.to(g.dtype))


def _metrics(total: Any, figures: Mapping[str, Any]) -> Metrics:
    every = {"loss": total, **figures}
    return {k: v.detach() if isinstance(v, Tensor) else v for k, v in every.items()}
