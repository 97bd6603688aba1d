# SPDX-License-Identifier: LGPL-3.0-or-later
"""Smooth-edition descriptor with full (radial and angular) information, two-body embedding.

Zhang et al., "End-to-end symmetry preserving inter-atomic potential energy model for finite and
extended systems", NeurIPS 2018, eq. 7-13.
"""

from collections.abc import Sequence
from typing import Any

from deepmd.dpmodel import ops
from deepmd.dpmodel.descriptor.base import Atoms, Descriptor, DescriptorOutput, Slots
from deepmd.dpmodel.descriptor.environment import environment_serial, symmetrized
from deepmd.dpmodel.descriptor.typed import TypedDescriptor
from deepmd.dpmodel.nn.type_embedding import TypeEmbedding
from deepmd.schema.descriptor import AXIS_NEURON


@Descriptor.register("se_e2_a", "se_a")
class DescrptSeA(TypedDescriptor):
    r"""``D_i = T T_<ᵀ`` with ``T = (1/N) Σ_j G(s_ij) ⊗ R_ij``.

    R is the normalized environment matrix, G the embedding of its radial component, ``T_<`` the
    first ``axis_neuron`` rows of T.
    """

    serial = environment_serial(
        "se_e2_a",
        "rcut rcut_smth sel neuron axis_neuron resnet_dt set_davg_zero"
        " activation_function precision embeddings env_mat exclude_types env_protection @variables"
        " type_map trainable type_one_side spin",
    )
    torch_prefix = "sea."
    spin = None

    axis_neuron: int = AXIS_NEURON

    @classmethod
    def with_type_embedding(cls, section: dict[str, Any], types: TypeEmbedding) -> dict[str, Any]:
        """Return the section of the descriptor with one network for all types."""
        return {**section, "type": "se_e2_a_tebd", "tebd_dim": types.neuron[-1]}

    @property
    def dim_out(self) -> int:
        """Width of the descriptor."""
        return self.neuron[-1] * self.axis_neuron

    @property
    def dim_embed(self) -> int:
        """Width of the rotation matrix."""
        return self.neuron[-1]

    def call(self, atoms: Atoms, slots: Slots) -> DescriptorOutput:
        """Evaluate the descriptor of every atom.

        Returns
        -------
        DescriptorOutput
            value (n_atoms, ng * axis_neuron), rotation (n_atoms, ng, 3).
        """
        parts = [
            (rows, self.group(a, atoms, tables)) for a, rows, tables in self.groups(atoms, slots)
        ]
        return self.assemble(atoms, parts)

    def group(self, a: int | None, atoms: Atoms, tables: Sequence[Any]) -> DescriptorOutput:
        """Descriptor of the centers of type ``a``, or of all; tables[b] (n, K_b) has type b."""
        pairs = (self.pair(a, b, atoms, table) for b, table in enumerate(tables))
        return symmetrized(sum(pairs), self.nnei, self.axis_neuron)

    def pair(self, a: int | None, b: int, atoms: Atoms, table: Any) -> Any:
        """Sum over the neighbors of type b of G ⊗ R, empty slots included: (n, ng, 4)."""
        network = self.network(a, b)
        r = self.rows(a, atoms, table, b)
        t = network.contract(r, order=atoms.order)
        empty = self.padding_row(a, atoms)
        missing = self.sel[b] - ops.shape(table)[1]
        return t + ops.times(network.contract(empty), missing)
