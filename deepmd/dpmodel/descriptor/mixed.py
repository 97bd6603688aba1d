# SPDX-License-Identifier: LGPL-3.0-or-later
"""What descriptors without distinguished types share: one list of neighbours, type embeddings."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from deepmd.dpmodel import ops
from deepmd.dpmodel.descriptor.base import Atoms, Slots
from deepmd.dpmodel.descriptor.environment import EnvironmentDescriptor, per_centre
from deepmd.dpmodel.neighbors import Packing
from deepmd.dpmodel.nn.environment import environment
from deepmd.dpmodel.nn.layers import EmbeddingNetwork, NetworkCollection
from deepmd.dpmodel.nn.random import Seed, child_seed
from deepmd.dpmodel.nn.type_embedding import TypeEmbedding
from deepmd.utils.errors import InputError


class Neighbourhood(NamedTuple):
    """The slots of every atom, in the model's precision.

    Attributes
    ----------
    rows : (n, K, 4)
        Normalised environment.
    switch : (n, K)
        0 in empty slots.
    mask : (n, K)
        1 for a neighbour, 0 for an empty slot.
    types : (n, K) int
        Type of the neighbour; for an empty slot the type whose embedding it takes.
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


class MixedDescriptor(EnvironmentDescriptor):
    """A descriptor whose networks see types through their embedding."""

    mixed_types = True
    _ntypes: int
    embeddings: Any
    embeddings_strip: Any
    tebd_input_mode: str

    def _init_common(
        self,
        rcut: float,
        rcut_smth: float,
        sel: int | Sequence[int],
        ntypes: int | None,
        *,
        type_inputs: int,
        tebd_dim: int = 8,
        tebd_input_mode: str = "concat",
        set_davg_zero: bool = True,
        concat_output_tebd: bool = True,
        use_econf_tebd: bool = False,
        use_tebd_bias: bool = False,
        precision: str = "default",
        type_map: Sequence[str] | None = None,
        seed: Seed = None,
        **options: Any,
    ) -> None:
        """Set what all of these descriptors hold; called by their constructors.

        Parameters
        ----------
        sel : int or list of int
            Number of slots N; only the sum matters.
        ntypes : int, optional
            Number of types; that of ``type_map``.
        type_inputs : int
            Type embeddings that the networks see at a time.
        tebd_dim : int
            Length of the type embeddings.
        tebd_input_mode : {"concat", "strip"}
            Beside the geometry, or through a network of their own.
        concat_output_tebd : bool
            Append the centre's type embedding to D.
        use_econf_tebd, use_tebd_bias
            Of the type embedding.
        seed
            Of the networks.
        rcut, rcut_smth, set_davg_zero, precision, type_map, options
            See :meth:`EnvironmentDescriptor._init_environment`.
        """
        self._ntypes = ntypes if ntypes is not None else len(type_map or [])
        self._init_environment(
            rcut,
            rcut_smth,
            slot_counts(sel),
            set_davg_zero=set_davg_zero,
            precision=precision,
            type_map=type_map,
            **options,
        )
        self.tebd_dim, self.tebd_input_mode = tebd_dim, tebd_input_mode
        self.concat_output_tebd = concat_output_tebd
        self.use_econf_tebd, self.use_tebd_bias = use_econf_tebd, use_tebd_bias
        self.embeddings, self.embeddings_strip = tebd_networks(
            self, 1, type_inputs * tebd_dim, seed
        )
        self.type_embedding = TypeEmbedding(
            self.ntypes,
            [tebd_dim],
            precision=precision,
            trainable=self.trainable,
            use_econf_tebd=use_econf_tebd,
            use_tebd_bias=use_tebd_bias,
            type_map=self.type_map,
            seed=child_seed(seed, "types"),
        )

    @property
    def ntypes(self) -> int:
        """Number of types."""
        return self._ntypes

    @property
    def packing(self) -> Packing:
        """One table of all neighbours."""
        return Packing("mixed", self.ntypes, self.rcut, (self.nnei,))

    @property
    def depends_on_order(self) -> bool:
        """Whether empty slots count and take the type of the frame's first atom.

        The definition's own oddity: with concatenated type embeddings and a mean that is not
        zero, energies depend on which atom comes first.
        """
        return self.tebd_input_mode == "concat" and not self.set_davg_zero

    def packings(self) -> list[Packing]:
        """One table of all neighbours, and where it matters the frames' first types."""
        first = [Packing("first_type", self.ntypes)] if self.depends_on_order else []
        return [self.packing, *first]

    def neighbourhood(self, atoms: Atoms, slots: Slots) -> Neighbourhood:
        """Look at the slots of every atom."""
        table = slots[self.packing][0]
        space = ops.xp(atoms.padded)
        env = environment(
            ops.take(atoms.padded, table), self.rcut, self.rcut_smth, self.env_protection
        )
        davg, dstd = per_centre(self.davg, None, atoms), per_centre(self.dstd, None, atoms)
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
        return Neighbourhood(
            ops.cast(rows, self.precision),
            ops.cast(env.switch[:, :, 0] * mask, self.precision),
            ops.cast(mask, self.precision),
            types,
            self.padding_row(None, atoms),
            empty_type,
            self.nnei - ops.shape(table)[1],
        )


def slot_counts(sel: int | Sequence[int]) -> list[int]:
    """Return ``sel`` as a list; only its sum matters."""
    return [int(sel)] if isinstance(sel, int) else [int(n) for n in sel]


def type_pairs(types: Any) -> tuple[Any, Any]:
    """Embeddings (m, dim) of both members of every pair: twice (m², dim), row ``first m + second``."""
    space = ops.xp(types)
    m, dim = ops.shape(types)
    first = space.broadcast_to(types[:, None, :], (m, m, dim))
    second = space.broadcast_to(types[None, :, :], (m, m, dim))
    return space.reshape(first, (m * m, dim)), space.reshape(second, (m * m, dim))


def tebd_networks(
    descriptor: Any, width: int, type_width: int, seed: Seed
) -> tuple[NetworkCollection, NetworkCollection | None]:
    """Embedding network of the geometry, and in strip mode the one of the types.

    Parameters
    ----------
    descriptor
        Has ``neuron``, ``tebd_input_mode`` and the settings of the networks.
    width : int
        Numbers of the geometry.
    type_width : int
        Numbers of the type embeddings put in.
    """
    if descriptor.tebd_input_mode not in ("concat", "strip"):
        raise InputError(
            f'"{descriptor.tebd_input_mode}" is no way to put in types',
            where="model/descriptor/tebd_input_mode",
            fix='use "concat" or "strip"',
        )

    def network(n: int, name: Seed) -> NetworkCollection:
        net = EmbeddingNetwork(
            n,
            descriptor.neuron,
            activation_function=descriptor.activation_function,
            resnet_dt=descriptor.resnet_dt,
            precision=descriptor.precision,
            seed=name,
        )
        return NetworkCollection(0, descriptor.ntypes, "embedding_network", [net])

    if descriptor.tebd_input_mode == "concat":
        return network(width + type_width, child_seed(seed, "net")), None
    return network(width, child_seed(seed, "net")), network(type_width, child_seed(seed, "strip"))
