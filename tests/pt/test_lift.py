# SPDX-License-Identifier: LGPL-3.0-or-later
"""Lifted trees: names, sharing, the way back."""

import copy

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from deepmd.dpmodel.descriptor import DescrptSeA  # noqa: E402
from deepmd.dpmodel.model import build_model, prepare  # noqa: E402
from deepmd.dpmodel.module import Module, Serial, split, walk  # noqa: E402
from deepmd.pt.lift import convert, lift, to_neutral  # noqa: E402
from tests.pt.models import batch, section  # noqa: E402


@pytest.fixture(scope="module")
def neutral():
    return build_model(section())


def test_the_state_has_the_paths_of_the_tree(neutral):
    lifted = convert(neutral)
    params, fixed = split(neutral)
    assert {k for k, _ in lifted.named_parameters()} == set(params)
    assert {k for k, _ in lifted.named_buffers()} == set(fixed)
    for path, value, _ in walk(neutral):
        assert np.array_equal(lifted.state_dict()[path].numpy(), value)


def test_results_and_the_way_back(neutral):
    b = batch()
    expected = neutral.predict(prepare(b, neutral.packings()), b.n_frames)
    lifted = convert(neutral)
    found = lifted.predict(prepare(b, lifted.packings()).map(torch.tensor), b.n_frames)
    for key, value in expected.items():
        np.testing.assert_allclose(found[key].numpy(), value, rtol=1e-11, atol=1e-12)
    back = to_neutral(lifted)
    assert type(back) is type(neutral)
    np.testing.assert_equal(back.serialize(), neutral.serialize())
    np.testing.assert_equal(lifted.serialize(), neutral.serialize())


def test_what_is_not_trained_becomes_a_buffer():
    given = section()
    given["descriptor"]["trainable"] = False
    given["fitting_net"]["trainable"] = [True, False, True]
    neutral = build_model(given)
    lifted = convert(neutral)
    names = {k for k, _ in lifted.named_parameters()}
    assert names == set(split(neutral)[0])
    assert not any("descriptor" in k or ".layers.1." in k for k in names)


class Leaf(Module):
    serial = Serial(params=("w", "many"))

    def __init__(self):
        self.w, self.many = np.ones(2), [np.zeros(1), np.ones(3)]

    def call(self, x):
        return x * self.w + self.many[-1][0]


class Pair(Module):
    serial = Serial(children=("a", "b", "none"))

    def __init__(self):
        self.a = Leaf()
        self.b = [self.a, None]
        self.none = None


def test_shared_nodes_stay_shared():
    lifted = convert(Pair())
    assert lifted.a is lifted.b[0] and lifted.b[1] is None and lifted.none is None
    assert [k for k, _ in lifted.named_parameters()] == ["a.w", "a.many.0", "a.many.1"]
    back = to_neutral(lifted)
    assert back.a is back.b[0] and len(back.a.many) == 2
    memo = {}
    tree = Pair()
    assert convert(tree, memo).a is convert(tree.a, memo)
    assert lifted.a(torch.ones(2, dtype=torch.float64)).tolist() == [2.0, 2.0]


def test_functional_call_and_deepcopy(neutral):
    b = batch()
    lifted = convert(neutral)
    inputs = prepare(b, lifted.packings()).map(torch.tensor)
    other = {k: 0.5 * v for k, v in lifted.named_parameters()}

    class Run(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model = lifted

        def forward(self):
            return self.model.predict(inputs, b.n_frames)["energy"]

    run = Run()
    half = torch.func.functional_call(run, {f"model.{k}": v for k, v in other.items()}, ())
    twin = copy.deepcopy(lifted)
    with torch.no_grad():
        for p in twin.parameters():
            p.mul_(0.5)
    assert torch.equal(half, twin.predict(inputs, b.n_frames)["energy"])
    assert not torch.equal(half, run())


def test_lifted_classes_are_made_once_and_construct():
    kind = lift(DescrptSeA)
    assert lift(DescrptSeA) is kind and issubclass(kind, torch.nn.Module)
    descriptor = kind(4.0, 0.5, [4, 4], neuron=[2, 4], axis_neuron=2, seed=1)
    assert isinstance(descriptor, kind) and isinstance(descriptor, DescrptSeA)
    again = kind.deserialize(descriptor.serialize())
    np.testing.assert_equal(again.serialize(), descriptor.serialize())
