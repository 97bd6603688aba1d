# SPDX-License-Identifier: LGPL-3.0-or-later
"""Other type maps for models that exist: types added, dropped and in another order.

Every component changes itself (:meth:`deepmd.dpmodel.module.Module.change_types`); this module has
the change they are given.
"""

import copy
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from deepmd.base.errors import InputError
from deepmd.dpmodel.module import Module
from deepmd.dpmodel.nn.random import Seed

_Kind = TypeVar("_Kind", bound=Any)


def change_type_map(model: _Kind, type_map: Sequence[str], *, seed: Seed = None) -> _Kind:
    """Return the same model for another type map; types are matched by name.

    Predictions for the types that stay are the same. A new type has no bias, statistics 0 and 1,
    and fresh parameters: a row of the type embedding, or networks of its own.

    Descriptors without type embedding have networks for pairs of types and count empty slots of
    every type. They take no new types, and keep what they hold of dropped ones, behind the
    others; pair tables take no new types either. New types have no spin.

    Parameters
    ----------
    model : Model or AtomicModel
        Stays as it is.
    type_map : sequence of str
        Names of the types.
    seed : int or tuple, optional
        Of fresh parameters.

    Raises
    ------
    InputError
        If the type map is wrong, or a type cannot be added.
    """
    names = _checked(type_map)
    changed = copy.deepcopy(model)
    changed.change_types(TypeChange(list(model.type_map), names, seed))
    return changed


def _checked(type_map: Sequence[str]) -> list[str]:
    names = [type_map] if isinstance(type_map, str) else list(type_map)
    if not names or not all(isinstance(n, str) and n for n in names):
        raise InputError(f"{names} is no list of names", where="type_map")
    twice = [n for n in names if names.count(n) > 1]
    if twice:
        raise InputError(f"{twice[0]} occurs twice", where="type_map")
    return names


@dataclasses.dataclass
class TypeChange:
    """Change from one type map to another; types are matched by name.

    Parameters
    ----------
    old, new : list of str
        Names of the types.
    seed : int or tuple, optional
        Of fresh parameters.
    hidden : sequence of str
        New types that are no neighbors of any: virtual atoms without a spin.
    done : set of int
        Identities of the modules that have been changed, since modules may be shared.
    """

    old: list[str]
    new: list[str]
    seed: Seed
    hidden: Sequence[str] = ()
    done: set[int] = dataclasses.field(default_factory=set)

    @property
    def index(self) -> np.ndarray:
        """Old number of every new type, -1 for types that were not there."""
        return np.array([self.old.index(n) if n in self.old else -1 for n in self.new])

    @property
    def added(self) -> list[str]:
        """Types that were not there."""
        return [n for n in self.new if n not in self.old]

    def apply(self, node: Any) -> None:
        """Change a module, or a list or dictionary of them, each once."""
        if node is None or id(node) in self.done:
            return
        if isinstance(node, Module):
            self.done.add(id(node))
            node.change_types(self)
            return
        for child in node.values() if isinstance(node, Mapping) else node:
            self.apply(child)

    def with_dropped(self) -> "TypeChange":
        """Return the change that keeps dropped types behind the others."""
        dropped = [n for n in self.old if n not in self.new]
        return dataclasses.replace(self, new=self.new + dropped)

    def beside(self, known: Sequence[str] | None) -> "TypeChange":
        """Return the change for a component that keeps dropped types, behind the others.

        Parameters
        ----------
        known : list of str
            Its types: those of the model, and behind them the ones that earlier changes dropped.
        """
        earlier = list(known or [])[len(self.old) :]
        return dataclasses.replace(self, old=self.old + earlier).with_dropped()

    def rows(self, array: Any, fill: Any, axis: int = 0) -> Any:
        """Reorder an array along the axis of the types; new types get ``fill``."""
        array = np.asarray(array)
        out = np.array(np.take(array, np.maximum(self.index, 0), axis=axis))
        where = [slice(None)] * out.ndim
        where[axis] = self.index < 0  # type: ignore[call-overload]
        out[tuple(where)] = fill
        return out

    def types(self, old: Sequence[int]) -> list[int]:
        """Renumber a list of types; dropped ones are left out."""
        numbers = self.index.tolist()
        return sorted(numbers.index(int(t)) for t in old if int(t) in numbers)

    def pairs(self, old: Sequence[Sequence[int]]) -> list[list[int]]:
        """Renumber pairs of types; pairs with a dropped one are left out."""
        numbers = self.index.tolist()
        kept = [
            [numbers.index(int(a)), numbers.index(int(b))]
            for a, b in old
            if int(a) in numbers and int(b) in numbers
        ]
        hidden = [self.new.index(name) for name in self.hidden]
        return kept + [[t, other] for t in hidden for other in range(len(self.new))]

    def values(self, old: Sequence[Any]) -> list[Any]:
        """Reorder a list with one entry per type (or fewer); new types get None."""
        return [old[t] if 0 <= t < len(old) else None for t in self.index]
