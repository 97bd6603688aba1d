# SPDX-License-Identifier: LGPL-3.0-or-later
"""A descriptor of a package of its own, in one file that nothing else knows of.

Its keys are not those of others, it has arrays per type, statistics, and something to say.
"""

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from deepmd.dpmodel import ops
from deepmd.dpmodel.batch import Batch
from deepmd.dpmodel.descriptor import Atoms, Descriptor, DescriptorOutput
from deepmd.dpmodel.descriptor.base import Slots, edge_ends
from deepmd.dpmodel.module import Serial
from deepmd.dpmodel.neighbors import Packing, pack
from deepmd.dpmodel.nn.environment import switch
from deepmd.dpmodel.nn.random import Seed
from deepmd.dpmodel.type_map import TypeChange
from deepmd.schema.common import POSITIVE
from deepmd.schema.settings import setting


@Descriptor.register("shells")
class Shells(Descriptor):
    r"""``D_ik = (Σ_j c_{t_j} w(r_ij) exp(-(r_ij - r_k)² / 2 h²) - mean) / deviation``.

    The coefficients c of the types are trained; mean and deviation are one number per type.
    """

    serial = Serial(
        layout="@class type @version reach slots bins type_map @variables",
        name="Descriptor",
        type="shells",
        params=("coefficients",),
        buffers=("mean", "deviation"),
    )
    mixed_types = True

    reach: float = setting(4.0, "Cutoff, Å.", rule=POSITIVE)
    slots: int = setting(
        "auto", 'Largest number of neighbors, or "auto".', kind=[int, str], within="reach"
    )
    bins: int = setting(4, "Number of shells.", rule=POSITIVE)
    seed: Seed = setting(None, "No numbers are drawn here.", key=False)

    def build(self) -> None:
        """Make coefficients of one, and statistics that change nothing."""
        self.coefficients = np.ones((self.ntypes, 1))
        self.mean, self.deviation = np.zeros((self.ntypes, 1)), np.ones((self.ntypes, 1))

    @property
    def ntypes(self) -> int:
        """Number of types."""
        return len(self.type_map or [])

    @property
    def rcut(self) -> float:  # type: ignore[override]
        """Cutoff [Å]."""
        return self.reach

    @property
    def sel(self) -> list[int]:  # type: ignore[override]
        """Largest number of neighbors."""
        return [self.slots]

    @property
    def dim_out(self) -> int:
        """Width of the descriptor."""
        return self.bins

    @property
    def packing(self) -> Packing:
        """One table of neighbors of all types."""
        return Packing("mixed", self.ntypes, self.rcut, (self.slots,))

    def packings(self) -> list[Packing]:
        """Layouts of neighbors this descriptor reads."""
        return [self.packing]

    def shells(self, atoms: Atoms, table: Any) -> Any:
        """Sums over the neighbors of a table (n, K), before normalization: (n, bins)."""
        d = ops.take(atoms.padded, table)
        space = ops.xp(d)
        r = space.sqrt(space.sum(d * d, axis=-1, keepdims=True))
        step = self.reach / self.bins
        x = (r - ops.like([k * step for k in range(self.bins)], d)) / step
        _, j = edge_ends(atoms, table)  # an empty slot lies at the cutoff, where the switch is 0
        weight = ops.take(self.coefficients, ops.take(atoms.atype, j))
        return space.sum(weight * switch(r, self.reach, 0.5) * space.exp(-0.5 * x * x), axis=1)

    def call(self, atoms: Atoms, slots: Slots) -> DescriptorOutput:
        """Evaluate the descriptor of every atom."""
        raw = self.shells(atoms, slots[self.packing][0])
        mean, deviation = (ops.take(a, atoms.atype) for a in (self.mean, self.deviation))
        return DescriptorOutput((raw - mean) / deviation)

    # -- operations ---------------------------------------------------------------------------

    def change_types(self, change: TypeChange) -> None:
        """Adopt another type map; new types are like none."""
        for name, fill in (("coefficients", 0.0), ("mean", 0.0), ("deviation", 1.0)):
            setattr(self, name, change.rows(getattr(self, name), fill))
        self.type_map = list(change.new)

    def warnings(self, hidden: Collection[tuple[int, int]] = ()) -> list[str]:
        """Return what a user should know of the physics."""
        return ["shells sees distances only: structures that differ by angles look the same"]

    def statistics_key(self) -> dict[str, Any]:
        """Return what the statistics depend on."""
        return {"type": "shells", "reach": self.reach, "slots": self.slots, "bins": self.bins}

    def environment_sums(self, batch: Batch) -> dict[str, np.ndarray]:
        """Sum all shells of the atoms of a type: number, sum, squares."""
        vec = batch.vectors()
        padded = np.concatenate([vec, [[self.reach, 0.0, 0.0]]])
        atoms = Atoms(padded, batch.edges.i, batch.edges.j, batch.atype, batch.frame)
        (table,) = pack(self.packings(), batch.edges, batch.atype, vec)
        if not len(batch.atype):
            return {f"shells_{t}": np.zeros(3) for t in range(self.ntypes)}
        raw = self.shells(atoms, table)
        rows = [raw[batch.atype == t] for t in range(self.ntypes)]
        return {
            f"shells_{t}": np.array([x.size, x.sum(), (x * x).sum()]) for t, x in enumerate(rows)
        }

    def set_statistics(self, sums: Mapping[str, np.ndarray]) -> None:
        """Set mean and deviation from the sums of all sampled frames."""
        for t in range(self.ntypes):
            n, total, squares = sums[f"shells_{t}"]
            if n:
                self.mean[t] = total / n
                self.deviation[t] = max(np.sqrt(max(squares / n - (total / n) ** 2, 0.0)), 0.01)
