# SPDX-License-Identifier: LGPL-3.0-or-later
"""Smooth-edition descriptor with three-body embedding of angles.

Wang et al., "A deep learning interatomic potential developed for atomistic simulation of carbon
materials", Carbon 186, 1 (2022).
"""

from typing import Any

from deepmd.dpmodel import ops
from deepmd.dpmodel.descriptor.base import Atoms, Descriptor, DescriptorOutput, Slots
from deepmd.dpmodel.descriptor.environment import environment_serial
from deepmd.dpmodel.descriptor.typed import TypedDescriptor
from deepmd.dpmodel.nn.tabulation import Limits, TableSettings


@Descriptor.register("se_e3", "se_at", "se_a_3be", "se_t")
class DescrptSeT(TypedDescriptor):
    r"""``D_i = Σ_{a≤b} 1/(N_a N_b) Σ_{j∈a, k∈b} θ_jk G_ab(θ_jk)``, ``θ_jk = R_j · R_k``.

    R_j are the angular components of the normalized environment matrix; the sum over pairs of one
    type runs over all ordered pairs, j = k included.
    """

    serial = environment_serial(
        "se_e3",
        "rcut rcut_smth sel neuron resnet_dt set_davg_zero"
        " activation_function precision embeddings env_mat exclude_types env_protection type_map"
        " @variables trainable",
        constants=("env_mat",),
    )
    torch_prefix = "seat."
    type_one_side = True  # centers of all types are treated alike
    ndim = 2  # types of the two neighbors
    symmetric_networks = True
    empty_slots_contribute = False  # their angles are 0

    def call(self, atoms: Atoms, slots: Slots) -> DescriptorOutput:
        """Evaluate the descriptor of every atom: value (n_atoms, ng)."""
        tables = slots[self.packing]
        angular = [self.rows(None, atoms, t, b)[..., 1:] for b, t in enumerate(tables)]
        empty = self.padding_row(None, atoms)[..., 1:]
        total: Any = 0.0
        for b in range(self.ntypes):
            for a in range(b + 1):
                if self.sel[a] and self.sel[b]:
                    scale = 1.0 / (self.sel[a] * self.sel[b])
                    total = total + scale * self.pair(
                        a, b, angular[a], angular[b], empty, atoms.order
                    )
        return DescriptorOutput(total)

    def pair(self, a: int, b: int, ra: Any, rb: Any, empty: Any, order: int) -> Any:
        """Sum over slots of types a and b, empty ones included: (n, ng).

        The ``sel - K`` slots beyond the blocks ra (n, K_a, 3) and rb (n, K_b, 3) all hold the row
        ``empty`` (n, 1, 3), so that each of the three further sums is one row times a number.
        """
        more_a, more_b = self.sel[a] - ops.shape(ra)[1], self.sel[b] - ops.shape(rb)[1]
        return (
            self.angles(a, b, ra, rb, order)
            + ops.times(self.angles(a, b, ra, empty, order), more_b)
            + ops.times(self.angles(a, b, empty, rb, order), more_a)
            + ops.times(self.angles(a, b, empty, empty, order), more_a * more_b)
        )

    def angles(self, a: int, b: int, ra: Any, rb: Any, order: int) -> Any:
        """Sum of θ G(θ) over all pairs of rows: (n, ng)."""
        space = ops.xp(ra)
        theta = space.matmul(ra, ops.matrix_transpose(rb))
        n, ka, kb = ops.shape(theta)
        theta = space.reshape(theta, (n, ka * kb, 1))
        return self.network(a, b).contract(theta, order=order)[:, :, 0]

    def network(self, a: int | None, b: int) -> Any:
        """Embedding network of angles between neighbors of types a <= b."""
        k = (a or 0) + b * self.ntypes
        network = self.embeddings.networks[k]
        return network if self.tables is None else self.tables.of(k, network, symmetric=True)

    def table_limits(self, k: int, settings: TableSettings) -> Limits | None:
        """Limits of the products of angular components, or None for networks that are not used."""
        a, b = k % self.ntypes, k // self.ntypes
        if a > b or not (self.sel[a] and self.sel[b]):
            return None
        # By the first neighbor's type, as DeePMD-kit has it; beyond, the table is coarser.
        return self.angular_limits([a], settings)
