# SPDX-License-Identifier: LGPL-3.0-or-later
"""Uncertainty of energies and forces: last-layer covariance, committees, conformal calibration.

The last layer of a fitting network is linear: with the features φ_i of the atoms (their last hidden
layer, and a constant per type) the energy is E = w·Φ, Φ = Σ_i φ_i. A quadratic loss of energies and
forces has the curvature H = Σ [ΦΦᵀ/N + JᵀJ/(3N)] in w, summed over the training frames, with
J = ∂Φ/∂r. The covariance Σ = (H + λ)⁻¹ gives the variances α² ΦᵀΣΦ of an energy and α² (JΣJᵀ)_kk of
the component k of the forces. Bigi, Chong, Ceriotti, Grasselli, Mach. Learn.: Sci. Technol. 5,
045018 (2024).

Scales α and intervals come from frames that the fit has not seen, see :mod:`deepmd.dpmodel.calibration`.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from deepmd.base.errors import ModelFileError, NotAvailableError
from deepmd.dpmodel.atom_deviations import KEY, AtomDeviations
from deepmd.dpmodel.calibration import FLOOR, Calibration
from deepmd.dpmodel.fitting.ener import EnergyFitting
from deepmd.dpmodel.fitting.invar import InvarFitting
from deepmd.dpmodel.model.model import Model

#: Key of the section in model files.
SECTION = "uncertainty"
VERSION = 1
#: Regularizations that are tried, in units of the mean of the diagonal of the curvature.
RIDGES = tuple(10.0**k for k in range(-9, 1))
#: Sets of weights whose spread is the uncertainty of forces.
DRAWS = 16


# -- last layer -----------------------------------------------------------------------------------


@dataclasses.dataclass
class LastLayer:
    """Covariance of the weights of a last layer.

    Attributes
    ----------
    factor : (n_features, n_features)
        A with Σ = AᵀA.
    weights : (n_draws, n_features)
        Sets of weights drawn from N(0, Σ).
    """

    factor: np.ndarray
    weights: np.ndarray

    def deviation(self, features: np.ndarray) -> np.ndarray:
        """Uncalibrated standard deviation of energies [eV], (n,), of features (n, n_features)."""
        return np.linalg.norm(features @ self.factor.T, axis=1)

    @classmethod
    def from_curvature(cls, curvature: np.ndarray, ridge: float, seed: int = 0) -> "LastLayer":
        """Invert a curvature (n_features, n_features).

        Parameters
        ----------
        curvature : array
        ridge : float
            In units of the mean of its diagonal.
        seed : int
            Of the drawn weights.
        """
        values, vectors = np.linalg.eigh(curvature)
        values = np.maximum(values, 0.0) + ridge * max(float(np.mean(np.diag(curvature))), FLOOR)
        factor = (vectors / np.sqrt(values)).T
        normal = np.random.default_rng(seed).normal(size=(DRAWS, len(factor)))
        return cls(factor, normal @ factor)


def choose_ridge(curvature: np.ndarray, features: np.ndarray, error: np.ndarray) -> float:
    """Return the regularization under which errors of frames are most likely.

    Parameters
    ----------
    curvature : (n_features, n_features)
    features : (n_frames, n_features)
        Sums over the atoms of a frame.
    error : (n_frames,)
        Of the energies [eV].
    """

    def loss(ridge: float) -> float:
        spread = LastLayer.from_curvature(curvature, ridge).deviation(features)
        spread = np.maximum(spread, FLOOR)
        square = np.square(error / spread)
        return float(np.mean(2.0 * np.log(spread)) + np.log(max(np.mean(square), FLOOR)))

    return min(RIDGES, key=loss)


def energy_fitting(model: Model) -> EnergyFitting:
    """Return the fitting whose last layer gives the energy.

    Raises
    ------
    NotAvailableError
        If there is none: sums of models, spins, other quantities.
    """
    fitting = model.atomic_model.components().get("fitting-net")
    if type(model) is not Model or not isinstance(fitting, EnergyFitting):
        raise NotAvailableError(
            "last-layer uncertainty is built for models of one energy fitting, without spins and "
            "without a sum of models",
            fix="use a committee: name several models",
        )
    return fitting


def layout(model: Model) -> tuple[int, int, int]:
    """Return how many networks and types a model has, and the width of the last hidden layer."""
    networks = energy_fitting(model).nets.networks
    return len(networks), model.get_ntypes(), networks[0].layers[-1].w.shape[0]


def n_features(model: Model) -> int:
    """Return the number of features of a model: per network the last layer, and one per type."""
    networks, ntypes, width = layout(model)
    return width * networks + ntypes


def contributing(model: Model, atype: np.ndarray) -> np.ndarray:
    """Whether an energy is predicted for atoms, (n_atoms,) bool."""
    excluded = [*energy_fitting(model).exclude_types, *model.atomic_model.atom_exclude_types]
    return ~np.isin(atype, excluded)


def summed_features(
    model: Model, hidden: np.ndarray, atype: np.ndarray, frame: np.ndarray, n_frames: int
) -> np.ndarray:
    """Return the sums of features over the atoms of frames, (n_frames, n_features).

    Those of :func:`spread_features`, without the zeros of every atom.
    """
    networks, ntypes, width = layout(model)
    out = np.zeros((n_frames, networks * width + ntypes))
    keep = contributing(model, atype)
    for t in range(ntypes):
        rows = np.flatnonzero(keep & (atype == t))
        first = width * t if networks > 1 else 0
        # Atoms of a frame follow each other.
        frames, starts = np.unique(frame[rows], return_index=True)
        if len(rows):
            out[frames, first : first + width] += np.add.reduceat(hidden[rows], starts, axis=0)
        out[:, networks * width + t] = np.bincount(frame[rows], minlength=n_frames)
    return out


def spread_features(model: Model, hidden: np.ndarray, atype: np.ndarray) -> np.ndarray:
    """Return the features of atoms, (n_atoms, n_features), zero where no energy is predicted.

    Parameters
    ----------
    model : Model
    hidden : (n_atoms, width)
        Output of the last hidden layer.
    atype : (n_atoms,)
    """
    fitting, width = energy_fitting(model), hidden.shape[1]
    blocks = len(fitting.nets.networks)
    out = np.zeros((len(atype), blocks * width + model.get_ntypes()))
    own = np.zeros_like(atype) if blocks == 1 else atype
    columns = own[:, None] * width + np.arange(width)
    np.put_along_axis(out, columns, hidden, axis=1)
    out[np.arange(len(atype)), blocks * width + atype] = 1.0
    out[~contributing(model, atype)] = 0.0
    return out


def ensemble_model(model: Model, weights: np.ndarray) -> Model:
    """Return a model of as many outputs as there are sets of weights for the last layer.

    The constants of the types are left out: forces and virials do not depend on them.

    Parameters
    ----------
    model : Model
    weights : (n_draws, n_features)
    """
    fitting = energy_fitting(model)
    width = fitting.nets.networks[0].layers[-1].w.shape[0]
    blocks = range(len(fitting.nets.networks))
    return _with_last_layer(model, [weights[:, k * width : (k + 1) * width].T for k in blocks])


def feature_model(model: Model) -> Model:
    """Return a model whose output is the last hidden layer of another one, (n_atoms, width)."""
    fitting = energy_fitting(model)
    width = fitting.nets.networks[0].layers[-1].w.shape[0]
    return _with_last_layer(model, [np.eye(width)] * len(fitting.nets.networks))


def _with_last_layer(model: Model, matrices: Sequence[np.ndarray]) -> Model:
    """Return a model with other last layers, (width, n_outputs) each, and without biases."""
    tree = model.serialize()
    tree.pop("modifier", None)
    copy = Model.deserialize(tree)
    old = energy_fitting(copy)
    n = matrices[0].shape[1]
    section = {
        name: getattr(old, name)
        for name in (
            *("neuron", "activation_function", "resnet_dt", "precision", "mixed_types"),
            *("numb_fparam", "numb_aparam", "default_fparam", "dim_case_embd"),
            *("exclude_types", "type_map", "use_aparam_as_mask"),
        )
    }
    new = InvarFitting(old.ntypes, old.dim_descrpt, var_name="energy", dim_out=n, **section)
    for name in ("case_embd", "fparam_avg", "fparam_inv_std", "aparam_avg", "aparam_inv_std"):
        setattr(new, name, getattr(old, name))
    for source, target, matrix in zip(old.nets.networks, new.nets.networks, matrices, strict=True):
        target.layers[:-1] = source.layers[:-1]
        last = target.layers[-1]
        last.w = matrix.astype(source.layers[-1].w.dtype)
        if last.b is not None:
            last.b = np.zeros_like(last.b)
    atomic: Any = copy.atomic_model
    atomic.fitting = new
    atomic.out_bias = np.zeros((1, atomic.ntypes, n))
    atomic.out_std = np.ones((1, atomic.ntypes, n))
    return copy


# -- the section in a file ------------------------------------------------------------------------


@dataclasses.dataclass
class Uncertainty:
    """Section ``uncertainty`` of a model file.

    Attributes
    ----------
    energy, force : Calibration
        Of the energy of a frame [eV] and of components of forces [eV/Å].
    last_layer : LastLayer or None
        None: the committee of this model and ``others``.
    others : tuple of str
        Checksums of the other models of a committee, see :func:`model_digest`.
    about : dict
        Plain values for the reader: ridge, numbers of frames.
    atoms : AtomDeviations or None
        Deviations that cost one product, of a last layer; files of earlier releases have none.
    """

    energy: Calibration
    force: Calibration
    last_layer: LastLayer | None = None
    others: tuple[str, ...] = ()
    about: dict[str, Any] = dataclasses.field(default_factory=dict)
    atoms: AtomDeviations | None = None

    def serialize(self) -> dict[str, Any]:
        """Return the section."""
        last = self.last_layer
        atoms = {} if self.atoms is None else {KEY: self.atoms.serialize()}
        return {
            "@class": "Uncertainty",
            "@version": VERSION,
            "kind": "committee" if last is None else "last_layer",
            "others": list(self.others),
            "about": dict(self.about),
            "energy": self.energy.to_dict(),
            "force": self.force.to_dict(),
            **atoms,
            "@variables": {}
            if last is None
            else {"factor": np.asarray(last.factor), "weights": np.asarray(last.weights)},
        }

    @classmethod
    def deserialize(cls, data: Mapping[str, Any], model: Model) -> "Uncertainty":
        """Read the section of a file.

        Raises
        ------
        ModelFileError
            If it is damaged, of a later version, or belongs to another model.
        """
        if data.get("@version") != VERSION:
            raise ModelFileError(
                f"{SECTION} has version {data.get('@version')!r}; {VERSION} is read here",
                fix="fit it again with dp uncertainty",
            )
        parts = [data.get("energy"), data.get("force"), data.get("@variables"), data.get("about")]
        if not all(isinstance(part, Mapping) for part in parts):
            raise ModelFileError(f"{SECTION}: a part is missing")
        last = atoms = None
        if data.get("kind") == "last_layer":
            last = _read_last_layer(data["@variables"], n_features(model))
            if isinstance(data.get(KEY), Mapping):
                atoms = AtomDeviations.deserialize(data[KEY], *layout(model))
        elif data.get("kind") != "committee":
            raise ModelFileError(f"{SECTION}: its kind is not known")
        others = tuple(str(one) for one in data.get("others") or ())
        energy, force = map(Calibration.from_dict, (data["energy"], data["force"]))
        return cls(energy, force, last, others, dict(data["about"]), atoms)


def _read_last_layer(arrays: Mapping[str, Any], n: int) -> LastLayer:
    factor, weights = (np.asarray(arrays.get(k)) for k in ("factor", "weights"))
    good = (
        factor.shape == (n, n)
        and weights.ndim == 2
        and weights.shape[1] == n
        and 0 < len(weights) <= 1024
    )
    if not good or not all(a.dtype.kind == "f" and np.isfinite(a).all() for a in (factor, weights)):
        raise ModelFileError(
            f"{SECTION}: arrays are missing or do not fit the model",
            fix="fit it again with dp uncertainty",
        )
    return LastLayer(factor.astype(np.float64), weights.astype(np.float64))


def spread(values: Sequence[np.ndarray]) -> np.ndarray:
    """Standard deviation over the members of a committee, with the mean estimated from them."""
    return np.std(np.stack(values), axis=0, ddof=1)
