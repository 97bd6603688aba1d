# SPDX-License-Identifier: LGPL-3.0-or-later
"""Deviations of atoms: the same numbers as the whole covariance, floors and slopes, coverage."""

import numpy as np
import pytest

from deepmd.base.errors import ModelFileError
from deepmd.dpmodel.atom_deviations import AtomDeviations, floor_and_slope
from deepmd.dpmodel.uncertainty import LastLayer


def covariance(networks, ntypes=2, width=5, seed=0):
    """Return a last layer of random features, and the means of types."""
    rng = np.random.default_rng(seed)
    n = networks * width + ntypes
    x = rng.normal(size=(3 * n, n))
    return LastLayer.from_curvature(x.T @ x, 1e-3), rng.normal(size=(ntypes, width))


@pytest.mark.parametrize("networks", [1, 2])
def test_one_product_gives_both_deviations(networks):
    last, means = covariance(networks)
    atoms = AtomDeviations.from_factor(last.factor, means, networks)
    rng = np.random.default_rng(1)
    hidden, atype = rng.normal(size=(20, 5)), rng.integers(0, 2, 20)
    product = atoms.product(hidden, atype)
    phi = np.zeros((20, networks * 5 + 2))
    for a, t in enumerate(atype):
        first = 5 * t if networks > 1 else 0
        phi[a, first : first + 5], phi[a, networks * 5 + t] = hidden[a], 1.0
    np.testing.assert_allclose(atoms.energy(product, atype), last.deviation(phi), rtol=1e-12)
    # The difference from the mean of a type has no constant.
    for a, t in enumerate(atype):
        first = 5 * t if networks > 1 else 0
        phi[a, first : first + 5] -= means[t]
    phi[:, networks * 5 :] = 0.0
    np.testing.assert_allclose(atoms.distance(product, atype), last.deviation(phi), rtol=1e-12)


def test_floor_and_slope_of_drawn_errors():
    rng = np.random.default_rng(2)
    distance = rng.uniform(0, 3, 4000)
    for floor, slope in ((0.1, 0.0), (0.1, 0.1), (0.02, 0.4)):
        error = np.hypot(floor, slope * distance)[:, None] * rng.normal(size=(4000, 3))
        found = floor_and_slope(distance, error)
        np.testing.assert_allclose(
            np.hypot(found[0], found[1] * distance), np.hypot(floor, slope * distance), rtol=0.25
        )


def test_coverage_by_type_does_not_need_a_good_estimate():
    """Errors that the distance has nothing to do with, of another size for every type."""
    last, means = covariance(1)
    rng = np.random.default_rng(3)
    count, inside = 40, []
    for _ in range(200):
        atype, frame = np.tile([0, 1], count), np.repeat(np.arange(count), 2)
        size = np.where(atype == 0, 0.1, 3.0) * rng.uniform(0.5, 2.0, count)[frame]
        error = size[:, None] * rng.standard_t(4, size=(len(atype), 3))
        distance = rng.uniform(0, 1, len(atype))
        atoms = AtomDeviations.from_factor(last.factor, means, 1)
        atoms = atoms.fitted(distance[:40], error[:40], atype[:40])
        rest = slice(40, -2)
        atoms = atoms.calibrated(distance[rest], error[rest], atype[rest], frame[rest])
        for a in (-2, -1):
            deviation = np.hypot(atoms.floor[atype[a]], atoms.slope[atype[a]] * distance[a])
            factor = atoms.elements[atype[a]].factor(0.8)
            inside.append(np.abs(error[a]) <= factor * deviation)
    # Four standard errors of 400 frames.
    assert 0.8 - 0.08 < np.mean(inside) < 0.8 + 1 / 20 + 0.08


def test_damaged_parts():
    last, means = covariance(2)
    tree = AtomDeviations.from_factor(last.factor, means, 2).serialize()
    again = AtomDeviations.deserialize(tree, 2, 2, 5)
    np.testing.assert_array_equal(again.factor, tree["@variables"]["factor"])
    bad = {"floor": -np.ones(2), "center": np.zeros((2, 4)), "factor": np.full((2, 5, 5), np.nan)}
    for name, value in bad.items():
        with pytest.raises(ModelFileError, match="uncertainty/atoms"):
            AtomDeviations.deserialize(
                {**tree, "@variables": {**tree["@variables"], name: value}}, 2, 2, 5
            )
    with pytest.raises(ModelFileError, match="uncertainty/atoms"):
        AtomDeviations.deserialize({**tree, "elements": tree["elements"][:1]}, 2, 2, 5)
