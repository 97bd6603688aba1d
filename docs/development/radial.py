# SPDX-License-Identifier: LGPL-3.0-or-later
"""A complete descriptor: soft histograms of the distances to neighbors of each type.

It is the example of ``docs/development/adding_a_component.md``, and its tests run with the others.
"""

from typing import Any

from deepmd.dpmodel import ops
from deepmd.dpmodel.descriptor import Atoms, Descriptor, DescriptorOutput
from deepmd.dpmodel.descriptor.base import Slots
from deepmd.dpmodel.module import Serial
from deepmd.dpmodel.neighbors import Packing
from deepmd.dpmodel.nn.environment import switch
from deepmd.dpmodel.nn.random import Seed
from deepmd.schema.common import POSITIVE
from deepmd.schema.descriptor import CutoffSettings
from deepmd.schema.settings import setting


@Descriptor.register("radial")
class Radial(CutoffSettings, Descriptor):
    r"""``D_i,bk = Σ_{j of type b} w(r_ij) exp(-(r_ij - c_k)² / 2 h²)``, w the smooth switch.

    The c_k are evenly spaced from 0 to the cutoff, h is their distance.
    """

    serial = Serial(
        layout="@class type @version rcut rcut_smth sel bins type_map",
        name="Descriptor",
        type="radial",
    )

    bins: int = setting(8, "Number of centers between 0 and the cutoff.", rule=POSITIVE)
    seed: Seed = setting(None, "No numbers are drawn here.", key=False)

    @property
    def ntypes(self) -> int:
        """Number of types."""
        return len(self.sel)

    @property
    def dim_out(self) -> int:
        """Width of the descriptor."""
        return self.ntypes * self.bins

    @property
    def packing(self) -> Packing:
        """One table of neighbors per type."""
        return Packing("typed", self.ntypes, self.rcut, tuple(self.sel))

    def packings(self) -> list[Packing]:
        """Layouts of neighbors this descriptor reads."""
        return [self.packing]

    def call(self, atoms: Atoms, slots: Slots) -> DescriptorOutput:
        """Evaluate the descriptor of every atom: value (n_atoms, dim_out)."""
        parts = [self.histogram(ops.take(atoms.padded, table)) for table in slots[self.packing]]
        return DescriptorOutput(ops.xp(atoms.padded).concat(parts, axis=-1))

    def histogram(self, d: Any) -> Any:
        """Histogram (n_atoms, bins) of neighbors d (n_atoms, K, 3) [Å].

        An empty slot holds a vector as long as the cutoff, where the switch is 0.
        """
        space = ops.xp(d)
        r = space.sqrt(space.sum(d * d, axis=-1, keepdims=True))
        h = self.rcut / (self.bins - 1)
        centers = ops.like([k * h for k in range(self.bins)], d)
        x = (r - centers) / h
        return space.sum(switch(r, self.rcut, self.rcut_smth) * space.exp(-0.5 * x * x), axis=1)
