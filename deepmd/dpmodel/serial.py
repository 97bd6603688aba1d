# SPDX-License-Identifier: LGPL-3.0-or-later
"""Declarations of what modules hold, and of the dictionaries they are stored as."""

import dataclasses
from collections.abc import Callable, Mapping

#: Key of the plugin that a component is of, with its version.
PLUGIN = "@plugin"
SPECIAL = ("@class", "@version", "@variables", "type", PLUGIN)


@dataclasses.dataclass(frozen=True)
class Serial:
    """Contents of a class of modules, and the dictionary it is stored as.

    Parameters
    ----------
    layout : str
        Keys of the stored dictionary, in order. ``@variables`` stands where the arrays go; every
        other key that is no child is read from the attribute of that name.
    name : str
        ``@class`` of the dictionary.
    type : str, optional
        ``type`` of the dictionary, when the layout has that key.
    version : int
        ``@version`` that is written.
    accepts : tuple of int
        Versions that are read; the older ones pass through ``upgrades``.
    params, buffers : tuple of str
        Arrays (or None, or lists of arrays) that are trained, and that never are.
    children : tuple of str
        Modules, or lists of modules and None.
    constants : tuple of str
        Keys that are written but not read back: they follow from the others.
    optional : tuple of str
        Children whose key is left out when they are None.
    parts : mapping of str to (str or None, str)
        Children that the constructor makes, with the keys of their settings, where they have such,
        and of the rest. They have no dictionary of their own.
    keys : mapping of str to str
        Keys of children that differ from their names.
    arguments : mapping of str to str
        Keys of settings of parts, and what the constructor calls them.
    rows : tuple of str
        Arrays (n,) that files may hold as rows (1, n).
    grows : bool
        Whether keys were added without a new version: missing ones take their defaults.
    upgrades : mapping of int to function
        ``upgrades[v](data)`` turns a dictionary of version v into one of version v + 1.
    variants : tuple of functions
        Each turns another form that the current version has in some files into the usual one.
    """

    layout: str = ""
    name: str | None = None
    type: str | None = None
    version: int = 1
    accepts: tuple[int, ...] = (1,)
    params: tuple[str, ...] = ()
    buffers: tuple[str, ...] = ()
    children: tuple[str, ...] = ()
    constants: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    parts: Mapping[str, tuple[str | None, str]] = dataclasses.field(default_factory=dict)
    keys: Mapping[str, str] = dataclasses.field(default_factory=dict)
    arguments: Mapping[str, str] = dataclasses.field(default_factory=dict)
    rows: tuple[str, ...] = ()
    grows: bool = False
    upgrades: Mapping[int, Callable[[dict], dict]] = dataclasses.field(default_factory=dict)
    variants: tuple[Callable[[dict], dict], ...] = ()

    @property
    def arrays(self) -> tuple[str, ...]:
        """Names of all arrays."""
        return self.params + self.buffers

    @property
    def child_keys(self) -> dict[str, str]:
        """Key of every child."""
        keys = {**self.keys, **{name: keys[1] for name, keys in self.parts.items()}}
        return {name: keys.get(name, name) for name in self.children}

    @property
    def config(self) -> tuple[str, ...]:
        """Keys that the constructor is given when a dictionary is read."""
        others = {*SPECIAL, *self.child_keys.values(), *self.constants}
        return tuple(key for key in self.layout.split() if key not in others)
