# SPDX-License-Identifier: LGPL-3.0-or-later
"""Modules: trees of arrays that declare what they hold.

The neutral tree holds NumPy arrays only. Backends lift it: PyTorch turns each node into a
``torch.nn.Module``; the functional backends keep the arrays in flat dictionaries and put them back
into a copy of the tree with :func:`bind`.
"""

import copy
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, ClassVar, TypeVar

import numpy as np

from deepmd.base.errors import ModelFileError, did_you_mean
from deepmd.base.plugin import Registry, failed_plugins, file_under, origin_of
from deepmd.base.reading import shown
from deepmd.dpmodel.construction import check_same, claim_module, fits
from deepmd.dpmodel.serial import PLUGIN, SPECIAL, Serial
from deepmd.schema.registry import ArgsRegistry
from deepmd.schema.settings import Settings

_Kind = TypeVar("_Kind", bound=type)


class _Checked(type):
    """Checks, once per construction, that a module holds no array it did not declare."""

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        claim_module()
        module = super().__call__(*args, **kwargs)
        serial: Serial = cls.serial  # type: ignore[attr-defined]
        declared = set(serial.arrays) | set(serial.children)
        for name, value in vars(module).items():
            if name not in declared and _holds_arrays(value):
                raise TypeError(
                    f"{cls.__name__}.{name} holds an array or a module but is not declared"
                )
        return module


def _holds_arrays(value: Any) -> bool:
    if isinstance(value, (np.ndarray, np.generic, Module)):
        return True
    if isinstance(value, dict):
        return any(_holds_arrays(v) for v in value.values())
    if isinstance(value, (list, tuple)):
        return any(_holds_arrays(v) for v in value)
    return False


def short(value: Any) -> str:
    """Return the beginning of a value in one line, for messages."""
    return " ".join(repr(value)[:60].split())


class Module(Settings, metaclass=_Checked):
    """A node of the tree of arrays.

    What can be chosen about it is declared as :mod:`settings <deepmd.schema.settings>`, or given to
    a constructor of its own.
    """

    serial: ClassVar[Serial] = Serial()
    trainable: Any = True
    #: Whether arrays of its own are fixed, whatever becomes of its children.
    frozen: bool = False
    child_kinds: ClassVar[Mapping[str, Any]] = {}  # of children whose dictionary has no @class
    #: Keys of children and names of arrays that DeePMD-kit's PyTorch dialect calls otherwise; those
    #: of base classes hold, too.
    torch_names: ClassVar[Mapping[str, str]] = {}
    _classes: ClassVar[dict[str, Any]] = {}

    def __init_subclass__(cls, *, override: bool = False, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        name = cls.__dict__.get("serial", Serial()).name
        if name is not None and cls.__dict__["serial"].type is None:
            file_under(Module._classes, name, cls, kind="class", override=override)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.call(*args, **kwargs)

    def call(self, *args: Any, **kwargs: Any) -> Any:
        """Evaluate; every subclass states its own arguments."""
        raise TypeError(f"{type(self).__name__} is not a function")

    # -- dictionaries -------------------------------------------------------------------------

    def serialize(self) -> dict:
        """Return the neutral dictionary of this tree, arrays as NumPy arrays."""
        return self._stored(self.serial.layout.split())

    def _stored(self, keys: Iterable[str]) -> dict:
        s = self.serial
        children = {key: name for name, key in s.child_keys.items()}
        settings = {key: name for name, (key, _) in s.parts.items()}
        out: dict[str, Any] = {}
        for key in keys:
            if key == "@class":
                out[key] = s.name
            elif key == "@version":
                out[key] = self.stored_version
            elif key == "type":
                out[key] = s.type
            elif key == "@variables":
                out[key] = {k: self.stored_array(k) for k in s.arrays}
            elif key in settings:
                child = getattr(self, settings[key])
                out[key] = child._stored(child.serial.config)
            elif key not in children:
                out[key] = copy.deepcopy(getattr(self, key))
            else:
                child = getattr(self, children[key])
                if child is not None or children[key] not in s.optional:
                    of_part = children[key] in s.parts
                    out[key] = child._variables() if of_part else _serialize_child(child)
        return out

    @property
    def stored_version(self) -> int:
        """Version of the dictionary; one that depends on the content is a matter of the subclass."""
        return self.serial.version

    def _variables(self) -> dict:
        """Return the dictionary of a part without its settings."""
        config = self.serial.config
        return self._stored(k for k in self.serial.layout.split() if k not in config)

    def stored_array(self, name: str) -> Any:
        """Return an array in the form it has in files."""
        value = getattr(self, name)
        if isinstance(value, (list, tuple)):
            return [to_numpy(v) for v in value]
        return None if value is None else to_numpy(value)

    def restore_array(self, name: str, value: Any) -> Any:
        """Return an array read from a file in the form it has here; the inverse of stored_array."""
        if value is None:
            return None
        if isinstance(value, (list, tuple)):
            return [np.asarray(v) for v in value]
        here = getattr(self, name)
        value = np.asarray(value)
        if value.dtype.kind in "OSUMm":
            raise ModelFileError(f"{name} of {type(self).__name__} holds no numbers")
        if name in self.serial.rows and value.ndim == 2 and len(value) == 1:
            value = value[0]
        if here is not None and here.shape != value.shape:
            raise ModelFileError(
                f"{name} of {type(self).__name__} has shape {value.shape}, expected {here.shape}"
            )
        return value

    @classmethod
    def upgraded(cls, data: dict) -> dict:
        """Return a dictionary of the current version; raise ModelFileError if it cannot be read."""
        s = cls.serial
        version = data.get("@version", 1)
        if version not in s.accepts:
            raise ModelFileError(
                f"{s.name} {s.type or ''} has version {short(version)}; this program reads "
                f"{', '.join(map(str, s.accepts))}".replace("  ", " ")
            )
        for v in range(version, s.version):
            if v in s.upgrades:
                data = s.upgrades[v](data)
        for usual in s.variants:
            data = usual(data)
        return data

    @classmethod
    def deserialize(cls, data: dict) -> Any:
        """Build a tree from its neutral dictionary.

        Raises
        ------
        ModelFileError
            If the version is not known, a key is missing or unknown, or a shape does not fit.
        """
        data = cls.upgraded(dict(data))
        s = cls.serial
        known = set(s.layout.split()) | set(SPECIAL)
        unknown = sorted(set(data) - known)
        for key, name in s.arguments.items():
            part: Any = cls.settings[name].part
            unknown += sorted(f"{key}/{k}" for k in data.get(key, {}) if k not in part.settings)
        if unknown:
            raise ModelFileError(f"{s.name}: unknown key {', '.join(unknown)}")
        cls._check_kinds(data)
        optional = {n for n, x in cls.settings.items() if s.grows and not x.required}
        cls._need({*s.config} - optional, data)
        given = {s.arguments.get(key, key): data[key] for key in s.config if key in data}
        module = cls.construct(given, data)
        module.restore(data)
        return module

    @classmethod
    def _check_kinds(cls, data: dict) -> None:
        """Raise ModelFileError if a setting has another type than it is declared with."""
        for key in cls.serial.config:
            s = cls.settings.get(cls.serial.arguments.get(key, key))
            if s is None or s.part is not None or key not in data:
                continue
            if not fits(data[key], s.annotation):
                raise ModelFileError(
                    f"{key} of {cls.serial.name or cls.__name__} is {short(data[key])}, "
                    f"expected {inspect.formatannotation(s.annotation)}"
                )

    @classmethod
    def _need(cls, keys: Iterable[str], data: dict) -> None:
        missing = sorted(set(keys) - set(data))
        if missing:
            raise ModelFileError(f"{cls.__name__}: key {', '.join(missing)} is missing")

    def restore(self, data: dict) -> None:
        """Take children and arrays from a dictionary."""
        s = self.serial
        for name, key in s.child_keys.items():
            made = getattr(self, name, None)
            if name not in s.optional or made is not None:
                self._need([key], data)
            if name not in s.parts:
                child = _deserialize_child(data.get(key), self.child_kinds.get(key))
                check_same(made, child, f"{name} of {s.name or type(self).__name__}")
                setattr(self, name, child)
            elif made is not None:
                made.restore(data[key])
        variables = data.get("@variables", {})
        for key in s.arrays:
            if key not in variables:
                raise ModelFileError(f"{type(self).__name__}: array {key} is missing")
            setattr(self, key, self.restore_array(key, variables[key]))

    @classmethod
    def kind_of(cls, section: Any) -> Any:
        """Return the class that a dictionary or a section of the input is for."""
        return cls

    # -- operations on all components -----------------------------------------------------------

    def change_types(self, change: Any) -> Any:
        """Adopt another type map, in place; a component with arrays per type extends this.

        Parameters
        ----------
        change : deepmd.dpmodel.type_map.TypeChange
        """
        if "ntypes" in vars(self):
            vars(self)["ntypes"] = len(change.new)
        for name in self.serial.children:
            change.apply(getattr(self, name))

    @classmethod
    def construct(cls, config: dict, data: dict) -> Any:
        """Call the constructor for :meth:`deserialize`; ``data`` is the whole dictionary."""
        return cls(**config)


class Registered(Module):
    """A module of which there are several kinds: its base names a registry, they register there."""

    registry: ClassVar[Registry]
    #: Where the keys of their sections are filed, if they have sections.
    keys: ClassVar[ArgsRegistry | None] = None
    #: Kind of a dictionary without a ``type``.
    default_kind: ClassVar[str | None] = None

    @classmethod
    def register(cls, *names: str, override: bool = False) -> Callable[[_Kind], _Kind]:
        """Return a decorator that files a class, and the keys of its section, under its names.

        The first is that of the input, the others are older ones or those of files. A name that
        another class has is an error unless ``override`` is set.
        """

        def decorate(component: Any) -> Any:
            filed = cls.registry.register(*names, override=override)(component)
            if cls.keys is not None and component.settings:
                cls.keys.add(component, *names, override=override)
            return filed

        return decorate

    def serialize(self) -> dict:
        """Return the neutral dictionary, with the plugin that the component is of."""
        out, plugin = super().serialize(), origin_of(type(self))
        return out if plugin is None else {**out, PLUGIN: plugin}

    @classmethod
    def kind_of(cls, section: Any) -> Any:
        """Return the class that the ``type`` of a section of the input names, or None."""
        name = str(section.get("type", cls.default_kind)) if isinstance(section, Mapping) else ""
        return cls.registry.get(name) if name in cls.registry else None

    @classmethod
    def deserialize(cls, data: dict) -> Any:
        """Build the kind that the ``type`` of the dictionary names.

        Raises
        ------
        ModelFileError
            If it is not known, or as :meth:`Module.deserialize`.
        """
        if "registry" not in cls.__dict__:  # a kind itself
            return super().deserialize(data)
        name = data.get("type", cls.default_kind)
        if not cls.registry.knows(str(name)):
            raise ModelFileError(
                f'the file has a {cls.registry.kind} of type "{name}", which is not known here',
                fix=_way_to_install(data.get(PLUGIN), did_you_mean(str(name), cls.registry)),
            )
        return cls.registry.get(str(name)).deserialize(data)


def _way_to_install(plugin: Any, otherwise: str | None) -> str | None:
    """Return how to get a component that is of a plugin, or another advice."""
    if isinstance(plugin, str) and plugin:
        name = shown(plugin.partition(" ")[0])
        otherwise = f"it is of the plugin {shown(plugin)}: pip install {name}"
    return "; ".join(filter(None, (otherwise, *failed_plugins()))) or None


def to_numpy(value: Any) -> np.ndarray:
    """Return a NumPy array of any framework's array (of torch: detached, on the CPU)."""
    if hasattr(value, "detach"):
        value = value.detach().cpu().numpy()
    return np.array(value)


def _serialize_child(child: Any) -> Any:
    if child is None:
        return None
    if isinstance(child, Module):
        return child.serialize()
    if isinstance(child, Mapping):
        return {k: _serialize_child(v) for k, v in child.items()}
    return [_serialize_child(c) for c in child]


def _deserialize_child(data: Any, component: Any = None) -> Any:
    if data is None:
        return None
    if isinstance(data, (list, tuple)):
        return [_deserialize_child(d, component) for d in data]
    if component is not None:
        return component.deserialize(data)
    name = data.get("@class")
    if name not in Module._classes:
        raise ModelFileError(f'unknown class "{name}" in a model dictionary')
    return Module._classes[name].deserialize(data)


# -- walking and binding --------------------------------------------------------------------------


def modules(node: Any, seen: set[int] | None = None) -> Iterator[Module]:
    """Iterate over a module, or a list or dictionary of them, and all below it, each once."""
    seen = set() if seen is None else seen
    if node is None or id(node) in seen:
        return
    children = node.values() if isinstance(node, Mapping) else node
    if isinstance(node, Module):
        seen.add(id(node))
        yield node
        children = [getattr(node, name) for name in node.serial.children]
    for child in children:
        yield from modules(child, seen)


def walk(root: Module) -> Iterator[tuple[str, Any, bool]]:
    """Yield (path, array, trained?) of every array, a shared one once.

    Paths are attribute names and list positions joined by dots:
    ``fitting.nets.networks.0.layers.1.w``.
    """
    yield from _walk(root, "", True, set())


def _walk(node: Any, path: str, trainable: bool, seen: set[int]) -> Iterator[tuple[str, Any, bool]]:
    if node is None or id(node) in seen:
        return
    if isinstance(node, Module):
        seen.add(id(node))
        trainable = trainable and node.trainable is not False
        for learned, names in ((True, node.serial.params), (False, node.serial.buffers)):
            for name in names:
                trained = learned and trainable and not node.frozen
                yield from _walk_arrays(getattr(node, name), path + name, trained)
        for name in node.serial.children:
            yield from _walk(getattr(node, name), path + name + ".", trainable, seen)
    else:
        items = node.items() if isinstance(node, Mapping) else enumerate(node)
        for key, child in items:
            yield from _walk(child, f"{path}{key}.", trainable, seen)


def _walk_arrays(value: Any, path: str, trained: bool) -> Iterator[tuple[str, Any, bool]]:
    if value is None:
        return
    if isinstance(value, (list, tuple)):
        for k, v in enumerate(value):
            yield f"{path}.{k}", v, trained
    else:
        yield path, value, trained


def split(root: Module) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Return the trained and the fixed arrays of a tree as two flat dictionaries by path."""
    params: dict[str, np.ndarray] = {}
    fixed: dict[str, np.ndarray] = {}
    for path, value, trained in walk(root):
        (params if trained else fixed)[path] = value
    return params, fixed


def bind(root: Module, leaves: Mapping[str, Any]) -> Any:
    """Return the same tree with every array replaced by ``leaves[path]``.

    Static parts are shared with ``root``; an array without an entry stays. A node that appears
    twice in the tree is one node in the copy, too.
    """
    return _bind(root, "", leaves, {})


def _bind(node: Any, path: str, leaves: Mapping[str, Any], memo: dict[int, Any]) -> Any:
    if node is None:
        return None
    if id(node) in memo:
        return memo[id(node)]
    if isinstance(node, Module):
        new = copy.copy(node)
        memo[id(node)] = new
        for name in node.serial.arrays:
            value = getattr(node, name)
            if isinstance(value, (list, tuple)):
                bound = [leaves.get(f"{path}{name}.{k}", v) for k, v in enumerate(value)]
                setattr(new, name, bound)
            elif value is not None:
                setattr(new, name, leaves.get(path + name, value))
        for name in node.serial.children:
            setattr(new, name, _bind(getattr(node, name), path + name + ".", leaves, memo))
        return new
    if isinstance(node, Mapping):
        return {k: _bind(v, f"{path}{k}.", leaves, memo) for k, v in node.items()}
    return [_bind(v, f"{path}{k}.", leaves, memo) for k, v in enumerate(node)]


def assign(root: Module, leaves: Mapping[str, Any]) -> None:
    """Put arrays into a tree, in place; they become NumPy arrays of the dtype that was there."""
    for node, name, index, path in places(root):
        if path not in leaves:
            continue
        held = getattr(node, name)
        old = held if index is None else held[index]
        new = to_numpy(leaves[path]).astype(old.dtype)
        if new.shape != old.shape:
            raise ModelFileError(f"{path} has shape {new.shape}, expected {old.shape}")
        if index is None:
            setattr(node, name, new)
        else:
            held[index] = new


def places(root: Module) -> Iterator[tuple[Module, str, int | None, str]]:
    """Yield (node, attribute, number in a list or None, path) of every array, a shared one once."""
    return _places(root, "", set())


def _places(node: Any, path: str, seen: set[int]) -> Iterator[tuple[Module, str, int | None, str]]:
    if node is None or id(node) in seen:
        return
    if isinstance(node, Module):
        seen.add(id(node))
        for name in node.serial.arrays:
            value = getattr(node, name)
            if isinstance(value, list):
                for k in range(len(value)):
                    yield node, name, k, f"{path}{name}.{k}"
            elif value is not None:
                yield node, name, None, path + name
        for name in node.serial.children:
            yield from _places(getattr(node, name), path + name + ".", seen)
    else:
        items = node.items() if isinstance(node, Mapping) else enumerate(node)
        for key, child in items:
            yield from _places(child, f"{path}{key}.", seen)
