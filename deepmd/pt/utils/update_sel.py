# SPDX-License-Identifier: LGPL-3.0-or-later
"""Numbers of neighbors from data under the name that plugins import."""

from typing import Any

from deepmd.data.arrays import DeepmdDataSystem
from deepmd.data.neighbor_stat import neighbor_stat, resolve_sel
from deepmd.pt.native.selection import Requests


class UpdateSel:
    """Replacement of ``"auto"`` by what is found in the data."""

    def update_one_sel(
        self,
        train_data: DeepmdDataSystem | Requests,
        type_map: list[str] | None,
        rcut: float,
        sel: Any,
        mixed_type: bool = False,
    ) -> tuple[float, list[int]]:
        """Return the smallest distance [Å], and the numbers of neighbors inside a cutoff.

        Parameters
        ----------
        train_data : DeepmdDataSystem
        type_map : list of str, optional
        rcut : float
            Cutoff [Å].
        sel : int, list of int or str
            Numbers stay; ``"auto"`` and ``"auto:1.1"`` are replaced.
        mixed_type : bool
            Whether types are counted together.
        """
        if isinstance(train_data, Requests):
            return 0.0, train_data.answer(rcut, sel, mixed_type)
        systems = [one.system for one in train_data.data_systems]
        ntypes = len(type_map) if type_map else train_data.get_ntypes()
        distance, most = neighbor_stat(systems, rcut, ntypes, mixed_types=mixed_type)
        found = resolve_sel(sel, most, where="sel")
        return distance, [found] if isinstance(found, int) else list(found)
