# SPDX-License-Identifier: LGPL-3.0-or-later
"""Settings of components: attributes, constructor, keys of the input, help."""

import inspect
from typing import Any

import pytest

from deepmd.base.errors import InputError
from deepmd.schema.common import POSITIVE
from deepmd.schema.settings import Settings, setting


class Shape(Settings):
    """Something with an outline."""

    width: float = setting(..., "Across, Å.")
    names: list[str] = setting((), "Of its corners.")
    closed: bool = setting(True, "Whether it ends where it begins.", alias=["is_closed"])
    owner: str | None = setting(None, "Given by the whole.", key=False)

    def build(self) -> None:
        self.half = self.width / 2


class Box(Shape):
    """With a depth."""

    closed: bool = setting(False)
    owner = "nobody"
    depth: int | None = setting(None, "Inwards.", rule=POSITIVE, absent=True)


class Tilted(Shape):
    """With more that must be given."""

    owner: str | None = setting(None, key=True)
    angle: float = setting(..., "Against the horizon, degrees.")


class Room(Shape):
    """With things in it."""

    floor: int = setting(0, "Number of its floor.")
    table: dict[str, Any] = setting(..., "What stands in it.", part=Tilted)

    def build(self) -> None:
        self.stands = self.part(Tilted, **self.table)


class Other(Shape):
    """With a constructor of its own."""

    def __init__(self, size: int) -> None:
        super().__init__(float(size))


def test_attributes_follow_from_what_is_given():
    names = ["a"]
    shape = Shape(3, names, closed=False)
    assert (shape.width, shape.names, shape.closed, shape.owner) == (3.0, ["a"], False, None)
    assert isinstance(shape.width, float) and shape.half == 1.5
    assert Other(2).width == 2.0
    names.append("b")
    assert shape.names == ["a"]
    assert Shape(1.0).names is not Shape(1.0).names


def test_a_subclass_adds_changes_and_fixes():
    assert list(Box.settings) == ["width", "names", "closed", "depth"]
    box = Box(1.0)
    assert (box.closed, box.owner, box.depth) == (False, "nobody", None)
    assert Box.settings["closed"].alias == ("is_closed",)
    with pytest.raises(TypeError, match="Box: got an unexpected keyword argument 'owner'"):
        Box(1.0, owner="me")


def test_what_is_missing_is_said():
    with pytest.raises(TypeError, match="Shape: missing a required argument: 'width'"):
        Shape()
    with pytest.raises(TypeError, match="Shape: too many positional arguments"):
        Shape(1.0, [], True, "me")  # what is no key goes by name
    with pytest.raises(TypeError, match="Shape: multiple values for argument 'width'"):
        Shape(1.0, width=2.0)


def test_what_must_be_given_late_is_given_by_name():
    assert Tilted(1.0, angle=30).angle == 30.0
    with pytest.raises(TypeError, match="Tilted: too many positional arguments"):
        Tilted(1.0, ["a"], angle=30)


def test_rules_hold_for_constructors():
    assert Box(1.0, depth=2).depth == 2
    with pytest.raises(InputError, match="depth 0 of Box must be greater than 0"):
        Box(1.0, depth=0)


def test_parts_share_settings_of_the_whole():
    *_, table = Room.arguments()
    assert list(table.sub_fields) == ["angle"] and table.doc == "What stands in it."
    assert Room.settings["table"].required
    room = Room(width=2.0, names=["a"], table={"angle": 3, "closed": False})
    assert (room.stands.width, room.stands.names, room.stands.angle) == (2.0, ["a"], 3.0)
    assert room.closed and not room.stands.closed
    assert not hasattr(room.stands, "floor")


def test_keys_of_the_input():
    width, names, closed, depth = Box.arguments()
    assert not width.optional and width.dtype == (float,)
    assert (names.default, closed.default, closed.alias) == ([], False, ["is_closed"])
    assert depth.optional and depth.extra_check(1) and not depth.extra_check(0)
    assert set(depth.dtype) == {int, type(None)}
    assert depth.doc == "Inwards."
    assert [a.name for a in Tilted.arguments()] == ["width", "names", "closed", "owner", "angle"]
    assert Tilted.arguments()[3].doc == Shape.settings["owner"].doc


def test_help_shows_every_setting():
    assert list(inspect.signature(Box).parameters) == list(Box.settings)
    assert "depth : int | None, default None\n    Inwards." in Box.__doc__
    assert Box.__doc__.startswith("With a depth.")
    assert list(inspect.signature(Other).parameters) == ["size"]
