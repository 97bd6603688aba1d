# SPDX-License-Identifier: LGPL-3.0-or-later
"""The extended Kalman filter: its blocks, measurements and groups of atoms."""

import numpy as np

from deepmd.dpmodel.kalman import FORGETTING, KalmanFilter, blocks_of, groups_of_atoms


def test_blocks_as_deepmd_kit_has_them():
    network, fitting = [3, 3, 18, 6], [48, 4, 16, 4, 4, 4, 1]
    sizes = [b.stop - b.start for b in blocks_of([*network, *network, *fitting, *fitting], 40)]
    assert sizes == [36, 24, 40, 8, 33, 40, 8, 33]
    assert sum(sizes) == sum([*network, *network, *fitting, *fitting])


def test_exact_measurements_of_a_linear_model_are_met():
    """With as many independent measurements as parameters these are found."""
    rng = np.random.default_rng(0)
    wanted, found = rng.normal(size=3), np.zeros(3)
    kalman = KalmanFilter([slice(0, 3)])
    for _ in range(400):
        h = rng.normal(size=3)
        found = found + kalman.update(h, h @ (wanted - found))
    np.testing.assert_allclose(found, wanted, atol=1e-4)
    assert FORGETTING < kalman.forgetting < 1.0


def test_groups_differ_between_steps_and_repeat():
    first, again, later = ([*groups_of_atoms(30, step)] for step in (0, 0, 1))
    assert [len(g) for g in first] == [6, 6, 6, 6]
    assert len(set(np.concatenate(first))) == 24
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, later)
    assert [len(g) for g in groups_of_atoms(8, 0)] == [6, 2]
