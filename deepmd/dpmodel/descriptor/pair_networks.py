# SPDX-License-Identifier: LGPL-3.0-or-later
"""Embedding networks that see geometry and the type embeddings of a pair."""

from typing import Any

from deepmd.base.errors import InputError
from deepmd.dpmodel import ops
from deepmd.dpmodel.descriptor.base import Atoms
from deepmd.dpmodel.module import Module
from deepmd.dpmodel.nn.layers import EmbeddingNetwork, NetworkCollection
from deepmd.dpmodel.nn.random import child_seed
from deepmd.schema.common import one_of
from deepmd.schema.settings import setting

TEBD_INPUT_MODE = setting(
    "concat",
    'How types are put in: "concat" or "strip".',
    rule=one_of("concat", "strip"),
)


def type_pairs(types: Any) -> tuple[Any, Any]:
    """Embeddings (m, dim) of both members of every pair: twice (m², dim), row ``first m + second``."""
    space = ops.xp(types)
    m, dim = ops.shape(types)
    first = space.broadcast_to(types[:, None, :], (m, m, dim))
    second = space.broadcast_to(types[None, :, :], (m, m, dim))
    return space.reshape(first, (m * m, dim)), space.reshape(second, (m * m, dim))


class PairNetworks(Module):
    """One network for all types, which come in through their embeddings.

    With ``concat`` it sees a number of the geometry and the embeddings side by side; with
    ``strip`` a second network, of the embeddings, gates that of the geometry.
    """

    ntypes: Any
    seed: Any
    tebd_dim: Any
    tebd_input_mode: Any
    #: Whether the embedding of the neighbor comes in alone, without that of the center.
    type_one_side: Any
    embeddings: Any
    embeddings_strip: Any

    @property
    def type_inputs(self) -> int:
        """Type embeddings that the networks see at a time."""
        return 1 if self.type_one_side else 2

    def make_networks(self) -> None:
        """Make the networks, with initial values."""
        of_types = self.type_inputs * self.tebd_dim
        self.embeddings_strip = None
        if self.tebd_input_mode == "concat":
            self.embeddings = self._network(1 + of_types, "net")
        else:
            self.embeddings = self._network(1, "net")
            self.embeddings_strip = self._network(of_types, "strip")

    def _network(self, n: int, name: str) -> NetworkCollection:
        network = self.part(EmbeddingNetwork, in_dim=n, seed=child_seed(self.seed, name))
        return NetworkCollection(0, self.ntypes, "embedding_network", [network])

    def check_stripped(self) -> None:
        """Raise InputError if the networks cannot be tabulated."""
        if self.tebd_input_mode == "concat":
            raise InputError(
                "networks that see geometry and types side by side cannot be tabulated",
                where="tebd_input_mode",
                fix='train a model with "tebd_input_mode": "strip"',
            )

    def type_index(self, atoms: Atoms, neighbor: Any) -> Any:
        """Row of a table over neighbor types, or pairs center-neighbor, for every slot (n, K)."""
        if self.type_one_side:
            return neighbor
        return atoms.atype[:, None] * (self.ntypes + 1) + neighbor

    def first_layer(self, types: Any) -> Any:
        """Contribution of the types to the first layer of the embedding, bias included, per kind."""
        layer = self.embeddings.networks[0].layers[0]
        return ops.linear(self.kinds(types), layer.weight[1:], layer.b)

    def embedded_types(self, types: Any) -> Any:
        """Output of the types' network for every neighbor type, or pair center-neighbor.

        Returns (nt + 1, ng) one-sided, ((nt + 1)², ng) with row ``center (nt + 1) + neighbor``.
        """
        return self.embeddings_strip.networks[0](self.kinds(types))

    def kinds(self, types: Any) -> Any:
        """Embeddings (nt + 1, dim) that the networks see, a row per kind of neighbor."""
        if self.type_one_side:
            return types
        center, neighbor = type_pairs(types)
        return ops.xp(types).concat([neighbor, center], axis=-1)
