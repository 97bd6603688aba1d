# SPDX-License-Identifier: LGPL-3.0-or-later
"""Changes of the bias by labels of atoms, which go before those of frames."""

import numpy as np
import pytest
from members import section

from deepmd.dpmodel.batch import Batch
from deepmd.dpmodel.model import build_model
from deepmd.dpmodel.neighbors import batch_edges
from deepmd.runtime.evaluator import Evaluator
from deepmd.testing.systems import randomize
from deepmd.train.statistics import change_bias

TYPES = np.array([0, 1, 1, 0])


def a_batch(model, names):
    """Three frames with random labels; those of frames are no sums of those of atoms."""
    rng = np.random.default_rng(3)
    coord = np.array([[[0.0, 0, 0], [1.2, 0, 0], [0, 1.2, 0], [1.2, 1.2, 0.5]]] * 3)
    batch = Batch.from_arrays(coord + 0.1 * rng.random(coord.shape), None, TYPES)
    batch.edges = batch_edges(batch, model.rcut)
    size = next(iter(model.output_def().get_data().values())).size
    for name in names:
        rows = batch.n_atoms if name.startswith("atom_") else batch.n_frames
        batch.labels[name] = rng.normal(size=(rows, size))
        batch.find[name] = 1.0
    return batch


@pytest.mark.parametrize("names", [["dos"], ["dos", "atom_dos"], ["atom_dos"]])
def test_change(names, tmp_path):
    model = randomize(build_model(section("dos", tmp_path)))
    batch = a_batch(model, names)
    change_bias(model, [batch])
    left = {
        name: batch.labels[name] - value
        for name, value in Evaluator(model).evaluate(batch, derivatives=()).items()
        if name in names
    }
    (std,) = model.atomic_model.out_std
    if "atom_dos" not in names:
        np.testing.assert_allclose(left["dos"].mean(axis=0), 0.0, atol=1e-10)
        np.testing.assert_allclose(std[0], left["dos"].std(axis=0), rtol=1e-10)
        return
    for t in (0, 1):
        of_type = left["atom_dos"][batch.atype == t]
        np.testing.assert_allclose(of_type.mean(axis=0), 0.0, atol=1e-12)
        np.testing.assert_allclose(std[t], of_type.std(axis=0), rtol=1e-10)


def test_the_deviation_that_scales_a_property_stays(tmp_path):
    model = randomize(build_model(section("property", tmp_path)))
    before = model.atomic_model.out_std.copy()
    change_bias(model, [a_batch(model, ["gap"])])
    assert np.array_equal(model.atomic_model.out_std, before)
