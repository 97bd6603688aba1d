# SPDX-License-Identifier: LGPL-3.0-or-later
"""Descriptors without distinguished types: one list of neighbors, type embeddings."""

from typing import Any, NamedTuple

import numpy as np

from deepmd.base.errors import InputError, ModelFileError
from deepmd.dpmodel import ops
from deepmd.dpmodel.descriptor.base import Atoms, Descriptor, Slots
from deepmd.dpmodel.descriptor.environment import EnvironmentDescriptor, per_center
from deepmd.dpmodel.descriptor.pair_networks import TEBD_INPUT_MODE, PairNetworks
from deepmd.dpmodel.module import Module
from deepmd.dpmodel.neighbors import Packing
from deepmd.dpmodel.nn.environment import environment
from deepmd.dpmodel.nn.random import child_seed
from deepmd.dpmodel.nn.tabulation import Tables, TableSettings
from deepmd.dpmodel.nn.type_embedding import TypeEmbedding
from deepmd.dpmodel.type_map import TypeChange
from deepmd.schema.common import POSITIVE
from deepmd.schema.descriptor import (
    ENV_PROTECTION,
    EXCLUDE_TYPES,
    NEURON,
    SEL_OF_ALL,
    TRAINABLE,
)
from deepmd.schema.network import ACTIVATION, PRECISION, SEED, timestep
from deepmd.schema.settings import setting


class Neighborhood(NamedTuple):
    """The slots of every atom, in the model's precision.

    Attributes
    ----------
    rows : (n, K, 4)
        Normalized environment.
    switch : (n, K)
        0 in empty slots.
    mask : (n, K)
        1 for a neighbor, 0 for an empty slot.
    types : (n, K) int
        Type of the neighbor; for an empty slot the type whose embedding it takes.
    empty : (n, 1, 4)
        Row of an empty slot.
    empty_type : (n, 1) int
    more : int
        Empty slots of the definition beyond K.
    """

    rows: Any
    switch: Any
    mask: Any
    types: Any
    empty: Any
    empty_type: Any
    more: Any


class MixedTypes(Descriptor):
    """A descriptor that does not distinguish types by networks or slots of their own."""

    mixed_types = True
    exclude_types: Any

    ntypes: int = setting(None, "Number of types, by default that of their names.", key=False)

    def build(self) -> None:
        if self.ntypes is None:
            self.ntypes = len(self.type_map or [])
        super().build()

    def change_types(self, change: TypeChange) -> np.ndarray | None:
        """Adopt another type map: only type embeddings and statistics have rows per type."""
        Module.change_types(self, change)
        self.exclude_types = change.pairs(self.exclude_types)
        if self.type_map is not None:
            self.type_map = list(change.new)
        return None


class MixedNeighbors(EnvironmentDescriptor, MixedTypes):
    """A descriptor that reads one list of neighbors of all types."""

    sel: list[int] = SEL_OF_ALL

    @property
    def packing(self) -> Packing:
        """One table of all neighbors."""
        return Packing("mixed", self.ntypes, self.rcut, (self.nnei,))

    def packings(self) -> list[Packing]:
        """One table of all neighbors, and where it matters the frames' first types."""
        first = [Packing("first_type", self.ntypes)] if self.depends_on_order else []
        return [self.packing, *first]

    def neighborhood(self, atoms: Atoms, slots: Slots) -> Neighborhood:
        """Look at the slots of every atom."""
        table = slots[self.packing][0]
        space = ops.xp(atoms.padded)
        env = environment(
            ops.take(atoms.padded, table), self.rcut, self.rcut_smth, self.env_protection
        )
        davg, dstd = per_center(self.davg, None, atoms), per_center(self.dstd, None, atoms)
        rows = (env.rows - davg) / dstd
        mask = ops.cast(table >= 0, "float64")
        pad = ops.like(np.array([self.ntypes], dtype=np.int64), atoms.atype)
        types = ops.take(space.concat([ops.take(atoms.atype, atoms.j), pad], axis=0), table)
        if self.exclude_types:
            pairs = np.array(
                [
                    [float(not self.excluded(a, b)) for b in range(self.ntypes)] + [1.0]
                    for a in range(self.ntypes)
                ]
            ).reshape(-1)
            index = atoms.atype[:, None] * (self.ntypes + 1) + types
            seen = ops.take(ops.like(pairs, rows), index)
            rows = rows * seen[:, :, None]
            mask = mask * seen
        empty_type = types[:, :1] * 0 + self.ntypes
        if self.depends_on_order:
            empty_type = slots[Packing("first_type", self.ntypes)][0][:, None]
            types = space.where(table < 0, empty_type, types)
        return Neighborhood(
            ops.cast(rows, self.dtype),
            ops.cast(env.switch[:, :, 0] * mask, self.dtype),
            ops.cast(mask, self.dtype),
            types,
            self.padding_row(None, atoms),
            empty_type,
            self.nnei - ops.shape(table)[1],
        )


class MixedDescriptor(PairNetworks, MixedNeighbors):
    """Embeddings of geometry and types; those of the types are given from outside."""

    angular = False  # whether the network of the geometry sees angles
    attends = False  # whether there is attention

    neuron: list[int] = NEURON
    activation_function: str = ACTIVATION
    resnet_dt: bool = timestep(False)
    tebd_dim: int = setting(8, "Length of the type embeddings.", rule=POSITIVE)
    tebd_input_mode: str = TEBD_INPUT_MODE

    def build(self) -> None:
        if isinstance(self.sel, int):
            self.sel = [self.sel]
        super().build()
        self.make_networks()

    @property
    def empty_slots_contribute(self) -> bool:
        """Whether empty slots change the descriptor: where the environment has a mean."""
        return bool(np.asarray(self.davg).any())

    @property
    def geometry(self) -> Any:
        """Network of the geometry, or its table."""
        network = self.embeddings.networks[0]
        return (
            network if self.tables is None else self.tables.of(0, network, symmetric=self.angular)
        )

    def type_gate(self, types: Any) -> Any:
        """Output of the types' network, as a table if there is one, of which rows differ by kind."""
        if self.tables is not None and self.tables.type_embd_data is not None:
            return self.tables.type_embd_data
        return self.embedded_types(types)

    def compress_block(self, types: Any, settings: TableSettings) -> list[str]:
        """Tabulate the networks; types (nt + 1, dim) are the embeddings of all types."""
        self.check_stripped()
        gate = np.asarray(self.embedded_types(types))
        if self.attends:
            self.tables = Tables(type_embd_data=gate, geo_compress=False)
            return ["attention needs the networks of the geometry: types only are tabulated"]
        limits = (
            self.angular_limits(range(self.ntypes), settings)
            if self.angular
            else self.radial_limits(range(self.ntypes), settings)
        )
        data, info = self.tabulated(
            self.embeddings.networks[0], limits, settings, symmetric=self.angular
        )
        self.tables = Tables([data], [info], gate, None if self.angular else True)
        return []


class EmbeddedTypes(MixedTypes):
    """A descriptor with a type embedding of its own."""

    shared_levels = (("type_embedding",),)
    exclude_types: list[list[int]] = EXCLUDE_TYPES
    env_protection: float = ENV_PROTECTION
    precision: str = PRECISION
    trainable: bool = TRAINABLE
    seed: int | tuple[int, ...] | None = SEED
    concat_output_tebd: bool = setting(True, "Append the center's type embedding.")
    use_econf_tebd: bool = setting(False, "Start from electronic configurations.")
    use_tebd_bias: bool = setting(False, "Bias in the type embedding.")
    type_network: dict[str, Any] | None = setting(
        None, "Settings of the type embedding of the model, which takes its place.", key=False
    )

    embeds_types = True
    type_embedding: Any

    @classmethod
    def with_type_embedding(cls, section: dict[str, Any], types: TypeEmbedding) -> dict[str, Any]:
        """Return the section with the network of the model in place of one linear layer."""
        network = {name: getattr(types, name) for name in types.settings}
        out = {**section, "type_network": {**network, "padding": True}}
        for name in ("use_econf_tebd", "use_tebd_bias"):
            out[name] = agreed(cls, section, name, getattr(types, name), "model/descriptor")
        return cls.with_type_width(out, types.neuron[-1])

    @classmethod
    def with_type_width(cls, section: dict[str, Any], width: int) -> dict[str, Any]:
        """Return the section with the length of the vectors of the model's type embedding."""
        return {**section, "tebd_dim": agreed(cls, section, "tebd_dim", width, "model/descriptor")}

    def type_table(self) -> Any:
        """Return the type embedding, (ntypes + 1, width)."""
        return self.type_embedding()

    def compress(self, settings: TableSettings) -> list[str]:
        """Tabulate the networks of every block that embeds types; see :class:`Descriptor`."""
        parts = [p for p in self.statistics_parts() if isinstance(p, MixedDescriptor)]
        if not parts:
            return super().compress(settings)
        types = self.type_embedding()
        return [line for part in parts for line in part.compress_block(types, settings)]

    @classmethod
    def construct(cls, config: dict, data: dict) -> Any:
        """Take over the form of a type embedding with several layers."""
        network = data["type_embedding"]
        if len(network["neuron"]) > 1:
            names = TypeEmbedding.settings
            config["type_network"] = {k: network[k] for k in names if k in network}
        return super().construct(config, data)

    def make_type_embedding(self, width: int) -> TypeEmbedding:
        """Return an embedding with the settings of this descriptor, or those of the model."""
        seed = child_seed(self.seed, "types")
        if self.type_network is not None:
            given = {**self.type_network}
            if given["neuron"][-1] != width:
                raise ModelFileError(
                    f"type vectors have {given['neuron'][-1]} numbers, not {width}"
                )
            given["seed"] = seed if given.get("seed") is None else given["seed"]
            return TypeEmbedding(**given)
        return TypeEmbedding(
            self.ntypes,
            [width],
            precision=self.precision,
            trainable=self.trainable,
            use_econf_tebd=self.use_econf_tebd,
            use_tebd_bias=self.use_tebd_bias,
            type_map=self.type_map,
            seed=seed,
        )

    def with_types(self, value: Any, own: Any) -> Any:
        """Append the type embeddings of the centers, where this is wanted."""
        return ops.xp(own).concat([value, own], axis=-1) if self.concat_output_tebd else value


def agreed(kind: type, section: dict[str, Any], name: str, wanted: Any, where: str) -> Any:
    """Return a setting that follows from ``model/type_embedding``.

    Raises
    ------
    InputError
        If the section gives another value, which is not the default.
    """
    given, default = section.get(name, wanted), kind.settings[name].default  # type: ignore[attr-defined]
    if given not in (wanted, default):
        raise InputError(
            f"{given} contradicts model/type_embedding, where it is {wanted}",
            where=f"{where}/{name}",
            fix="leave it out, or leave out model/type_embedding",
        )
    return wanted
