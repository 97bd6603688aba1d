# SPDX-License-Identifier: LGPL-3.0-or-later
"""A tabulated pair potential as a model: ``e_i = 1/2 Σ_j u(r_ij)``."""

from collections.abc import Iterator, Sequence
from typing import Any

from deepmd.dpmodel import ops
from deepmd.dpmodel.atomic_model.base import (
    AtomicModel,
    add_out_bias,
    atomic_serial,
    total,
    without_excluded,
)
from deepmd.dpmodel.descriptor.base import Atoms, Slots, edge_ends
from deepmd.dpmodel.neighbors import Packing
from deepmd.dpmodel.nn.pair_table import PairTable
from deepmd.dpmodel.output_def import FittingOutputDef, energy_output
from deepmd.dpmodel.type_map import TypeChange
from deepmd.schema.descriptor import CutoffSettings, Selection, selections_of


@AtomicModel.register("pairtab")
class PairTabAtomicModel(AtomicModel):
    """Energy of a pair table.

    Parameters
    ----------
    tab : PairTable
    rcut : float
        Cutoff [Å].
    sel : int or list of int
        Largest number of neighbors; only the sum matters.
    type_map : list of str
    """

    serial = atomic_serial("pairtab", 2, "tab rcut sel", ("tab",))
    torch_names = {"tab": ""}

    tab: Any

    def __init__(
        self,
        tab: PairTable | None,
        rcut: float,
        sel: int | Sequence[int],
        type_map: Sequence[str],
        **settings: Any,
    ) -> None:
        self.tab, self._rcut, self._sel = tab, float(rcut), total(sel)
        super().__init__(type_map, **settings)

    @classmethod
    def selections(cls, section: dict[str, Any], where: str) -> Iterator[Selection]:
        """Iterate over the number of neighbors, of all types together."""
        return selections_of(CutoffSettings, section, where, mixed=True)

    @property
    def rcut(self) -> float:
        """Cutoff [Å]."""
        return self._rcut

    @property
    def sel(self) -> Any:
        """Largest number of neighbors."""
        return self._sel

    def change_types(self, change: TypeChange) -> None:
        """Adopt another type map, of the same types or fewer."""
        self.tab.change_types(change)
        super().change_types(change)

    def output_def(self) -> FittingOutputDef:
        """An energy."""
        return energy_output()

    @property
    def packing(self) -> Packing:
        """The pairs."""
        pairs = tuple((int(a), int(b)) for a, b in self.pair_exclude_types)
        return Packing("flat", self.ntypes, self.rcut, (self._sel,), exclude=pairs)

    def packings(self) -> list[Packing]:
        """The pairs."""
        return [self.packing]

    def call(self, atoms: Atoms, slots: Slots, extra: Sequence[str] = ()) -> dict[str, Any]:
        """Evaluate every atom; see :class:`AtomicModel`."""
        i, j, r = edges_of(atoms, slots[self.packing][0])
        u = self.tab(r, ops.take(atoms.atype, i), ops.take(atoms.atype, j))
        energy = 0.5 * ops.segment_sum(u[:, None], i, ops.shape(atoms.atype)[0])
        return without_excluded(self, add_out_bias(self, {"energy": energy}, atoms), atoms)

    @classmethod
    def construct(cls, config: dict, data: dict) -> Any:
        return cls(None, **config)


def edges_of(atoms: Atoms, flat: Any) -> tuple[Any, Any, Any]:
    """Center (n,), neighbor (n,) and length (n,) [Å] of the edges of a flat list."""
    space = ops.xp(atoms.padded)
    i, j = edge_ends(atoms, flat)
    d = ops.take(atoms.padded, flat)
    return i, j, space.sqrt(space.sum(d * d, axis=-1))
