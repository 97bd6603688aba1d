# SPDX-License-Identifier: LGPL-3.0-or-later
"""Registries of named components, and the loading of plugins through entry points."""

import logging
from collections.abc import Callable, Iterator, MutableMapping
from importlib import metadata
from importlib.util import find_spec
from typing import Any

from deepmd.base.errors import InputError, did_you_mean
from deepmd.base.reading import shown

log = logging.getLogger(__name__)


def identity(component: Any) -> str:
    """Qualified name of a class or function; of a method of a class, that of the class."""
    owner = getattr(component, "__self__", component)
    if not hasattr(owner, "__qualname__"):
        return f"{type(owner).__module__}.{type(owner).__qualname__} at {id(owner):#x}"
    name = f"{owner.__module__}.{owner.__qualname__}"
    if owner.__name__ in ("_", "<lambda>"):  # one of several
        name += f", line {owner.__code__.co_firstlineno}"
    return name


class NameTakenError(InputError):
    """Two components of one kind have the same name.

    Attributes
    ----------
    claim : (str, hashable)
        The kind and the name.
    """

    claim: tuple[str, Any] = ("", "")

    @classmethod
    def of(cls, kind: str, key: Any, earlier: Any, component: Any) -> "NameTakenError":
        """Return the error for two components."""
        made = cls(
            f'{kind} "{key}" is registered by {identity(earlier)} and {identity(component)}',
            fix="rename one of them, or register the second with override=True",
        )
        made.claim = kind, key
        return made


def file_under(
    table: MutableMapping[Any, Any],
    key: Any,
    component: Any,
    *,
    kind: str,
    override: bool = False,
    name: str | None = None,
) -> None:
    """Put a component into a table by name.

    Parameters
    ----------
    table : dict
    key : hashable
    component : class or function
        One of the same qualified name takes the place of the earlier one: its module was reloaded.
    kind : str
        Noun for messages: ``"descriptor"``.
    override : bool
        Whether it may take the place of another component.
    name : str, optional
        The key in messages.

    Raises
    ------
    NameTakenError
        If another component has the key.
    """
    earlier = table.get(key)
    if earlier is not None and not override and identity(earlier) != identity(component):
        raise NameTakenError.of(kind, key if name is None else name, earlier, component)
    table[key] = component


#: All there are, for the list of what plugins provide.
_registries: "list[Registry]" = []


class Registry:
    """Components of one kind by name.

    Parameters
    ----------
    kind : str
        What the components are, for messages: ``"descriptor"``.
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._by_name: dict[str, Any] = {}
        _registries.append(self)

    def register(self, *names: str, override: bool = False) -> Callable[[Any], Any]:
        """Return a decorator that files its object under ``names``; the first is the main one.

        A name that another object has is an error unless ``override`` is set.
        """

        def decorate(component: Any) -> Any:
            filed = dict(self._by_name)
            for name in names:
                file_under(filed, name, component, kind=self.kind, override=override)
            self._by_name = filed
            return component

        return decorate

    def get(self, name: str, *, where: str | None = None) -> Any:
        """Return the component called ``name``; plugins are loaded before it is said to be missing.

        Raises
        ------
        InputError
            If there is none, the nearest name is suggested; or if several plugins have it.
        """
        check_collision(self.kind, name, where)
        if not self.knows(name):
            fix = "; ".join(filter(None, (did_you_mean(name, self._by_name), *failed_plugins())))
            raise InputError(f'unknown {self.kind} "{shown(name)}"', where=where, fix=fix)
        return self._by_name[name]

    def knows(self, name: str) -> bool:
        """Whether there is such a component; plugins are loaded before it is said to be missing."""
        if name not in self._by_name:
            load_all_plugins()
        return name in self._by_name

    def __contains__(self, name: object) -> bool:
        return name in self._by_name

    def __iter__(self) -> Iterator[str]:
        return iter(self._by_name)

    def items(self) -> Iterator[tuple[str, Any]]:
        """Iterate over (name, component)."""
        return iter(self._by_name.items())


def make_plugin_registry(name: str) -> type:
    """Return a class with a registry of its own, to derive base classes of plugins from.

    It has ``register(key)``, a class decorator, and ``get_class_by_type(key)``.
    """
    registry = Registry(name)

    class Plugins:
        """Classes by name."""

        @classmethod
        def register(cls, key: str, *, override: bool = False) -> Callable[[type], type]:
            """Return a decorator that files a class under ``key``."""
            return registry.register(key, override=override)

        @classmethod
        def get_class_by_type(cls, key: str) -> type:
            """Return the class filed under ``key``."""
            return registry.get(key)

    return Plugins


#: Groups of entry points, ``deepmd.<name>``, and the package without which none of them is loaded.
_GROUPS = {"dpmodel": None, "pt": "torch", "jax": "jax", "tf": "tensorflow", "": None}
_loaded: set[str] = set()
#: What was wrong, by group, name and target: several packages may have plugins of one name.
_failed: dict[tuple[str, str, str], str] = {}
_collisions: dict[tuple[str, Any], str] = {}
#: Distribution and version of plugins, by the first part of the name of their modules.
_origins: dict[str, tuple[str, str]] = {}


def load_entry_points(group: str) -> bool:
    """Import every plugin of an entry point group, once; importing does the registering.

    One that fails is reported, and again where something is missing; the others are loaded.

    Returns
    -------
    bool
        Whether there was one that had not been loaded before.
    """
    if group in _loaded:
        return False
    _loaded.add(group)
    points = list(metadata.entry_points(group=group))
    for point in points:
        dist = getattr(point, "dist", None)
        if dist is not None:
            _origins[point.module.partition(".")[0]] = dist.metadata["Name"], dist.version
        try:
            point.load()
        except Exception as error:  # noqa: BLE001  code of other authors
            text = " ".join(str(error).split())
            _failed[group, point.name, point.value] = f"{type(error).__name__}: {text}"
            if isinstance(error, NameTakenError):
                _collisions[error.claim] = text
            log.warning("%s", failed_plugins()[-1])
        else:
            log.debug("plugin %s loaded from %s", point.name, point.value)
    return bool(points)


def has_plugins(*groups: str) -> bool:
    """Whether there are plugins of one of the entry point groups; none is imported."""
    return any(metadata.entry_points(group=group) for group in groups)


def plugin_packages() -> frozenset[str]:
    """Return the names of the packages that plugins were loaded from."""
    return frozenset(_origins)


def load_all_plugins() -> bool:
    """Import the plugins of all frameworks that are installed.

    Returns
    -------
    bool
        Whether there was one that had not been loaded before.
    """
    found = False
    for name, package in _GROUPS.items():
        if package is None or find_spec(package) is not None:
            found = load_entry_points(f"deepmd.{name}".rstrip(".")) or found
    return found


def failed_plugins() -> list[str]:
    """Return a line about every plugin that could not be loaded."""
    lines = []
    for (group, name, target), error in _failed.items():
        origin = _origins.get(target.partition(":")[0].partition(".")[0])
        package = "" if origin is None else f" of {' '.join(origin)}"
        lines.append(f"plugin {group} {name}{package} could not be loaded ({error})")
    return lines


def check_collision(kind: str, name: str, where: str | None = None) -> None:
    """Raise InputError if several plugins claim a name."""
    line = _collisions.get((kind, name))
    if line is not None:
        raise InputError(line, where=where, fix="uninstall one of them")


def origin_of(component: Any) -> str | None:
    """Return name and version of the distribution whose plugin defines a class, or None."""
    found = _origins.get(component.__module__.partition(".")[0])
    return None if found is None else " ".join(found)


def installed_plugins() -> list[tuple[str, str, str, str]]:
    """Return group, name, target and distribution of the plugins that are installed."""
    groups = [f"deepmd.{name}".rstrip(".") for name in (*_GROUPS, "backend")]
    return [
        (group, p.name, p.value, "" if p.dist is None else f"{p.dist.name} {p.dist.version}")
        for group in groups
        for p in metadata.entry_points(group=group)
    ]


def failure_of(group: str, name: str, target: str) -> str | None:
    """Return why a plugin could not be loaded, or None."""
    return _failed.get((group, name, target))


def components_of_plugins() -> dict[str, list[str]]:
    """Return the components that plugins have registered, ``descriptor "x"``, by distribution."""
    found: dict[str, list[str]] = {}
    for registry in _registries:
        for name, component in registry.items():
            origin = origin_of(component) if hasattr(component, "__module__") else None
            if origin is not None:
                found.setdefault(origin, []).append(f'{registry.kind} "{name}"')
    return found
