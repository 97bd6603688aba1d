# SPDX-License-Identifier: LGPL-3.0-or-later
"""Descriptors with distinguished neighbor types: blocks per type, and padding."""

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import numpy as np

from deepmd.base.errors import InputError
from deepmd.dpmodel import ops
from deepmd.dpmodel.descriptor.base import Atoms, Descriptor, DescriptorOutput, Slots
from deepmd.dpmodel.descriptor.environment import EnvironmentDescriptor, per_center
from deepmd.dpmodel.neighbors import Packing
from deepmd.dpmodel.nn.layers import EmbeddingNetwork, NetworkCollection
from deepmd.dpmodel.nn.random import child_seed
from deepmd.dpmodel.nn.tabulation import Limits, Tables, TableSettings
from deepmd.dpmodel.type_map import TypeChange
from deepmd.schema.descriptor import NEURON
from deepmd.schema.network import ACTIVATION, timestep
from deepmd.schema.settings import setting


class TypedNeighbors(Descriptor):
    """A descriptor that reads one block of neighbors per type."""

    type_one_side: bool = False

    @property
    def ntypes(self) -> int:
        """Number of types."""
        return len(self.sel)

    def packings(self) -> list[Packing]:
        """One table per neighbor type; centers grouped by type when these differ."""
        return [self.packing]

    @property
    def packing(self) -> Packing:
        """The layout of the neighbors."""
        return Packing("typed", self.ntypes, self.rcut, tuple(self.sel), self.by_center)

    @property
    def by_center(self) -> bool:
        """Whether centers of different types are treated apart."""
        return not self.type_one_side

    def groups(self, atoms: Atoms, slots: Slots) -> Iterator[tuple[Any, Any, list[Any]]]:
        """Iterate over (center type or None, rows or None, tables per neighbor type)."""
        tables = slots[self.packing]
        if not self.by_center:
            yield None, None, tables
            return
        step = self.ntypes + 1
        for a in range(self.ntypes):
            part = tables[a * step : (a + 1) * step]
            yield a, part[0], part[1:]

    def adopt(self, change: TypeChange) -> TypeChange:
        """Take the new names; return the change that keeps dropped types behind the others.

        Raises
        ------
        InputError
            If types are added.
        """
        if change.added:
            raise InputError(
                f"the descriptor {self.serial.type} has parameters of its own for every type and "
                f"none for {', '.join(change.added)}",
                where="type_map",
                fix="train a new model, or start from one with type embeddings, such as dpa1",
            )
        change = change.beside(self.type_map)
        self.type_map = list(change.new)
        return change

    @staticmethod
    def assemble(atoms: Atoms, parts: Sequence[tuple[Any, DescriptorOutput]]) -> DescriptorOutput:
        """Put the outputs of groups of centers, (rows, output), into the order of the atoms."""
        if len(parts) == 1 and parts[0][0] is None:
            return parts[0][1]
        n = ops.shape(atoms.atype)[0]
        space = ops.xp(parts[0][1].value)
        index = space.concat([rows for rows, _ in parts], axis=0)

        def merge(name: str) -> Any:
            values = [getattr(output, name) for _, output in parts]
            if values[0] is None:
                return None
            return ops.scatter_rows(space.concat(values, axis=0), index, n)

        return DescriptorOutput(merge("value"), merge("rotation"))


class TypedDescriptor(TypedNeighbors, EnvironmentDescriptor):  # type: ignore[override]
    """A descriptor on the environment matrix, one block of neighbors per type.

    The definition has ``sel[b]`` slots for neighbors of type b. A block holds ``K`` of them, as
    many as the batch needs; the other ``sel[b] - K`` are a constant, which :meth:`padding_row`
    supplies.
    """

    embeddings: Any
    #: Whether only networks (a, b) with a <= b are used.
    symmetric_networks: ClassVar[bool] = False

    neuron: list[int] = NEURON
    type_one_side: bool = setting(
        False, "Embedding networks depend on the neighbor's type only, not on the center's."
    )
    activation_function: str = ACTIVATION
    resnet_dt: bool = timestep(False)

    def build(self) -> None:
        super().build()
        self.make_networks()

    def make_networks(self) -> None:
        """Make the networks, with initial values."""
        networks = [
            self.part(EmbeddingNetwork, in_dim=1, seed=child_seed(self.seed, k))
            for k in range(self.ntypes**self.ndim)
        ]
        self.embeddings = NetworkCollection(self.ndim, self.ntypes, "embedding_network", networks)

    def change_types(self, change: TypeChange) -> np.ndarray | None:
        """Reorder statistics, slots and networks; see :class:`Descriptor`."""
        change = self.adopt(change)
        self.change_statistics(change)
        self.exclude_types = change.pairs(self.exclude_types)
        self.sel = [self.sel[t] for t in change.index]
        self.reorder_networks(change)
        return None

    def reorder_networks(self, change: TypeChange) -> None:
        """Put the networks into the order of the new types."""
        nets, n = self.embeddings, len(change.new)
        old = list(nets.networks)
        if nets.ndim == 1:
            nets.networks = [old[t] for t in change.index]
            return
        for a, s in enumerate(change.index):
            for b, t in enumerate(change.index):
                pair = sorted((s, t), reverse=a > b) if self.symmetric_networks else (s, t)
                nets.networks[a + b * n] = old[pair[0] + pair[1] * n]

    def compress(self, settings: TableSettings) -> list[str]:
        """Tabulate the networks of all types, or pairs, that see each other."""
        made = []
        for k, network in enumerate(self.embeddings.networks):
            limits = self.table_limits(k, settings)
            none = np.zeros((0, 0)), np.zeros(0)
            made.append(
                none
                if limits is None
                else self.tabulated(network, limits, settings, symmetric=self.symmetric_networks)
            )
        self.tables = Tables([data for data, _ in made], [info for _, info in made])
        return []

    def table_limits(self, k: int, settings: TableSettings) -> Limits | None:
        """Smallest and largest input of network k, or None where it has none but empty slots."""
        b, every = k // self.ntypes, range(self.ntypes)
        centers: Sequence[int] = [k % self.ntypes]
        if self.type_one_side:
            b, centers = k, [a for a in every if self.sel[a] > 0]
        centers = [a for a in centers if not self.excluded(a, b)]
        return self.radial_limits(centers, settings) if centers else None

    @property
    def ndim(self) -> int:
        """Number of types that a network is for."""
        return 1 if self.type_one_side else 2

    @property
    def empty_slots_contribute(self) -> bool:
        """Whether empty slots change the descriptor: where the environment has a mean."""
        return bool(np.asarray(self.davg).any())

    @property
    def dim_out(self) -> int:
        """Width of the descriptor."""
        return self.neuron[-1]

    def network(self, a: int | None, b: int) -> Any:
        """Embedding network of neighbors of type b of centers of type a (None: of all types)."""
        k = b if a is None else a + b * self.ntypes
        network = self.embeddings.networks[k]
        return network if self.tables is None else self.tables.of(k, network)

    def rows(self, a: int | None, atoms: Atoms, table: Any, b: int) -> Any:
        """Normalized environment rows (n, K, width) of neighbors of type b, in the precision.

        ``a`` is the type of all centers, or None when ``table`` has a row for every atom.
        """
        r = self.normalized(a, atoms, table)
        if any(self.excluded(t, b) for t in range(self.ntypes)):
            # An excluded neighbor counts nothing, but an empty slot beside it still does.
            seen = np.array([[float(not self.excluded(t, b))] for t in range(self.ntypes)])
            empty = ops.cast(table < 0, "float64")[:, :, None]
            seen = per_center(ops.like(seen, r), a, atoms)
            r = r * (seen + (1.0 - seen) * empty)
        return ops.cast(r, self.dtype)
