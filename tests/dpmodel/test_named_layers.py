# SPDX-License-Identifier: LGPL-3.0-or-later
"""Layers of a fitting that share their parameters by name: one node, wherever they come from."""

import copy

import numpy as np
import pytest

from deepmd.base.errors import InputError
from deepmd.dpmodel.fitting import EnergyFitting, Fitting
from deepmd.dpmodel.module import split
from deepmd.dpmodel.type_map import TypeChange
from deepmd.io.tree import difference

NAMES = ["first", "same", "same", "last"]


def fitting(**changes):
    given = {"neuron": [5, 5, 5], "layer_name": NAMES, "seed": 1, "precision": "float64"}
    return EnergyFitting(2, 7, type_map=["A", "B"], **given | changes)


def shares(made):
    return [n.layers[1] is n.layers[2] for n in made.nets.networks]


def test_layers_of_one_name_are_one():
    made, plain = fitting(), fitting(layer_name=None)
    assert shares(made) == [True, True] and shares(plain) == [False, False]
    assert made.nets.networks[0].layers[1] is not made.nets.networks[1].layers[1]
    assert len(split(plain)[0]) - len(split(made)[0]) == 2 * 3  # w, b, idt of a layer per type
    x = np.random.default_rng(0).normal(size=(3, 7))
    first, second, _, last = (copy.deepcopy(layer) for layer in made.nets.networks[0].layers)
    np.testing.assert_array_equal(made.nets.networks[0](x), last(second(second(first(x)))))


def test_a_file_keeps_them():
    data = fitting().serialize()
    read = Fitting.deserialize(copy.deepcopy(data))
    assert shares(read) == [True, True] and difference(read.serialize(), data) is None
    # Of a program that takes no notice of names they differ, and stay as they are.
    layer = data["nets"]["networks"][0]["layers"][2]
    layer["@variables"]["b"] = layer["@variables"]["b"] + 1.0
    read = Fitting.deserialize(copy.deepcopy(data))
    assert shares(read) == [False, True] and difference(read.serialize(), data) is None


def test_other_types_and_another_order_keep_them():
    made = fitting()
    made.change_types(TypeChange(["A", "B"], ["C", "B", "A"], seed=3))
    assert shares(made) == [True, True, True]
    made.reorder_descriptor(np.arange(7)[::-1])
    assert shares(made) == [True, True, True]
    mixed = fitting(mixed_types=True)
    assert shares(mixed) == [True]


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"layer_name": NAMES[:3]}, "3 names for 4 layers"),
        ({"neuron": [5, 5, 6]}, "layers 1 and 2 have the name"),
        ({"trainable": [True, True, False, True]}, "layers 1 and 2 have the name"),
        ({"layer_name": ["a", "b", "c", "c"]}, "layers 2 and 3 have the name"),
    ],
)
def test_names_that_do_not_fit(changes, text):
    with pytest.raises(InputError, match=f"layer_name: {text}"):
        fitting(**changes)


def test_torch_has_one_parameter():
    lift = pytest.importorskip("deepmd.pt.lift")
    made = fitting()
    lifted = lift.convert(made)
    assert dict(lifted.named_parameters()).keys() == split(made)[0].keys()
    assert shares(lift.to_neutral(lifted)) == [True, True]
