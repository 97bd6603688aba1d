# SPDX-License-Identifier: LGPL-3.0-or-later
"""A tabulated network in place of an embedding network: the same method ``contract``."""

import autograd
import numpy as np
import pytest

from deepmd.dpmodel import ops
from deepmd.dpmodel.batch import Batch
from deepmd.dpmodel.model import build_model
from deepmd.dpmodel.module import Module, Serial
from deepmd.dpmodel.neighbors import batch_edges
from deepmd.testing.backends import EVALUATORS, evaluator
from deepmd.testing.systems import small_system


class TabulatedNetwork(Module):
    """Embedding G(s) by cubic polynomials on a uniform grid; rows (intervals, 4, width)."""

    serial = Serial(buffers=("rows",))

    def __init__(self, network, lower=-0.5, upper=2.0, step=2e-3):
        self.lower, self.step = lower, step
        s = np.arange(lower, upper + step, step)[:, None]
        value = network(s)
        slope = step * np.concatenate(
            [
                autograd.grad(lambda s, c=c: network(s)[:, c].sum())(s)
                for c in range(value.shape[1])
            ],
            axis=1,
        )
        rise, left, right = value[1:] - value[:-1], slope[:-1], slope[1:]
        cubic = [left + right - 2 * rise, 3 * rise - 2 * left - right, left, value[:-1]]
        self.rows = np.stack(cubic, axis=1)

    def contract(self, r, table=None, index=None, *, order=3):
        """Sum over neighbors of G(s) ⊗ r: (n, k, c) -> (n, m, c)."""
        assert table is None and index is None
        space = ops.xp(r)
        t = (r[..., 0] - self.lower) * (1.0 / self.step)
        row = space.astype(space.floor(ops.stop_gradient(t)), space.int64)
        t = (t - ops.cast(row, "float64"))[..., None]
        a = ops.take(self.rows, row)
        cubic, square, linear, constant = (a[:, :, k, :] for k in range(4))
        return ops.contract(((cubic * t + square) * t + linear) * t + constant, r)


def _batch():
    coord, cell, atype = small_system(2, 4.0)
    n = np.array([len(coord)])
    batch = Batch(coord, cell[None], np.array([True]), atype, np.zeros(n[0], np.int64), n)
    batch.edges = batch_edges(batch, 4.0)
    return batch


@pytest.mark.parametrize("backend", EVALUATORS)
@pytest.mark.parametrize("one_sided", [True, False])
def test_the_same_energies_and_forces(backend, one_sided, evaluated_once):
    descriptor = {"type": "se_e2_a", "rcut": 4.0, "rcut_smth": 0.5, "sel": [22, 24]}
    descriptor |= {"neuron": [4, 8], "axis_neuron": 3, "seed": 1, "type_one_side": one_sided}
    fitting = {"neuron": [5], "seed": 2}
    model = build_model({"type_map": ["O", "H"], "descriptor": descriptor, "fitting_net": fitting})
    batch = _batch()
    expected = evaluator("numpy", model).evaluate(batch)
    embeddings = model.atomic_model.descriptor.embeddings
    # One of them stays what it was: the descriptor sees no difference.
    tables = [TabulatedNetwork(network) for network in embeddings.networks[1:]]
    embeddings.networks = [embeddings.networks[0], *tables]
    found = evaluator(backend, model).evaluate(batch)
    for name in ("energy", "force", "virial"):
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-8, atol=1e-9)
