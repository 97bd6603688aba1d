# SPDX-License-Identifier: LGPL-3.0-or-later
"""Arrays of a third party: a package registers its namespace, and models run on its arrays."""

import sys
from pathlib import Path

import numpy as np
import pytest

from deepmd.dpmodel import ops
from deepmd.dpmodel.batch import Batch
from deepmd.dpmodel.model import build_model, prepare
from deepmd.dpmodel.module import bind, split
from deepmd.dpmodel.neighbors import batch_edges
from deepmd.testing.systems import small_system

# The arrays of the test's backend; one class, whoever imports it first.
sys.path.append(str(Path(__file__).parents[1] / "plugins" / "board"))
from deepmd_board.arrays import Array


def _batch():
    coord, cell, atype = small_system(2, 4.0)
    n = np.array([len(coord)])
    batch = Batch(coord, cell[None], np.array([True]), atype, np.zeros(n[0], np.int64), n)
    batch.edges = batch_edges(batch, 4.0)
    return batch


@pytest.mark.parametrize("one_sided", [True, False])
def test_a_model_runs_on_its_arrays(one_sided):
    descriptor = {"type": "se_e2_a", "rcut": 4.0, "rcut_smth": 0.5, "sel": [22, 24]}
    descriptor |= {"neuron": [4, 8], "axis_neuron": 3, "seed": 1, "type_one_side": one_sided}
    fitting = {"neuron": [5], "seed": 2}
    model = build_model({"type_map": ["O", "H"], "descriptor": descriptor, "fitting_net": fitting})
    batch = _batch()
    inputs = prepare(batch, model.packings())
    expected = model.predict(inputs, batch.n_frames)
    params, fixed = split(model)
    bound = bind(model, {path: Array(x) for path, x in (params | fixed).items()})
    found = bound.predict(inputs.map(Array), batch.n_frames)
    assert set(found) == set(expected) and "force" in found
    for name, value in expected.items():
        assert isinstance(found[name], Array)
        np.testing.assert_allclose(found[name].value, value, rtol=1e-12, atol=1e-13)


@ops.op
def _twice(x, factor=2.0):
    return x * factor


def test_the_best_form_that_applies_runs():
    name, x, elsewhere = "_twice", Array(np.ones(1)), Array(np.ones(1), "other")

    def ran(x, **given):
        return float(_twice(x, **given).value[0])

    assert ran(x) == 2.0  # the reference
    ops.register(name, "tiny")(lambda x, factor=0.0: Array(np.array([3.0])))
    assert ran(x) == ran(elsewhere) == 3.0
    ops.register(name, "tiny", device="board")(lambda x, factor=0.0: Array(np.array([4.0])))
    assert ran(x) == 4.0 and ran(elsewhere) == 3.0
    ops.register(name, "tiny", when=lambda x, factor=0.0: factor > 5.0, priority=1)(
        lambda x, factor: Array(np.array([5.0]))
    )
    assert ran(x) == 4.0 and ran(x, factor=6.0) == ran(elsewhere, factor=6.0) == 5.0
    assert float(_twice(np.ones(1))[0]) == 2.0  # other packages do not see them
    assert (name, "tiny") in ops.registered()


def test_operations_must_be_declared_first():
    with pytest.raises(KeyError, match="no operation embed_contrct"):
        ops.register("embed_contrct", "tiny")


def test_conditions_that_never_hold_leave_the_reference():
    @ops.op
    def _thrice(x):
        return x * 3.0

    ops.register("_thrice", "tiny", when=lambda x: False)(lambda x: None)
    assert _thrice(Array(np.ones(1))).value[0] == 3.0
