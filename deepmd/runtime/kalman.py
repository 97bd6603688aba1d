# SPDX-License-Identifier: LGPL-3.0-or-later
"""Training steps of the extended Kalman filter; see :mod:`deepmd.dpmodel.kalman`."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, TypeVar

import numpy as np

from deepmd.base.errors import InputError, NotAvailableError
from deepmd.dpmodel import ops
from deepmd.dpmodel.batch import Batch
from deepmd.dpmodel.kalman import GROUP, LKF, KalmanFilter, blocks_of, groups_of_atoms, kalman_of
from deepmd.dpmodel.loss import Labels, Loss
from deepmd.dpmodel.optimizer import part_of
from deepmd.runtime.step import StepOptions


class Measurement(NamedTuple):
    """Numbers of a batch that are taken in as one.

    Attributes
    ----------
    name : str
        ``energy`` or ``force``.
    rows : (n_frames, k) int64
        Rows of the predictions that are compared.
    weight : float
    natoms : float
        Atoms of a frame.
    size : int
        Numbers that are predicted for a frame.
    """

    name: str
    rows: Any
    weight: float
    natoms: float
    size: int


def compared(
    pred: Mapping[str, Any], labels: Labels, name: str, rows: Any, weight: Any
) -> tuple[Any, Any]:
    """Return the number whose gradient is that of a measurement, and the sum of absolute errors.

    The first is the sum of the predictions, each with the sign by which it must change.
    """
    found, wanted = ops.take(pred[name], rows), ops.take(labels.values[name], rows)
    space = ops.xp(found)
    differences = weight * (wanted - found)
    sign = 2.0 * ops.cast(ops.stop_gradient(differences) >= 0.0, "float64") - 1.0
    return weight * space.sum(sign * found), space.sum(sign * differences)


class KalmanSteps:
    """Filter of the parameters of a model; in NumPy, unless gradients are arrays of a framework.

    Parameters
    ----------
    chosen : LKF
    task : str
    params : dict of str to array
        In the order of the blocks; only their names and shapes are kept.
    total : int
        Steps of the training.
    """

    def __init__(self, chosen: LKF, task: str, params: Mapping[str, Any], total: int) -> None:
        self.chosen, self.task, self.total, self.count = chosen, task, total, 0
        self.shapes = {name: tuple(p.shape) for name, p in params.items()}
        sizes = [int(np.prod(shape)) for shape in self.shapes.values()]
        self.filter = KalmanFilter(blocks_of(sizes, chosen.kf_blocksize))

    def step(
        self,
        batch: Batch,
        measure: Callable[[Measurement], tuple[Mapping[str, Any], Any]],
        move: Callable[[Mapping[str, Any]], None],
    ) -> None:
        """Take in the energies of a batch, then the forces of some of its atoms, group by group.

        Parameters
        ----------
        batch : Batch
        measure : callable
            Returns the gradients and the error of :func:`compared` with the parameters of this moment.
        move : callable
            Adds arrays to the parameters, by name.
        """
        for given in self._measurements(batch):
            grads, error = measure(given)
            move(self._changes(grads, error, given))
        self.count += 1

    def _measurements(self, batch: Batch) -> Iterator[Measurement]:
        weights = self.chosen.weights(self.count / max(self.total, 1))
        mean = float(batch.natoms.mean())
        if batch.find.get("energy"):
            rows = np.arange(batch.n_frames, dtype=np.int64)[:, None]
            yield Measurement("energy", rows, weights[0], mean, 1)
        if batch.find.get("force"):
            first = np.cumsum(batch.natoms) - batch.natoms
            for chosen in groups_of_atoms(int(batch.natoms.min()), self.count):
                rows = (first[:, None] + chosen).astype(np.int64)
                yield Measurement("force", rows, weights[1], mean, 3 * GROUP)

    def _changes(self, grads: Mapping[str, Any], error: Any, given: Measurement) -> dict[str, Any]:
        parts = [ops.cast(columns(grads[name]), "float64") for name in self.shapes]
        gradient = ops.xp(parts[0]).concat(parts, axis=0) / (given.natoms * given.size)
        numbers = given.rows.size * (1 if given.name == "energy" else 3)
        error = error / numbers / given.natoms * len(given.rows) ** 0.5
        change, out, begin = self.filter.update(gradient, error), {}, 0
        for name, shape in self.shapes.items():
            end = begin + int(np.prod(shape))
            out[name] = columns(change[begin:end].reshape(shape[::-1]), shape)
            begin = end
        return out

    def state(self) -> dict[str, np.ndarray]:
        """Return the state as arrays by name."""
        out = {"count": np.array(self.count), "forgetting": np.array(self.filter.forgetting)}
        covariance = enumerate(self.filter.covariance)
        out |= {f"covariance.{k}": self.to_host(p) for k, p in covariance}
        return {f"{self.task}/{name}": value for name, value in out.items()}

    def load_state(self, state: Mapping[str, np.ndarray]) -> None:
        """Restore what :meth:`state` returned."""
        state = part_of(state, f"{self.task}/")
        self.count, self.filter.forgetting = int(state["count"]), float(state["forgetting"])
        names = (f"covariance.{k}" for k in range(len(self.filter.blocks)))
        self.filter.covariance = [self.from_host(state[n]) for n in names if n in state]

    def to_host(self, x: Any) -> np.ndarray:
        """Return a copy as a NumPy array."""
        return np.array(x)

    def from_host(self, x: np.ndarray) -> Any:
        """Return a copy in the arrays of the gradients."""
        return np.array(x, dtype=np.float64)


Steps = TypeVar("Steps", bound=KalmanSteps)


def columns(x: Any, shape: tuple[int, ...] | None = None) -> Any:
    """Elements of an array, column by column as they come in DeePMD-kit's blocks; or back to ``shape``."""
    turned = ops.xp(x).permute_dims(x, tuple(range(x.ndim))[::-1])
    return turned.reshape((-1,) if shape is None else shape)


def kalman_steps(
    section: Mapping[str, Any],
    params: Mapping[str, Mapping[str, Any]],
    losses: Mapping[str, Loss],
    options: StepOptions,
    kind: type[Steps],
) -> Steps | None:
    """Return the filter of a checked ``optimizer`` section, or None for one of another kind.

    Parameters
    ----------
    section : dict
    params, losses : dict
        By task.
    options : StepOptions
    kind : type
        :class:`KalmanSteps` of a backend.

    Raises
    ------
    InputError, NotAvailableError
        If the training is not that of one model on energies and forces in one process.
    """
    chosen, where = kalman_of(section), "optimizer/type"
    if chosen is None:
        return None
    for name, value in (
        ("several tasks", len(params) > 1),
        ("several processes", options.ranks.size > 1),
        ("training/acc_freq", options.accumulate > 1),
        ("training/gradient_max_norm", options.gradient_max_norm is not None),
        ("training/enable_compile", options.compile),
        ("training/mixed_precision", options.compute),
        ("training/zero_stage", options.zero_stage),
    ):
        if value:
            raise NotAvailableError(
                f"LKF is not built with {name}", where=where, fix="use Adam or AdamW"
            )
    ((task, own),) = params.items()
    if losses[task].serial.name != "EnergyLoss":
        raise InputError(
            "LKF trains on energies and forces", where=where, fix="use the loss ener, or Adam"
        )
    if not own:
        raise InputError("no parameter of the model is trained", where=where)
    return kind(chosen, task, own, options.numb_steps)
