# SPDX-License-Identifier: LGPL-3.0-or-later
"""Arrays of a third party: a package registers its namespace, and models run on its arrays."""

import operator

import numpy as np
import pytest

from deepmd.dpmodel import ops
from deepmd.dpmodel.batch import Batch
from deepmd.dpmodel.model import build_model, prepare
from deepmd.dpmodel.module import bind, split
from deepmd.dpmodel.neighbors import batch_edges
from deepmd.testing.systems import small_system


class Array:
    """NumPy array (or one that autograd records) in the wrapping of another package."""

    __array_ufunc__ = None
    __module__ = "tiny_arrays.core"

    def __init__(self, value, device="board"):
        self.value, self.device = value, device

    shape = property(lambda self: self.value.shape)
    ndim = property(lambda self: self.value.ndim)
    dtype = property(lambda self: self.value.dtype)

    def __getitem__(self, index):
        return Array(self.value[_inner(index)])


def _inner(x):
    if isinstance(x, Array):
        return x.value
    if isinstance(x, (list, tuple)):
        return type(x)(_inner(part) for part in x)
    return x


def _lifted(function):
    def call(*args, **kwargs):
        return Array(function(*map(_inner, args), **kwargs))

    return call


Array.__neg__ = _lifted(operator.neg)
for _name in ("add", "sub", "mul", "truediv", "lt", "eq"):
    _function = getattr(operator, _name)
    setattr(Array, f"__{_name}__", _lifted(_function))
    setattr(Array, f"__r{_name}__", _lifted(lambda a, b, f=_function: f(b, a)))


class _Namespace:
    float32, float64, int64 = np.float32, np.float64, np.int64
    asarray = staticmethod(_lifted(np.asarray))

    def __getattr__(self, name):
        return _lifted(getattr(ops.xp(np.zeros(0)), name))


ops.register_package("tiny_arrays", "tiny", _Namespace(), device=lambda x: x.device)


@ops.register("segment_sum", "tiny")
def _(x, segment, n):
    return Array(ops.segment_sum(x.value, segment.value, n))


@ops.register("edge_gradient", "tiny")
def _(vec, energy, *, order=1):
    def inner(v):
        outputs, totals = energy(Array(v))
        return {k: x.value for k, x in outputs.items()}, [x.value for x in totals]

    outputs, gradients = ops.edge_gradient(vec.value, inner, order=order)
    return {k: Array(x) for k, x in outputs.items()}, [Array(g) for g in gradients]


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
