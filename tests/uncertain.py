# SPDX-License-Identifier: LGPL-3.0-or-later
"""An uncertainty for a model in a file, without data."""

import numpy as np

from deepmd.dpmodel.atom_deviations import AtomDeviations
from deepmd.dpmodel.calibration import Calibration
from deepmd.dpmodel.model import Model
from deepmd.dpmodel.uncertainty import SECTION, LastLayer, Uncertainty, layout, n_features


def add_uncertainty(tree):
    """Put an uncertainty of random numbers into the dictionary of a file."""
    model = Model.deserialize(tree["model"])
    rng = np.random.default_rng(4)
    n = n_features(model)
    x = rng.normal(size=(2 * n, n))
    last = LastLayer.from_curvature(x.T @ x, 1e-3)
    networks, ntypes, width = layout(model)
    atoms = AtomDeviations.from_factor(last.factor, rng.normal(size=(ntypes, width)), networks)
    atoms.floor[:], atoms.slope[:] = [0.01, 0.02], [0.3, 0.7]
    scales = Calibration(1.7, ((0.5, 0.7),), 30), Calibration(0.6, (), 30)
    tree[SECTION] = Uncertainty(*scales, last, atoms=atoms).serialize()
    return tree
