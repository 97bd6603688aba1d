# SPDX-License-Identifier: LGPL-3.0-or-later
"""What every descriptor offers: its registry, its neighbours, its statistics."""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

import numpy as np

from deepmd.dpmodel import ops
from deepmd.dpmodel.batch import Batch
from deepmd.dpmodel.module import Module, Registered
from deepmd.dpmodel.neighbors import Packing
from deepmd.schema.registry import descriptor_args
from deepmd.schema.settings import setting
from deepmd.utils.plugin import Registry


class Atoms(NamedTuple):
    """What a model sees of a batch.

    Attributes
    ----------
    padded : (n_edges + 1, 3) float64 [Å]
        Edge vectors; the last row belongs to empty slots and is as long as the cutoff.
    i, j : (n_edges,) int64
        Centre and neighbour of every edge.
    atype, frame : (n_atoms,) int64
    fparam : (n_frames, n_fparam) or None
    aparam : (n_atoms, n_aparam) or None
    order : int
        Highest derivative that will be asked for, see :mod:`deepmd.dpmodel.ops`.
    """

    padded: Any
    i: Any
    j: Any
    atype: Any
    frame: Any
    fparam: Any = None
    aparam: Any = None
    order: int = 3


Slots = Mapping[Packing, list[Any]]


def edge_ends(atoms: Atoms, index: Any) -> tuple[Any, Any]:
    """Return centre and neighbour of edges by number, in the shape of ``index``; atom 0 for -1."""
    space = ops.xp(atoms.padded)
    first = ops.like(np.zeros(1, dtype=np.int64), atoms.i)
    i, j = (space.concat([end, first], axis=0) for end in (atoms.i, atoms.j))
    return ops.take(i, index), ops.take(j, index)


@dataclasses.dataclass
class DescriptorOutput:
    """Result of a descriptor.

    Attributes
    ----------
    value : (n_atoms, dim_out)
    rotation : (n_atoms, dim_embed, 3) or None
        Equivariant part, from which tensors are built.
    """

    value: Any
    rotation: Any = None


class Descriptor(Registered):
    """Base of all descriptors.

    A subclass has ``rcut``, ``rcut_smth`` [Å], ``sel``, ``ntypes`` and states its sizes.
    """

    registry: ClassVar[Registry] = Registry("descriptor")
    keys = descriptor_args
    sel: list[int]
    rcut: float
    rcut_smth: float
    mixed_types: ClassVar[bool] = False

    type_map: list[str] | None = setting(None, "Names of the types.", key=False)

    @property
    def dim_out(self) -> int:
        """Width of the descriptor."""
        raise TypeError(f"{type(self).__name__} does not state its width")

    @property
    def dim_embed(self) -> int:
        """Width of the rotation matrix, 0 if there is none."""
        return 0

    @property
    def message_passing(self) -> bool:
        """Whether an atom's descriptor depends on atoms beyond its neighbours."""
        return False

    def packings(self) -> list[Packing]:
        """Layouts of neighbours this descriptor reads."""
        raise TypeError(f"{type(self).__name__} does not state its packings")

    def call(self, atoms: Atoms, slots: Slots) -> DescriptorOutput:
        """Evaluate the descriptor of every atom."""
        raise TypeError(f"{type(self).__name__} cannot be evaluated")

    # -- statistics ---------------------------------------------------------------------------

    def statistics_parts(self) -> list["Descriptor"]:
        """Return the parts that have statistics of their own; a simple descriptor is its part."""
        return [self]

    def statistics_key(self) -> dict[str, Any]:
        """Return what the statistics depend on, in the order of the cache's hash."""
        raise TypeError(f"{type(self).__name__} has no statistics")

    def environment_sums(self, batch: Batch) -> dict[str, np.ndarray]:
        """Sum environment rows of a batch with edges: ``{"r_0": [number, sum, squares], …}``."""
        return {}

    def set_statistics(self, sums: Mapping[str, np.ndarray]) -> None:
        """Set means and deviations from the sums over the sampled frames."""


Module._classes["Descriptor"] = Descriptor
