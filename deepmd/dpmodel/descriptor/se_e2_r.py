# SPDX-License-Identifier: LGPL-3.0-or-later
"""Smooth-edition descriptor with radial information only, two-body embedding.

Zhang et al., "End-to-end symmetry preserving inter-atomic potential energy model for finite and
extended systems", NeurIPS 2018.
"""

from typing import Any

from deepmd.dpmodel import ops
from deepmd.dpmodel.descriptor.base import Atoms, Descriptor, DescriptorOutput, Slots
from deepmd.dpmodel.descriptor.environment import environment_serial
from deepmd.dpmodel.descriptor.typed import TypedDescriptor

# The fixed factor of the definition.
SCALE = 0.2


@Descriptor.register("se_e2_r", "se_r")
class DescrptSeR(TypedDescriptor):
    r"""``D_i = 1/5 (1/N) Σ_j G(s_ij)``, G the embedding of the normalized radial component s."""

    serial = environment_serial(
        "se_r",
        "rcut rcut_smth sel neuron resnet_dt set_davg_zero"
        " activation_function precision embeddings env_mat exclude_types env_protection @variables"
        " type_map trainable type_one_side spin",
    )
    spin = None
    width = 1

    def call(self, atoms: Atoms, slots: Slots) -> DescriptorOutput:
        """Evaluate the descriptor of every atom: value (n_atoms, ng)."""
        parts = []
        for a, rows, tables in self.groups(atoms, slots):
            total = sum(self.pair(a, b, atoms, table) for b, table in enumerate(tables))
            parts.append((rows, DescriptorOutput(total * (SCALE / self.nnei))))
        return self.assemble(atoms, parts)

    def pair(self, a: int | None, b: int, atoms: Atoms, table: Any) -> Any:
        """Sum of G over the slots of type b, empty ones included: (n, ng)."""
        network = self.network(a, b)
        g = network(self.rows(a, atoms, table, b))
        missing = self.sel[b] - ops.shape(table)[1]
        empty = network(self.padding_row(a, atoms))[:, 0, :]
        return ops.xp(g).sum(g, axis=1) + ops.times(empty, missing)
