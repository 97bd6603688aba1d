# SPDX-License-Identifier: LGPL-3.0-or-later
"""A tabulated pair potential as a model: ``e_i = 1/2 Σ_j u(r_ij)``."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from deepmd.dpmodel import ops
from deepmd.dpmodel.atomic_model.base import AtomicModel, add_out_bias, without_excluded
from deepmd.dpmodel.descriptor.base import Atoms, Slots, edge_ends
from deepmd.dpmodel.module import Serial
from deepmd.dpmodel.neighbors import Packing
from deepmd.dpmodel.nn.pair_table import PairTable
from deepmd.dpmodel.output_def import FittingOutputDef, energy_output


@AtomicModel.register("pairtab")
class PairTabAtomicModel(AtomicModel):
    """Energy of a pair table.

    Parameters
    ----------
    tab : PairTable
    rcut : float
        Cutoff [Å].
    sel : int or list of int
        Largest number of neighbours; only the sum matters.
    type_map : list of str
    """

    serial = Serial(
        layout="type_map atom_exclude_types pair_exclude_types rcond preset_out_bias @variables"
        " @class @version type tab rcut sel",
        name="Model",
        type="pairtab",
        version=2,
        accepts=(2,),
        buffers=("out_bias", "out_std"),
        children=("tab",),
    )

    tab: Any

    def __init__(
        self,
        tab: PairTable | None,
        rcut: float,
        sel: int | Sequence[int],
        type_map: Sequence[str],
        *,
        atom_exclude_types: Sequence[int] = (),
        pair_exclude_types: Sequence[Sequence[int]] = (),
        rcond: float | None = None,
        preset_out_bias: Mapping[str, Any] | None = None,
    ) -> None:
        self.tab, self._rcut = tab, float(rcut)
        self._sel = int(sel) if isinstance(sel, int) else int(sum(sel))
        self._settings(type_map, atom_exclude_types, pair_exclude_types, rcond, preset_out_bias)
        self.out_bias = np.zeros((1, len(self.type_map), 1))
        self.out_std = np.ones_like(self.out_bias)

    @property
    def rcut(self) -> float:
        """Cutoff [Å]."""
        return self._rcut

    @property
    def sel(self) -> Any:
        """Largest number of neighbours."""
        return self._sel

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
    """Centre (n,), neighbour (n,) and length (n,) [Å] of the edges of a flat list."""
    space = ops.xp(atoms.padded)
    i, j = edge_ends(atoms, flat)
    d = ops.take(atoms.padded, flat)
    return i, j, space.sqrt(space.sum(d * d, axis=-1))
