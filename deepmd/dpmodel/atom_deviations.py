# SPDX-License-Identifier: LGPL-3.0-or-later
r"""Standard deviations of the energies of atoms and of the forces on them, from one product.

Let A be the factor of the covariance of a last layer, Σ = AᵀA, and A = QR its columns of one network.
With the last hidden layer h of an atom of type t, and y = Rh,

* the variance of its energy is |y + o_t|² + k_t², where o_t = Qᵀa_t and k_t² = |a_t|² - |o_t|² come
  from the column a_t of the constant of its type;
* its distance from the training data is d = |y - c_t|, with c_t = R times the mean of h over the
  training atoms of its type: the deviation of the difference of the two energies, without the
  constants, which no force depends on.

The standard deviation of the components of the force is √(f_t² + s_t² d²). Floor and slope of every
type are those under which the errors of validation frames are most likely, and intervals are
conformal, type by type: their coverage does not depend on how good the estimate is.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from deepmd.base.errors import ModelFileError
from deepmd.dpmodel.calibration import FLOOR, Calibration, calibrate

#: Key in the section of uncertainties.
KEY = "atoms"
#: Slopes that are tried, in units of the floor over the root mean square of the distance.
_SLOPES = (0.0, *(10.0**k for k in np.arange(-1.5, 1.51, 0.25)))
#: Atoms of a type without which it is calibrated together with all others.
_FEWEST = 8

_ARRAYS = ("factor", "offset", "corner", "center", "floor", "slope")


@dataclasses.dataclass
class AtomDeviations:
    """Deviations of atoms of a model with a last layer.

    Attributes
    ----------
    factor : (n_networks, width, width)
        R, upper triangles; one network for all types, or one per type.
    offset, center : (ntypes, width)
    corner : (ntypes,)
    floor, slope : (ntypes,)
        Of the deviation of forces [eV/Å, 1/Å].
    elements : tuple of Calibration
        Intervals of components of forces, one per type; their scales are in floor and slope.
    """

    factor: np.ndarray
    offset: np.ndarray
    corner: np.ndarray
    center: np.ndarray
    floor: np.ndarray
    slope: np.ndarray
    elements: tuple[Calibration, ...]

    @classmethod
    def from_factor(cls, factor: np.ndarray, means: np.ndarray, networks: int) -> "AtomDeviations":
        """Split the factor of a covariance; floor and slope are 0 and 1.

        Parameters
        ----------
        factor : (n_features, n_features)
            A; features are the blocks of the networks, and a constant per type.
        means : (ntypes, width)
            Of the last hidden layer.
        networks : int
        """
        ntypes, width = means.shape
        triangles, offset, corner = [], np.zeros((ntypes, width)), np.zeros(ntypes)
        for k in range(networks):
            q, r = np.linalg.qr(factor[:, k * width : (k + 1) * width])
            triangles.append(r)
            for t in range(ntypes) if networks == 1 else [k]:
                constant = factor[:, networks * width + t]
                offset[t] = q.T @ constant
                corner[t] = np.linalg.norm(constant - q @ offset[t])
        of_type = [0] * ntypes if networks == 1 else range(ntypes)
        center = np.stack([triangles[k] @ mean for k, mean in zip(of_type, means, strict=True)])
        unit = (Calibration(1.0, (), 0),) * ntypes
        parts = (np.stack(triangles), offset, corner, center)
        return cls(*parts, np.zeros(ntypes), np.ones(ntypes), unit)

    def product(self, hidden: np.ndarray, atype: np.ndarray) -> np.ndarray:
        """Return y (n_atoms, width) of last hidden layers (n_atoms, width)."""
        if len(self.factor) == 1:
            return hidden @ self.factor[0].T
        out = np.empty_like(hidden)
        for t, triangle in enumerate(self.factor):
            rows = atype == t
            out[rows] = hidden[rows] @ triangle.T
        return out

    def energy(self, product: np.ndarray, atype: np.ndarray) -> np.ndarray:
        """Uncalibrated deviations of the energies of atoms [eV], (n_atoms,)."""
        moved = product + self.offset[atype]
        return np.sqrt(np.einsum("ak,ak->a", moved, moved) + self.corner[atype] ** 2)

    def distance(self, product: np.ndarray, atype: np.ndarray) -> np.ndarray:
        """Distances from the training data [eV, uncalibrated], (n_atoms,)."""
        moved = product - self.center[atype]
        return np.sqrt(np.einsum("ak,ak->a", moved, moved))

    def force(self, product: np.ndarray, atype: np.ndarray) -> np.ndarray:
        """Standard deviations of the components of the forces on atoms [eV/Å], (n_atoms,)."""
        return np.hypot(self.floor[atype], self.slope[atype] * self.distance(product, atype))

    def fitted(
        self, distance: np.ndarray, error: np.ndarray, atype: np.ndarray
    ) -> "AtomDeviations":
        """Return it with the floor and slope of every type, from errors (n_atoms, 3) of forces."""
        pairs = [
            floor_and_slope(distance[rows], error[rows])
            for rows in (self._rows(t, atype) for t in range(len(self.floor)))
        ]
        floor, slope = np.array(pairs).T
        return dataclasses.replace(self, floor=floor, slope=slope)

    def calibrated(
        self, distance: np.ndarray, error: np.ndarray, atype: np.ndarray, frame: np.ndarray
    ) -> "AtomDeviations":
        """Return it with scales and intervals, from errors (n_atoms, 3) of other frames."""
        floor, slope, elements = self.floor.copy(), self.slope.copy(), []
        for t in range(len(floor)):
            rows = self._rows(t, atype)
            deviation = np.hypot(floor[t], slope[t] * distance[rows])
            found = calibrate(
                error[rows].reshape(-1), np.repeat(deviation, 3), np.repeat(frame[rows], 3)
            )
            floor[t] *= found.scale
            slope[t] *= found.scale
            elements.append(dataclasses.replace(found, scale=1.0))
        return dataclasses.replace(self, floor=floor, slope=slope, elements=tuple(elements))

    @staticmethod
    def _rows(t: int, atype: np.ndarray) -> np.ndarray:
        """Atoms that the numbers of a type come from: all, where it has too few."""
        rows = np.flatnonzero(atype == t)
        return rows if len(rows) >= _FEWEST else np.arange(len(atype))

    def serialize(self) -> dict[str, Any]:
        """Return it as plain values and arrays."""
        return {
            "elements": [one.to_dict() for one in self.elements],
            "@variables": {name: np.asarray(getattr(self, name)) for name in _ARRAYS},
        }

    @classmethod
    def deserialize(
        cls, data: Mapping[str, Any], networks: int, ntypes: int, width: int
    ) -> "AtomDeviations":
        """Read it out of a file.

        Raises
        ------
        ModelFileError
            If a part is missing or does not fit the model.
        """
        wrong = ModelFileError(
            f"uncertainty/{KEY}: a part is missing or does not fit the model",
            fix="fit it again with dp uncertainty",
        )
        shapes: dict[str, tuple[int, ...]] = {
            "factor": (networks, width, width),
            "offset": (ntypes, width),
            "center": (ntypes, width),
            **dict.fromkeys(("corner", "floor", "slope"), (ntypes,)),
        }
        given, elements = data.get("@variables"), data.get("elements")
        if not isinstance(given, Mapping) or not isinstance(elements, Sequence):
            raise wrong
        arrays = {name: np.asarray(given.get(name)) for name in _ARRAYS}
        for name, shape in shapes.items():
            array = arrays[name]
            if array.shape != shape or array.dtype.kind != "f" or not np.isfinite(array).all():
                raise wrong
        if len(elements) != ntypes or (arrays["floor"] < 0).any() or (arrays["slope"] < 0).any():
            raise wrong
        read = tuple(Calibration.from_dict(one) for one in elements)
        return cls(**{k: v.astype(np.float64) for k, v in arrays.items()}, elements=read)


def floor_and_slope(distance: np.ndarray, error: np.ndarray) -> tuple[float, float]:
    """Return f and s under which errors of variance f² + s² d² are most likely.

    Parameters
    ----------
    distance : (n,)
    error : (n, 3)
    """
    typical = max(float(np.sqrt(np.mean(np.square(distance)))), FLOOR)
    square = np.mean(np.square(error), axis=1)

    def fit(ratio: float) -> tuple[float, float, float]:
        shape = 1.0 + np.square(ratio * distance / typical)
        scale = max(float(np.mean(square / shape)), FLOOR**2)
        return float(np.mean(np.log(shape)) + np.log(scale)), ratio, scale

    _, ratio, scale = min(map(fit, _SLOPES))
    return float(np.sqrt(scale)), float(np.sqrt(scale) * ratio / typical)
