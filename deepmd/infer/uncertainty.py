# SPDX-License-Identifier: LGPL-3.0-or-later
"""Uncertainty of predictions: fitted to data, and evaluated for frames.

:mod:`deepmd.dpmodel.uncertainty` has the mathematics.
"""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from deepmd.base.errors import DataError, InputError, NotAvailableError
from deepmd.dpmodel.batch import Batch
from deepmd.dpmodel.model import Model
from deepmd.dpmodel.uncertainty import (
    Calibration,
    LastLayer,
    Uncertainty,
    calibrate,
    choose_ridge,
    energy_fitting,
    ensemble_model,
    feature_model,
    n_features,
    spread,
    spread_features,
)
from deepmd.infer.deep_pot import DeepPot
from deepmd.infer.frames import make_frames
from deepmd.io.digest import digest_of
from deepmd.io.packed import named_arrays

#: Random directions in which the features of a frame are differentiated, and the step [Å].
_DIRECTIONS, _STEP = 4, 1e-3
#: Every so manieth validation frame chooses the regularization; the others calibrate.
_OF_RIDGE = 3
#: Frames without which there is no calibration.
FEWEST = 4

_ADVICE = "fit it with dp uncertainty"


def model_digest(model: Model) -> str:
    """Return the checksum of a model, by which members of a committee are known."""
    text, arrays = named_arrays({"model": model.serialize()})
    return digest_of(text, arrays.values())


def features(potential: DeepPot, batch: Batch) -> np.ndarray:
    """Return the last-layer features of all atoms, (n_atoms, n_features)."""
    evaluator, name = potential.evaluator, "fitting_last_layer"
    if evaluator.finds_edges:  # the native engine, which gives outputs and nothing else
        if evaluator.feature_model is None:
            evaluator.feature_model = feature_model(potential.model)
        beside = DeepPot.from_evaluator(evaluator.beside(evaluator.feature_model))
        hidden = beside.evaluate_batch(batch, derivatives=())["atom_energy"]
    else:
        hidden = potential.evaluate_batch(batch, derivatives=(), extra=(name,))[name]
    return spread_features(potential.model, hidden, batch.atype)


def frame_sums(values: np.ndarray, batch: Batch) -> np.ndarray:
    """Sum values of atoms over the frames of a batch, (n_frames, …)."""
    out = np.zeros((batch.n_frames, *values.shape[1:]))
    np.add.at(out, batch.frame, values)
    return out


class Estimator:
    """Predictions with standard deviations, of a model with a last layer or of a committee.

    Parameters
    ----------
    potential : DeepPot
        Its file says how deviations are calibrated.
    others : sequence of DeepPot
        The rest of a committee. Predictions are then means over all of them.
    uncertainty : Uncertainty, optional
        In place of that of the file.

    Raises
    ------
    InputError
        If the file has no uncertainty, or one of another committee.
    """

    def __init__(
        self,
        potential: DeepPot,
        others: Sequence[DeepPot] = (),
        *,
        uncertainty: Uncertainty | None = None,
    ) -> None:
        self.potential, self.others = potential, list(others)
        found = potential.evaluator.uncertainty if uncertainty is None else uncertainty
        if found is None:
            raise InputError("holds no uncertainty", where=_name(potential), fix=_ADVICE)
        if len(self.others) != len(found.others):
            needed = len(found.others) + 1
            raise InputError(
                f"its uncertainty is that of {needed} model{'s' * (needed > 1)}, "
                f"{len(self.others) + 1} were given",
                where=_name(potential),
                fix=_ADVICE,
            )
        if uncertainty is None and others:
            digests = {model_digest(one.model) for one in others}
            if digests != set(found.others):
                raise InputError(
                    "its uncertainty is that of a committee of other models",
                    where=_name(potential),
                    fix=_ADVICE,
                )
        self.uncertainty = found
        self._ensemble: Model | None = None

    def evaluate(
        self, coords: Any, cells: Any, atom_types: Any, **parameters: Any
    ) -> dict[str, np.ndarray]:
        """Evaluate frames; arguments as of :meth:`DeepPot.eval`, results as of :meth:`evaluate_batch`.

        Quantities of atoms are (n_frames, n_atoms, …), zero for virtual atoms.
        """
        frames = make_frames(self.potential.model, coords, cells, atom_types, **parameters)
        out = {}
        for name, value in self.evaluate_batch(frames.batch(slice(None))).items():
            out[name] = value
            if self.potential.is_per_atom(name.removesuffix("_std")):
                out[name] = np.zeros((*frames.real.shape, *value.shape[1:]))
                out[name][frames.real] = value
        return out

    def evaluate_batch(
        self, batch: Batch, *, derivatives: Sequence[str] = ("force", "virial")
    ) -> dict[str, np.ndarray]:
        """Evaluate a batch; results of :meth:`DeepPot.evaluate_batch` with standard deviations.

        Returns
        -------
        dict
            Beside the predictions ``energy_std`` (n_frames, 1), ``atom_energy_std`` (n_atoms, 1)
            [eV], and of the wanted derivatives ``force_std`` (n_atoms, 3) [eV/Å], ``virial_std``
            (n_frames, 9) [eV].
        """
        out, raw = self.raw(batch, derivatives)
        energy, force = self.uncertainty.energy.scale, self.uncertainty.force.scale
        for name, value in raw.items():
            out[f"{name}_std"] = value * (force if name in ("force", "virial") else energy)
        return out

    def raw(
        self, batch: Batch, derivatives: Sequence[str]
    ) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """Return predictions, and deviations of the same names before calibration."""
        names = ["energy", "atom_energy", *(d for d in derivatives if d in ("force", "virial"))]
        first = self.potential.evaluate_batch(batch, derivatives=derivatives)
        last = self.uncertainty.last_layer
        if last is None:
            all_results = [first] + [
                one.evaluate_batch(batch, derivatives=derivatives) for one in self.others
            ]
            mean = {k: np.mean([r[k] for r in all_results], axis=0) for k in first}
            return mean, {k: spread([r[k] for r in all_results]) for k in names}
        phi = features(self.potential, batch)
        out = {
            "energy": last.deviation(frame_sums(phi, batch))[:, None],
            "atom_energy": last.deviation(phi)[:, None],
        }
        if len(names) > 2:
            out |= self._of_derivatives(batch, last, names[2:])
        return first, out

    def _of_derivatives(
        self, batch: Batch, last: LastLayer, names: Sequence[str]
    ) -> dict[str, np.ndarray]:
        """Root mean squares over the drawn weights, whose mean is zero."""
        if self._ensemble is None:
            self._ensemble = ensemble_model(self.potential.model, last.weights)
        evaluator = self.potential.evaluator.beside(self._ensemble)
        beside = DeepPot.from_evaluator(evaluator)
        found = beside.evaluate_batch(batch, derivatives=names)
        return {k: np.sqrt(np.mean(np.square(found[k]), axis=1)) for k in names}


def _name(potential: DeepPot) -> str:
    source = potential._source
    return source if isinstance(source, str) else "model in memory"


# -- fitting --------------------------------------------------------------------------------------


class Errors(NamedTuple):
    """Differences from labels with the deviations of the predictions, a row per number."""

    error: np.ndarray
    deviation: np.ndarray
    frame: np.ndarray

    @classmethod
    def joined(cls, parts: Sequence["Errors"]) -> "Errors":
        """Put those of several batches together; their frames are numbered on."""
        shift, out = 0, []
        for part in parts:
            out.append(part._replace(frame=part.frame + shift))
            shift += int(part.frame.max(initial=-1)) + 1
        return cls(*map(np.concatenate, zip(*out, strict=True)))


def errors(
    batch: Batch, predicted: dict[str, np.ndarray], deviation: dict[str, np.ndarray]
) -> tuple[Errors, Errors]:
    """Return errors of energies and of components of forces, of a batch with both labels."""
    frame = np.arange(batch.n_frames)
    energy = predicted["energy"][:, 0] - batch.labels["energy"].reshape(-1)
    force = (predicted["force"] - batch.labels["force"].reshape(-1, 3)).reshape(-1)
    return (
        Errors(energy, deviation["energy"][:, 0], frame),
        Errors(force, deviation["force"].reshape(-1), np.repeat(batch.frame, 3)),
    )


def curvature(
    potential: DeepPot, batches: Iterable[Batch], seed: int = 0
) -> tuple[np.ndarray, int]:
    """Return the curvature of the loss in the last layer over training frames, and their number.

    JJᵀ is estimated by derivatives of the features along random directions, whose components are
    ±1: the mean of their squares is the trace over all coordinates.
    """
    rng = np.random.default_rng(seed)
    size = n_features(potential.model)
    total, count = np.zeros((size, size)), 0
    for batch in batches:
        natoms = batch.natoms[:, None]
        phi = frame_sums(features(potential, batch), batch) / np.sqrt(natoms)
        total += phi.T @ phi
        for _ in range(_DIRECTIONS):
            move = _STEP * rng.choice([-1.0, 1.0], size=batch.coord.shape)
            ends = [
                frame_sums(features(potential, _moved(batch, sign * move)), batch)
                for sign in (1.0, -1.0)
            ]
            slope = (ends[0] - ends[1]) / (2.0 * _STEP) / np.sqrt(3.0 * natoms * _DIRECTIONS)
            total += slope.T @ slope
        count += batch.n_frames
    return total, count


def _moved(batch: Batch, move: np.ndarray) -> Batch:
    return dataclasses.replace(batch, coord=batch.coord + move, edges=None)


def fit_last_layer(
    potential: DeepPot, training: Iterable[Batch], validation: Sequence[Batch], seed: int = 0
) -> Uncertainty:
    """Fit the covariance of the last layer to training frames, and calibrate it.

    Parameters
    ----------
    potential : DeepPot
    training : iterable of Batch
        Labels are not needed.
    validation : sequence of Batch
        With energies and forces, of frames that the training has not seen. A third of them chooses
        the regularization, the others calibrate.
    seed : int
        Of random directions and weights.

    Raises
    ------
    DataError
        If there are too few frames.
    NotAvailableError
        If the model has no last layer.
    """
    energy_fitting(potential.model)
    check_spins(potential)
    _check_number(validation)
    matrix, count = curvature(potential, training, seed)
    if not count:
        raise DataError("no training frame", where="--train")
    phi, error = [], []
    for batch in validation:
        phi.append(frame_sums(features(potential, batch), batch))
        predicted = potential.evaluate_batch(batch, derivatives=())
        error.append(predicted["energy"][:, 0] - batch.labels["energy"].reshape(-1))
    total = len(np.concatenate(error))
    chosen = np.arange(total) % _OF_RIDGE == 0
    ridge = choose_ridge(matrix, np.concatenate(phi)[chosen], np.concatenate(error)[chosen])
    last = LastLayer.from_curvature(matrix, ridge, seed)
    about = {"training_frames": count, "ridge": ridge, "features": len(matrix)}
    raw = Uncertainty(_UNIT, _UNIT, last, (), about)
    return _calibrated(Estimator(potential, uncertainty=raw), validation, ~chosen)


def fit_committee(potentials: Sequence[DeepPot], validation: Sequence[Batch]) -> Uncertainty:
    """Calibrate the spread of a committee; the first model's file is to hold the result."""
    for one in potentials:
        check_spins(one)
    _check_number(validation)
    others = tuple(model_digest(one.model) for one in potentials[1:])
    raw = Uncertainty(_UNIT, _UNIT, None, others, {})
    return _calibrated(Estimator(potentials[0], potentials[1:], uncertainty=raw), validation)


_UNIT = Calibration(1.0, (), 0)


def check_spins(potential: DeepPot) -> None:
    """Raise NotAvailableError for a model with spins."""
    if potential.has_spin:
        raise NotAvailableError(
            "uncertainties of models with spins are not built", where=_name(potential)
        )


def _check_number(validation: Sequence[Batch]) -> None:
    count = sum(batch.n_frames for batch in validation)
    if count < FEWEST:
        raise DataError(
            f"{count} validation frame{'s' * (count != 1)} with energy and forces, "
            f"at least {FEWEST} are needed",
            where="--valid",
            fix="a hundred give intervals of 99 %",
        )


def _calibrated(
    estimator: Estimator, validation: Sequence[Batch], keep: np.ndarray | None = None
) -> Uncertainty:
    """Return the uncertainty with scales and intervals; ``keep`` (n_frames,) are the frames used."""
    pairs = [
        errors(batch, *estimator.raw(batch, ("force",))) for batch in validation if batch.n_frames
    ]
    parts = [Errors.joined(side) for side in zip(*pairs, strict=True)]
    if keep is not None:
        parts = [Errors(*(value[keep[of.frame]] for value in of)) for of in parts]
    energy, force = (calibrate(*of) for of in parts)
    return dataclasses.replace(estimator.uncertainty, energy=energy, force=force)


# -- choice of frames -----------------------------------------------------------------------------


def frame_places(estimator: Estimator, batch: Batch) -> np.ndarray:
    """Return frames as points (n_frames, n_features) [eV]: distances are deviations per atom.

    The distance of two points is the standard deviation of the difference of their energies per
    atom.
    """
    last = estimator.uncertainty.last_layer
    if last is None:
        raise InputError(
            "frames are told apart by the last layer, the file holds the calibration of a committee",
            where=_name(estimator.potential),
            fix="fit it with dp uncertainty and one model",
        )
    mean = frame_sums(features(estimator.potential, batch), batch) / batch.natoms[:, None]
    return estimator.uncertainty.energy.scale * mean @ last.factor.T


def farthest(points: np.ndarray, count: int, known: np.ndarray, start: int = 0) -> list[int]:
    """Choose points one after another, each the farthest from those chosen and known before.

    Parameters
    ----------
    points : (n, d)
    count : int
    known : (m, d)
        Those that are there already.
    start : int
        The first one if nothing is known.

    Returns
    -------
    list of int
        At most ``count``; fewer when the rest coincides with what is chosen.
    """
    far = np.full(len(points), np.inf)
    for one in known:
        far = np.minimum(far, np.linalg.norm(points - one, axis=1))
    chosen: list[int] = []
    while len(chosen) < min(count, len(points)):
        k = int(np.argmax(far)) if np.isfinite(far).all() else start
        if far[k] <= 0.0:
            break
        chosen.append(k)
        far = np.minimum(far, np.linalg.norm(points - points[k], axis=1))
    return chosen


def as_models(estimator: Estimator, batch: Batch) -> dict[str, np.ndarray]:
    """Return predictions of two pretended models, stacked, whose mean and spread are the estimate's.

    ``x + σ`` and ``x - σ`` have the mean x and the standard deviation σ, so that all that is known
    of deviations of models applies.
    """
    out = estimator.evaluate_batch(batch)
    return {
        k: np.stack([out[k] + out[f"{k}_std"], out[k] - out[f"{k}_std"]])
        for k in ("energy", "force", "virial")
    }


def labels_found(batch: Batch) -> bool:
    """Whether a batch has energies and forces."""
    return all(bool(batch.find.get(name)) for name in ("energy", "force"))


def coverage(of: Errors, calibration: Calibration, level: float) -> float:
    """Share of errors inside of the interval of a level, every frame with the same weight.

    NaN where the calibration does not have the level.
    """
    factor = calibration.factor(level)
    if not np.isfinite(factor):
        return float("nan")
    inside = np.abs(of.error) <= factor * of.deviation
    count = np.bincount(of.frame)
    shares = np.bincount(of.frame, inside.astype(np.float64))[count > 0] / count[count > 0]
    return float(np.mean(shares))


def summary(of: Errors, calibration: Calibration) -> dict[str, Any]:
    """Mean deviation, root mean square of error / deviation, and coverages of a data set."""
    ratio = of.error / np.maximum(of.deviation, 1e-300)
    return {
        "std": float(np.mean(of.deviation)),
        "rms_ratio": float(np.sqrt(np.mean(np.square(ratio)))),
        "coverage": {f"{c:g}": coverage(of, calibration, c) for c, _ in calibration.intervals},
        "frames": len(np.unique(of.frame)),
    }
