# SPDX-License-Identifier: LGPL-3.0-or-later
"""Registries refuse a second entry of a name; plugins that fail are named and do no more harm."""

import importlib
import logging
import sys
from importlib import metadata
from unittest.mock import Mock

import pytest

from deepmd.backend import backend as backends
from deepmd.base import plugin
from deepmd.base.errors import InputError
from deepmd.base.plugin import Registry, make_plugin_registry
from deepmd.dpmodel import ops
from deepmd.dpmodel.module import Module, Registered, Serial
from deepmd.infer import DeepEval, DeepPot
from deepmd.np import ops as np_ops
from deepmd.schema.registry import ArgsRegistry


class First:
    """A component."""


class Second:
    """Another one."""


def backend(name, suffixes):
    return type(name, (backends.Backend,), {"name": name, "suffixes": suffixes})


@pytest.fixture
def kept(monkeypatch):
    """Keep the registries of the package as they are."""
    backends.load_backends()
    monkeypatch.setattr(backends._registry, "_by_name", dict(backends._registry._by_name))
    for forms in ops._OPERATIONS.values():
        monkeypatch.setattr(forms, "known", {k: list(v) for k, v in forms.known.items()})
    monkeypatch.setattr(Module, "_classes", dict(Module._classes))
    monkeypatch.setattr(DeepEval, "_classes", dict(DeepEval._classes))


def registering(registry, first=(("one",), First), second=(("one",), Second)):
    """Return two registrations of different things under one name."""

    def entry(names, component):
        return lambda **options: registry.register(*names, **options)(component)

    return entry(*first), entry(*second)


def nothing(**_):
    """Stand for what is filed already."""


def module_class(**options):
    """Declare a module that claims the name of another."""
    return type("Other", (Module,), {"serial": Serial(name="LayerNorm")}, **options)


def eval_class(**options):
    """Declare a class for what another one evaluates."""
    return type("Energies", (DeepEval,), {"output": "energy"}, **options)


class Kinds(Registered):
    registry = Registry("kind")


CASES = {
    "registry": lambda: registering(Registry("thing")),
    "second name": lambda: registering(
        Registry("thing"), (("one", "uno"), First), (("two", "uno"), Second)
    ),
    "plugins": lambda: registering(make_plugin_registry("thing")),
    "registered": lambda: registering(type("Own", (Kinds,), {"registry": Registry("thing")})),
    "arguments": lambda: registering(ArgsRegistry("thing")),
    "alias of arguments": lambda: registering(
        ArgsRegistry("thing"), (("one", ["uno"]), First), (("uno", []), Second)
    ),
    "operation": lambda: registering(
        ops, (("take", "numpy"), np_ops._take), (("take", "numpy"), max)
    ),
    "class": lambda: (nothing, module_class),
    "evaluation": lambda: (nothing, eval_class),
    "backend": lambda: registering(
        backends.Backend, (("mine",), backend("First", ())), (("mine",), backend("Second", ()))
    ),
    "suffix": lambda: (
        nothing,
        lambda **options: backends.Backend.register("mine", **options)(backend("M", (".pth",))),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_second_entry_of_a_name(kept, case):
    first, second = CASES[case]()
    first()
    first()  # as a module that is imported again
    with pytest.raises(InputError, match=r"is registered by .* and .*; .*override=True"):
        second()
    second(override=True)


def test_nothing_is_filed_when_one_name_is_taken():
    registry = Registry("thing")
    registry.register("one")(First)
    with pytest.raises(InputError):
        registry.register("two", "one")(Second)
    assert list(registry) == ["one"]


def test_anonymous_functions_are_told_apart():
    registry = Registry("thing")
    registry.register("one")(lambda: 1)
    with pytest.raises(InputError, match="line"):
        registry.register("one")(lambda: 2)
    with pytest.raises(InputError, match=r"dict at 0x"):
        registry.register("one")({})


def test_reloaded_modules_register_again(tmp_path, monkeypatch):
    name = "module_with_components"
    (tmp_path / f"{name}.py").write_text(
        "from deepmd.dpmodel.descriptor import Descriptor\n"
        "from deepmd.dpmodel.module import Module, Serial\n"
        "class Node(Module):\n"
        '    serial = Serial(layout="@class @version", name="NodeOfTheTest")\n'
        '@Descriptor.registry.register("of_the_test")\n'
        "class Mine(Module):\n"
        "    pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    module = importlib.import_module(name)
    before = module.Mine
    importlib.reload(module)
    registry = importlib.import_module("deepmd.dpmodel.descriptor").Descriptor.registry
    try:
        assert registry.get("of_the_test") is module.Mine is not before
        assert Module._classes["NodeOfTheTest"] is module.Node
    finally:
        registry._by_name.pop("of_the_test")
        Module._classes.pop("NodeOfTheTest")
        sys.modules.pop(name)


def test_own_subclass_of_deep_pot_is_no_second_entry(kept):
    class Mine(DeepPot):
        output = "energy"

    assert DeepEval._classes["energy"] is DeepPot
    assert issubclass(Mine, DeepPot)


def test_a_plugin_that_fails_is_named(monkeypatch, caplog):
    class Point:
        def __init__(self, name, load):
            self.name, self.value, self.load = name, f"{name}:x", load

    def fail():
        raise ImportError("no module named torchx")

    loaded = []
    points = [Point("bad", fail), Point("good", lambda: loaded.append(1))]
    monkeypatch.setattr(plugin, "_loaded", set())
    monkeypatch.setattr(plugin, "_failed", {})
    monkeypatch.setattr(metadata, "entry_points", lambda group: points)
    with caplog.at_level(logging.WARNING, logger="deepmd"):
        plugin.load_entry_points("deepmd.of_the_test")
    text = "plugin deepmd.of_the_test bad could not be loaded (ImportError: no module named torchx)"
    assert loaded == [1]
    assert text in caplog.text
    with pytest.raises(InputError) as caught:
        Registry("thing").get("of_bad")
    assert text in str(caught.value)
    assert text in str(ArgsRegistry("thing").unknown("of_bad"))


def test_plugins_of_one_name_are_told_apart(monkeypatch, caplog):
    """Several packages may have an entry point of the same name; one of them fails."""

    class Point:
        name = "same"

        def __init__(self, package):
            self.module, self.value = package, f"{package}.all"
            self.dist = Mock(metadata={"Name": package}, version="0.3")

        def load(self):
            if self.module == "bad":
                raise ImportError("no module named torchx")

    for name in ("_loaded", "_failed", "_origins"):
        monkeypatch.setattr(plugin, name, type(getattr(plugin, name))())
    points = [Point("bad"), Point("good")]
    monkeypatch.setattr(metadata, "entry_points", lambda group: points)
    plugin.load_entry_points("deepmd.of_the_test")
    assert "plugin deepmd.of_the_test same of bad 0.3 could not be loaded" in caplog.text
    failures = [plugin.failure_of("deepmd.of_the_test", "same", p.value) for p in points]
    assert failures == ["ImportError: no module named torchx", None]


def test_a_name_that_two_plugins_have_is_an_error(monkeypatch, caplog):
    """It cannot be said which one is meant; all other names of both work."""
    registry = Registry("thing")

    class Point:
        dist = None

        def __init__(self, name, *claims):
            self.name, self.value, self.claims = name, f"{name}:x", claims

        def load(self):
            for name, component in self.claims:
                registry.register(name)(component)

    points = [
        Point("a", ("one", First)),
        Point("b", ("two", Second), ("one", Second)),
    ]
    for name in ("_loaded", "_failed", "_collisions"):
        monkeypatch.setattr(plugin, name, type(getattr(plugin, name))())
    monkeypatch.setattr(metadata, "entry_points", lambda group: points)
    assert plugin.load_entry_points("deepmd.of_the_test")
    assert not plugin.load_entry_points("deepmd.of_the_test")
    assert "plugin deepmd.of_the_test b could not be loaded" in caplog.text
    assert registry.get("two") is Second
    with pytest.raises(InputError, match=r"registered by .*First and .*Second"):
        registry.get("one")
    with pytest.raises(InputError, match="uninstall one of them"):
        ArgsRegistry("thing").unknown("one")
