# SPDX-License-Identifier: LGPL-3.0-or-later
"""Inputs of a model beside positions, cells and types: their names, levels and sizes."""

import dataclasses
from collections.abc import Iterable

from deepmd.dpmodel.output_def import Level


@dataclasses.dataclass(frozen=True)
class InputDef:
    """One input of a model, declared by the component that reads it.

    Parameters
    ----------
    name : str
        Its name in calls and, with ``.npy``, in data.
    level : Level
        Whether it belongs to frames or to atoms.
    size : int
        Numbers per frame or atom.
    default : tuple of float, optional
        Value where none is given; without one it is required.
    """

    name: str
    level: Level
    size: int
    default: tuple[float, ...] | None = None


def merge_inputs(parts: Iterable[Iterable[InputDef]]) -> tuple[InputDef, ...]:
    """Return the inputs of several components, each name once.

    Components that read fewer numbers take the first ones; the first default there is holds.
    """
    found: dict[str, InputDef] = {}
    for part in parts:
        for one in part:
            known = found.get(one.name, one)
            wider = known if known.size >= one.size else one
            default = one.default if known.default is None else known.default
            found[one.name] = dataclasses.replace(wider, default=default)
    return tuple(found.values())
