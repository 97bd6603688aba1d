# SPDX-License-Identifier: LGPL-3.0-or-later
"""Registries of named components, and the loading of plugins through entry points."""

import logging
from collections.abc import Callable, Iterator
from importlib import metadata
from typing import Any

from deepmd.utils.errors import InputError, did_you_mean

log = logging.getLogger(__name__)


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

    def register(self, *names: str) -> Callable[[Any], Any]:
        """Return a decorator that files its object under ``names``; the first is the main one."""

        def decorate(component: Any) -> Any:
            for name in names:
                self._by_name[name] = component
            return component

        return decorate

    def get(self, name: str, *, where: str | None = None) -> Any:
        """Return the component called ``name``.

        Raises
        ------
        InputError
            If there is none; the nearest name is suggested.
        """
        if name not in self._by_name:
            raise InputError(
                f'unknown {self.kind} "{name}"', where=where, fix=did_you_mean(name, self._by_name)
            )
        return self._by_name[name]

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
        def register(cls, key: str) -> Callable[[type], type]:
            """Return a decorator that files a class under ``key``."""
            return registry.register(key)

        @classmethod
        def get_class_by_type(cls, key: str) -> type:
            """Return the class filed under ``key``."""
            return registry.get(key)

    return Plugins


_loaded: set[str] = set()


def load_entry_points(group: str) -> None:
    """Import every plugin of an entry point group, once; importing does the registering."""
    if group in _loaded:
        return
    _loaded.add(group)
    for point in metadata.entry_points(group=group):
        point.load()
        log.debug("plugin %s loaded from %s", point.name, point.value)
