# SPDX-License-Identifier: LGPL-3.0-or-later
"""The tree of arrays: declarations, walking, binding, dictionaries."""

from typing import Any

import numpy as np
import pytest

from deepmd.base.errors import ModelFileError
from deepmd.dpmodel.descriptor import DescrptSeA
from deepmd.dpmodel.module import Module, Serial, assign, bind, short, split, walk
from deepmd.dpmodel.nn.layers import Dense, EmbeddingNetwork
from deepmd.schema.settings import setting


class Pair(Module):
    """Two children that may be one."""

    serial = Serial(layout="first second", children=("first", "second"))

    def __init__(self, first, second):
        self.first, self.second = first, second


def _all_subclasses(cls):
    for sub in cls.__subclasses__():
        yield sub
        yield from _all_subclasses(sub)


def test_walk_yields_a_shared_child_once_and_bind_keeps_it_shared():
    layer = Dense(2, 3, seed=1)
    tree = Pair(layer, layer)
    assert [path for path, _, _ in walk(tree)] == ["first.w", "first.b"]
    bound = bind(tree, {"first.w": np.zeros((2, 3))})
    assert bound.first is bound.second and bound.first is not layer
    assert (bound.second.w == 0).all() and (layer.w != 0).any()
    assert bound.first.b is layer.b


def test_untrained_parents_reach_down():
    tree = Pair(Dense(2, 2, seed=1), Dense(2, 2, seed=2))
    tree.first.trainable = False
    params, fixed = split(tree)
    assert set(params) == {"second.w", "second.b"} and set(fixed) == {"first.w", "first.b"}
    tree.trainable = False
    assert not split(tree)[0]


def test_undeclared_arrays_are_found_at_construction():
    class Hidden(Module):
        def __init__(self, value):
            self.value = value

    Hidden(1.0)
    for value in (np.zeros(2), np.float64(6.0), [Dense(1, 1)], {"a": (np.zeros(1),)}):
        with pytest.raises(TypeError, match="not declared"):
            Hidden(value)


def test_no_declared_name_is_one_of_torch():
    taken = {"buffers", "parameters", "children", "modules", "type", "float", "half"}
    taken |= {"train", "eval", "to", "compile", "training", "double", "forward"}
    for cls in _all_subclasses(Module):
        names = set(cls.serial.arrays) | set(cls.serial.children)
        assert not names & taken, cls


def test_assign_checks_shapes_and_keeps_the_dtype():
    layer = Dense(2, 3, precision="float32", seed=1)
    assign(layer, {"w": np.ones((2, 3))})
    assert layer.w.dtype == np.float32 and (layer.w == 1).all()
    with pytest.raises(ModelFileError, match="shape"):
        assign(layer, {"w": np.ones((3, 3))})


def test_initial_values_depend_on_the_path_only():
    """A longer network begins like the shorter one; another seed changes everything."""
    short = EmbeddingNetwork(1, [4, 8], seed=3)
    long = EmbeddingNetwork(1, [4, 8, 16], seed=3)
    other = EmbeddingNetwork(1, [4, 8], seed=4)
    assert np.array_equal(short.layers[1].w, long.layers[1].w)
    assert not np.array_equal(short.layers[1].w, other.layers[1].w)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"@version": 9}, "version 9"),
        ({"more": 1}, "unknown key more"),
        ({"resnet": None}, "resnet is missing"),
    ],
)
def test_bad_dictionaries(change, message):
    data = Dense(2, 3, seed=1).serialize()
    for key, value in change.items():
        data[key] = value
        if value is None:
            del data[key]
    with pytest.raises(ModelFileError, match=message):
        Dense.deserialize(data)


def test_older_versions_are_upgraded():
    data = Dense(2, 3, seed=1).serialize()
    del data["trainable"]
    data["@version"] = 1
    assert Dense.deserialize(data).trainable is True


class Wheel(Module):
    """A part without a dictionary of its own."""

    serial = Serial(layout="spokes rim", children=("rim",))
    width: int = setting(2, "Of the rim.")
    spokes: int = setting(3, "Number of spokes.")

    def build(self):
        self.rim = Dense(self.width, self.spokes, seed=1)


class Cart(Module):
    """A whole whose keys grew in number."""

    serial = Serial(
        layout="@class width color wheel_args wheel_variable",
        name="Cart",
        children=("wheel",),
        parts={"wheel": ("wheel_args", "wheel_variable")},
        arguments={"wheel_args": "wheel"},
        grows=True,
    )
    wheel: Any = setting(..., "Its wheel.", part=Wheel)
    width: int = setting(4, "Of the wheel.")
    color: str = setting("red", "What it is painted in.")

    def build(self):
        self.wheel = self.part(Wheel, **self.wheel)


def test_parts_are_stored_in_two_sections():
    cart = Cart(wheel={"spokes": 5}, width=3)
    data = cart.serialize()
    assert list(data) == ["@class", "width", "color", "wheel_args", "wheel_variable"]
    assert data["wheel_args"] == {"spokes": 5} and list(data["wheel_variable"]) == ["rim"]
    data["wheel_variable"]["rim"]["@variables"]["w"] += 1.0
    again = Cart.deserialize(data)
    np.testing.assert_array_equal(again.wheel.rim.w, cart.wheel.rim.w + 1.0)
    assert [path for path, _, _ in walk(again)] == ["wheel.rim.w", "wheel.rim.b"]
    del data["color"]
    assert Cart.deserialize(data).color == "red"
    for change, message in (
        ({"wheel_args": {"spokes": 5, "tyre": True}}, "unknown key wheel_args/tyre"),
        ({"wheel_variable": {}}, "key rim is missing"),
    ):
        with pytest.raises(ModelFileError, match=message):
            Cart.deserialize({**data, **change})


def test_statistics_that_vary_along_slots_are_refused():
    data = DescrptSeA(4.0, 0.5, [3, 4], neuron=[2, 4], seed=1).serialize()
    assert data["@variables"]["davg"].shape == (2, 7, 4)
    data["@variables"]["davg"][0, 1, 0] = 1.0
    with pytest.raises(ModelFileError, match="differs between the slots"):
        DescrptSeA.deserialize(data)


def test_values_in_messages_are_short_and_in_one_line():
    text = short(np.zeros((9, 9)))
    assert text.startswith("array([[0., 0.") and len(text) <= 60 and "\n" not in text
    assert short(None) == "None"
