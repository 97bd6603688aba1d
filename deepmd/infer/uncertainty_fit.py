# SPDX-License-Identifier: LGPL-3.0-or-later
"""Fits of uncertainties to data: curvature of a last layer, committees, calibration."""

import dataclasses
from collections.abc import Iterable, Sequence

import numpy as np

from deepmd.base.errors import DataError, NotAvailableError
from deepmd.dpmodel.atom_deviations import AtomDeviations
from deepmd.dpmodel.batch import Batch
from deepmd.dpmodel.calibration import Calibration, calibrate
from deepmd.dpmodel.output_def import LAST_LAYER
from deepmd.dpmodel.uncertainty import (
    LastLayer,
    Uncertainty,
    choose_ridge,
    contributing,
    energy_fitting,
    layout,
    n_features,
    spread_features,
)
from deepmd.infer.deep_pot import DeepPot
from deepmd.infer.uncertainty import (
    Errors,
    Estimator,
    errors,
    features,
    frame_sums,
    hidden_layer,
    model_digest,
    name_of,
    with_hidden_layer,
)

#: Random directions in which the features of a frame are differentiated, and the step [Å].
_DIRECTIONS, _STEP = 4, 1e-3
#: Every so manieth validation frame chooses the regularization; the others calibrate.
_OF_RIDGE = 3
#: Frames without which there is no calibration.
FEWEST = 4


def curvature(
    potential: DeepPot, batches: Iterable[Batch], seed: int = 0
) -> tuple[np.ndarray, int, np.ndarray]:
    """Return the curvature of the loss in the last layer over training frames, and about these.

    The others are the number of frames, and the mean of the last hidden layer by type, (ntypes,
    width).

    JJᵀ is estimated by derivatives of the features along random directions, whose components are
    ±1: the mean of their squares is the trace over all coordinates.
    """
    rng = np.random.default_rng(seed)
    size = n_features(potential.model)
    _, ntypes, width = layout(potential.model)
    total, count = np.zeros((size, size)), 0
    sums, atoms = np.zeros((ntypes, width)), np.zeros(ntypes)
    for batch in batches:
        natoms = batch.natoms[:, None]
        hidden = hidden_layer(potential, batch)
        np.add.at(sums, batch.atype, hidden)
        atoms += np.bincount(batch.atype, minlength=ntypes)
        phi = frame_sums(spread_features(potential.model, hidden, batch.atype), batch)
        phi /= np.sqrt(natoms)
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
    return total, count, sums / np.maximum(atoms, 1.0)[:, None]


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
    matrix, count, means = curvature(potential, training, seed)
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
    found = _calibrated(Estimator(potential, uncertainty=raw), validation, ~chosen)
    atoms = AtomDeviations.from_factor(last.factor, means, layout(potential.model)[0])
    return dataclasses.replace(found, atoms=_of_atoms(potential, atoms, validation, chosen))


def _of_atoms(
    potential: DeepPot, atoms: AtomDeviations, validation: Sequence[Batch], chosen: np.ndarray
) -> AtomDeviations:
    """Fit floors and slopes to the chosen frames (n_frames,), and calibrate on the others."""
    parts, first = [], 0
    for batch in validation:
        out = with_hidden_layer(potential, batch, ("force",))
        keep = contributing(potential.model, batch.atype)
        distance = atoms.distance(atoms.product(out[LAST_LAYER], batch.atype), batch.atype)
        error = out["force"] - batch.labels["force"].reshape(-1, 3)
        each = (distance, error, batch.atype, batch.frame + first)
        parts.append([value[keep] for value in each])
        first += batch.n_frames
    distance, error, atype, frame = (np.concatenate(part) for part in zip(*parts, strict=True))
    fit, rest = chosen[frame], ~chosen[frame]
    fitted = atoms.fitted(distance[fit], error[fit], atype[fit])
    return fitted.calibrated(distance[rest], error[rest], atype[rest], frame[rest])


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
            "uncertainties of models with spins are not built", where=name_of(potential)
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
