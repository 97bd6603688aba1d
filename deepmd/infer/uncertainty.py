# SPDX-License-Identifier: LGPL-3.0-or-later
"""Uncertainty of predictions: fitted to data, and evaluated for frames.

:mod:`deepmd.dpmodel.uncertainty` has the mathematics.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from deepmd.base.errors import InputError
from deepmd.dpmodel.batch import Batch
from deepmd.dpmodel.calibration import Calibration
from deepmd.dpmodel.model import Model
from deepmd.dpmodel.output_def import LAST_LAYER
from deepmd.dpmodel.uncertainty import (
    LastLayer,
    Uncertainty,
    contributing,
    ensemble_model,
    feature_model,
    spread,
    spread_features,
    summed_features,
)
from deepmd.infer.deep_pot import DeepPot
from deepmd.infer.frames import make_frames
from deepmd.io.digest import digest_of
from deepmd.io.packed import named_arrays

_ADVICE = "fit it with dp uncertainty"
#: How deviations of forces are estimated: by weights that are drawn, or from the atom's own.
FORCES = ("draws", "atoms")


def model_digest(model: Model) -> str:
    """Return the checksum of a model, by which members of a committee are known."""
    text, arrays = named_arrays({"model": model.serialize()})
    return digest_of(text, arrays.values())


def hidden_layer(potential: DeepPot, batch: Batch) -> np.ndarray:
    """Return the last hidden layer of all atoms, (n_atoms, width)."""
    evaluator = potential.evaluator
    if evaluator.gives_last_layer:
        return with_hidden_layer(potential, batch, ())[LAST_LAYER]
    if evaluator.feature_model is None:
        evaluator.feature_model = feature_model(potential.model)
    beside = DeepPot.from_evaluator(evaluator.beside(evaluator.feature_model))
    return beside.evaluate_batch(batch, derivatives=())["atom_energy"]


def with_hidden_layer(
    potential: DeepPot, batch: Batch, derivatives: Sequence[str]
) -> dict[str, np.ndarray]:
    """Evaluate a batch; ``fitting_last_layer`` comes with the rest, out of the same evaluation.

    Engines that run a program give outputs only: the layer is then evaluated beside them.
    """
    if potential.evaluator.gives_last_layer:
        return potential.evaluate_batch(batch, derivatives=derivatives, extra=(LAST_LAYER,))
    found = potential.evaluate_batch(batch, derivatives=derivatives)
    return {**found, LAST_LAYER: hidden_layer(potential, batch)}


def features(potential: DeepPot, batch: Batch) -> np.ndarray:
    """Return the last-layer features of all atoms, (n_atoms, n_features)."""
    return spread_features(potential.model, hidden_layer(potential, batch), batch.atype)


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
    forces : str
        How deviations of forces are estimated: ``draws``, by one backward pass for each of the
        weights that are drawn; ``atoms``, from the distance of the atom from the training data, for
        the price of one product, alike in all directions and without virials.

    Raises
    ------
    InputError
        If the file has no uncertainty, or one of another committee, or no deviations of atoms.
    """

    def __init__(
        self,
        potential: DeepPot,
        others: Sequence[DeepPot] = (),
        *,
        uncertainty: Uncertainty | None = None,
        forces: str = "draws",
    ) -> None:
        if forces not in FORCES:
            raise InputError(f"{forces!r}", where="forces", fix=f"give {' or '.join(FORCES)}")
        self.potential, self.others = potential, list(others)
        found = potential.evaluator.uncertainty if uncertainty is None else uncertainty
        if found is None:
            raise InputError("holds no uncertainty", where=name_of(potential), fix=_ADVICE)
        if len(self.others) != len(found.others):
            needed = len(found.others) + 1
            raise InputError(
                f"its uncertainty is that of {needed} model{'s' * (needed > 1)}, "
                f"{len(self.others) + 1} were given",
                where=name_of(potential),
                fix=_ADVICE,
            )
        if uncertainty is None and others:
            digests = {model_digest(one.model) for one in others}
            if digests != set(found.others):
                raise InputError(
                    "its uncertainty is that of a committee of other models",
                    where=name_of(potential),
                    fix=_ADVICE,
                )
        if forces == "atoms" and found.atoms is None:
            raise InputError(
                "its uncertainty has no deviations of atoms (that of a committee, or of an earlier "
                "release)",
                where=name_of(potential),
                fix='fit it again with dp uncertainty and one model, or use forces="draws"',
            )
        self.uncertainty, self.forces = found, forces
        self._ensemble: Model | None = None

    def evaluate(
        self,
        coords: Any,
        cells: Any,
        atom_types: Any,
        *,
        derivatives: Sequence[str] = ("force", "virial"),
        **parameters: Any,
    ) -> dict[str, np.ndarray]:
        """Evaluate frames; arguments as of :meth:`DeepPot.eval`, results as of :meth:`evaluate_batch`.

        Quantities of atoms are (n_frames, n_atoms, …), zero for virtual atoms.
        """
        frames = make_frames(self.potential.model, coords, cells, atom_types, **parameters)
        out = {}
        batch = frames.batch(slice(None))
        for name, value in self.evaluate_batch(batch, derivatives=derivatives).items():
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
        out.pop(LAST_LAYER, None)
        of_atoms = raw.pop("force_on_atoms", None)
        energy, force = self.uncertainty.energy.scale, self.uncertainty.force.scale
        for name, value in raw.items():
            out[f"{name}_std"] = value * (force if name in ("force", "virial") else energy)
        if of_atoms is not None and "force" in derivatives:
            out["force_std"] = np.repeat(of_atoms[:, None], 3, axis=1)
        return out

    def raw(
        self, batch: Batch, derivatives: Sequence[str]
    ) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """Return predictions, and deviations of the same names before calibration.

        The predictions of a model with a last layer have ``fitting_last_layer``, too. Where forces
        are estimated from ``atoms``, there is ``force_on_atoms`` (n_atoms,) in place of deviations
        of forces and virials, calibrated.
        """
        names = ["energy", "atom_energy"]
        if self.forces == "draws":
            names += [d for d in derivatives if d in ("force", "virial")]
        last = self.uncertainty.last_layer
        if last is None:
            members = [self.potential, *self.others]
            all_results = [one.evaluate_batch(batch, derivatives=derivatives) for one in members]
            mean = {k: np.mean([r[k] for r in all_results], axis=0) for k in all_results[0]}
            return mean, {k: spread([r[k] for r in all_results]) for k in names}
        first = with_hidden_layer(self.potential, batch, derivatives)
        out = self._of_energies(first[LAST_LAYER], batch, last)
        if len(names) > 2:
            out |= self._of_derivatives(batch, last, names[2:])
        return first, out

    def _of_energies(
        self, hidden: np.ndarray, batch: Batch, last: LastLayer
    ) -> dict[str, np.ndarray]:
        """Deviations of energies of frames and atoms, before calibration."""
        model, atype = self.potential.model, batch.atype
        total = summed_features(model, hidden, atype, batch.frame, batch.n_frames)
        atoms = self.uncertainty.atoms
        out = {"energy": last.deviation(total)[:, None]}
        if atoms is None:
            single = last.deviation(spread_features(model, hidden, atype))
        else:
            product, there = atoms.product(hidden, atype), contributing(model, atype)
            single = atoms.energy(product, atype) * there
            if self.forces == "atoms":
                out["force_on_atoms"] = atoms.force(product, atype) * there
        return out | {"atom_energy": single[:, None]}

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


def name_of(potential: DeepPot) -> str:
    """Return the path of a model, for messages."""
    source = potential._source
    return source if isinstance(source, str) else "model in memory"


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
            where=name_of(estimator.potential),
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


# -- errors and their coverage ---------------------------------------------------------------------


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
