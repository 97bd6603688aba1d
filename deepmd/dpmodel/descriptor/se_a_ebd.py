# SPDX-License-Identifier: LGPL-3.0-or-later
"""Smooth-edition descriptor with full information and the type embedding of the model.

As se_e2_a (:mod:`deepmd.dpmodel.descriptor.se_e2_a`), with one embedding network for all types in
place of one per type or pair of types. Slots and statistics are still those of types.
"""

from collections.abc import Collection
from typing import Any

from deepmd.dpmodel import ops
from deepmd.dpmodel.descriptor.base import Atoms, Descriptor
from deepmd.dpmodel.descriptor.environment import environment_serial
from deepmd.dpmodel.descriptor.pair_networks import PairNetworks
from deepmd.dpmodel.descriptor.se_e2_a import DescrptSeA
from deepmd.dpmodel.nn.tabulation import Tables, TableSettings
from deepmd.dpmodel.nn.type_embedding import TypeEmbedding
from deepmd.dpmodel.type_map import TypeChange
from deepmd.schema.common import POSITIVE
from deepmd.schema.settings import setting

_LAYOUT = (
    "rcut rcut_smth sel neuron axis_neuron tebd_dim resnet_dt set_davg_zero activation_function"
    " precision embeddings{strip} env_mat exclude_types env_protection @variables type_map trainable"
    " type_one_side spin"
)


class EmbeddedSeA(PairNetworks, DescrptSeA):
    """``D_i = T T_<ᵀ`` with ``T = (1/N) Σ_j G_ij ⊗ R_ij``; G embeds geometry and types."""

    by_center = False

    tebd_dim: int = setting(
        ..., "Length of the type embeddings of the model.", key=False, rule=POSITIVE
    )

    def kind_of_neighbor(self, b: int, atoms: Atoms) -> Any:
        """Number of the pair of types, (n, 1), for neighbors of type b."""
        return self.type_index(atoms, 0 * atoms.atype[:, None] + b)

    def reorder_networks(self, change: TypeChange) -> None:
        """Keep the networks, which see types through their embeddings only."""
        self.embeddings.ntypes = len(change.new)
        if self.embeddings_strip is not None:
            self.embeddings_strip.ntypes = len(change.new)

    def compress(self, settings: TableSettings) -> list[str]:
        """Tabulate the network of the geometry; see :class:`Descriptor`."""
        self.check_stripped()
        limits = self.radial_limits(range(self.ntypes), settings)
        data, info = self.tabulated(self.embeddings.networks[0], limits, settings)
        self.tables = Tables([data], [info])
        return []


@Descriptor.registry.register("se_e2_a_tebd")
class DescrptSeATebd(EmbeddedSeA):
    """One network ``G(s_ij, A_j, A_i)`` of geometry and types, or ``G(s_ij, A_j)`` one-sided."""

    serial = environment_serial("se_e2_a_tebd", _LAYOUT.format(strip=""))
    tebd_input_mode = "concat"

    def pair(self, a: int | None, b: int, atoms: Atoms, table: Any) -> Any:
        """Sum over the neighbors of type b of G ⊗ R, empty slots included: (n, ng, 4)."""
        kind = self.kind_of_neighbor(b, atoms)
        t = self.contracted(self.rows(a, atoms, table, b), kind, atoms)
        empty = self.contracted(self.padding_row(a, atoms), kind, atoms)
        return t + ops.times(empty, self.sel[b] - ops.shape(table)[1])

    def contracted(self, rows: Any, kind: Any, atoms: Atoms) -> Any:
        """Sum of G ⊗ R over rows (n, K, 4) of one kind (n, 1)."""
        space, network = ops.xp(rows), self.embeddings.networks[0]
        n, k = ops.shape(rows)[:2]
        types = ops.cast(atoms.types, self.dtype)
        if not network.layers[0].adds_input:
            index = space.broadcast_to(kind, (n, k))
            return network.contract(rows, self.first_layer(types), index, order=atoms.order)
        types = ops.take(self.kinds(types), kind)
        types = space.broadcast_to(types, (n, k, self.type_inputs * self.tebd_dim))
        g = network(space.concat([rows[..., :1], types], axis=-1))
        return ops.contract(g, rows)


@Descriptor.register("se_a_ebd_v2", "se_a_tpe_v2")
class DescrptSeAEbdV2(EmbeddedSeA):
    """As se_e2_a with types embedded apart: ``G = N_s(s_ij) (1 + N_t(A_j, A_i))``."""

    serial = environment_serial(
        "se_a_ebd_v2",
        _LAYOUT.format(strip=" embeddings_strip"),
        children=("embeddings", "embeddings_strip"),
    )
    tebd_input_mode = "strip"
    needs_types = True

    @classmethod
    def with_type_embedding(cls, section: dict[str, Any], types: TypeEmbedding) -> dict[str, Any]:
        """Return the section with the length of the type embeddings."""
        return {**section, "tebd_dim": types.neuron[-1]}

    def pair(self, a: int | None, b: int, atoms: Atoms, table: Any) -> Any:
        """Sum over the neighbors of type b of G ⊗ R, empty slots included: (n, ng, 4).

        Empty slots have the type embedding zero.
        """
        network = self.embeddings.networks[0]
        network = network if self.tables is None else self.tables.of(0, network)
        there = ops.cast(table >= 0, self.dtype)
        r = self.rows(a, atoms, table, b) * there[:, :, None]
        t = network.contract(r, order=atoms.order) * self.gate(b, atoms)
        empty = network.contract(self.padding_row(a, atoms)) * self.gate(self.ntypes, atoms)
        number = self.sel[b] - ops.xp(there).sum(there, axis=1)
        return t + empty * number[:, None, None]

    def warnings(self, hidden: Collection[tuple[int, int]] = ()) -> list[str]:
        """Return what a user should know of the physics; see :class:`Descriptor`."""
        found = super().warnings(hidden)
        if self.empty_slots_contribute:
            found.append(
                "energies of this model jump when a neighbor crosses the cutoff: empty slots have "
                "the mean of the environment, but no type; train with set_davg_zero"
            )
        return found

    def gate(self, b: int, atoms: Atoms) -> Any:
        """Factor of the features of neighbors of type b: (n, ng, 1)."""
        gates = self.embedded_types(ops.cast(atoms.types, self.dtype))
        return 1.0 + ops.take(gates, self.kind_of_neighbor(b, atoms)[:, 0])[:, :, None]
