# SPDX-License-Identifier: LGPL-3.0-or-later
"""Numbers of neighbors in sections of plugins, whose classes replace ``"auto"`` by a method."""

from collections.abc import Iterator
from typing import Any

from deepmd.schema.descriptor import Selection

#: Stands for the answer to the first request; no section has such numbers of neighbors.
_FIRST = 1_000_003


class Requests:
    """Data of which is noted what is asked: cutoffs, and whether types are counted together."""

    def __init__(self) -> None:
        self.asked: list[tuple[float, bool]] = []

    def answer(self, rcut: float, sel: Any, mixed: bool) -> list[int]:
        """Return numbers that are recognized where the caller puts them."""
        mark = _FIRST + len(self.asked)
        self.asked.append((float(rcut), mixed))
        several = isinstance(sel, list) and not mixed
        return [mark] * (len(sel) if several else 1)


def selections_by_class(code: Any, section: dict[str, Any], where: str) -> Iterator[Selection]:
    """Iterate over the numbers of neighbors that ``code.update_sel`` replaces.

    Parameters
    ----------
    code : type
        With a class method ``update_sel(train_data, type_map, section) -> (section, distance)``.
    section : dict
    where : str
        Path of the section.
    """
    method = getattr(code, "update_sel", None)
    if method is None:
        return
    requests = Requests()
    found, _ = method(requests, section.get("type_map"), dict(section))
    for k, (rcut, mixed) in enumerate(requests.asked):
        for key, value in found.items():
            if value == _FIRST + k or (isinstance(value, list) and _FIRST + k in value):
                yield Selection(section, key, f"{where}/{key}", rcut, mixed)
