# SPDX-License-Identifier: LGPL-3.0-or-later
"""Descriptor base class: registry, neighbors, statistics."""

import dataclasses
import functools
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np

from deepmd.base.errors import NotAvailableError
from deepmd.base.plugin import Registry
from deepmd.dpmodel import ops
from deepmd.dpmodel.batch import Batch
from deepmd.dpmodel.input_def import InputDef
from deepmd.dpmodel.module import Module, Registered
from deepmd.dpmodel.neighbors import Packing, empty_edges
from deepmd.dpmodel.nn.tabulation import TableSettings
from deepmd.dpmodel.nn.type_embedding import TypeEmbedding
from deepmd.dpmodel.statistics import Sample, summed
from deepmd.dpmodel.type_map import TypeChange
from deepmd.schema.descriptor import Selection, selections_of
from deepmd.schema.registry import descriptor_args
from deepmd.schema.settings import setting

#: Taken for ``env_protection`` 0 [Å]: an atom whose spin is zero and its partner are at the same
#: place, so that something must be added to their distance. It is what DeePMD-kit takes.
PROTECTION = 0.01


class Atoms(NamedTuple):
    """Atoms of a batch, as a model evaluates them.

    Attributes
    ----------
    padded : (n_edges + 1, 3) float64 [Å]
        Edge vectors; the last row belongs to empty slots and is as long as the cutoff.
    i, j : (n_edges,) int64
        Center and neighbor of every edge.
    atype, frame : (n_atoms,) int64
    frame_inputs : dict of str to (n_frames, size)
    atom_inputs : dict of str to (n_atoms, size)
    order : int
        Highest derivative that will be asked for, see :mod:`deepmd.dpmodel.ops`.
    types : (ntypes + 1, width), optional
        Type embedding of the model, for descriptors that read it.
    directions : bool
        Whether the equivariant part of the descriptor is wanted.
    """

    padded: Any
    i: Any
    j: Any
    atype: Any
    frame: Any
    frame_inputs: Mapping[str, Any] = {}
    atom_inputs: Mapping[str, Any] = {}
    order: int = 3
    types: Any = None
    directions: bool = True


Slots = Mapping[Packing, list[Any]]


def edge_ends(atoms: Atoms, index: Any) -> tuple[Any, Any]:
    """Return center and neighbor of edges by number, in the shape of ``index``; atom 0 for -1."""
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
        Equivariant part, from which tensors are built; None, too, where it takes time and is not
        wanted.
    """

    value: Any
    rotation: Any = None


class Descriptor(Registered):
    """Base of all descriptors.

    A subclass has ``rcut``, ``rcut_smth`` [Å], ``sel``, ``ntypes`` and states its sizes.
    """

    registry: ClassVar[Registry] = Registry("descriptor")
    keys = descriptor_args
    torch_names: ClassVar[Mapping[str, str]] = {
        "davg": "mean",
        "dstd": "stddev",
        "embeddings": "filter_layers",
        "embeddings_strip": "filter_layers_strip",
    }
    #: Whether it reads a type embedding of the model, which then has one.
    needs_types: ClassVar[bool] = False
    #: Whether a type embedding of the model becomes part of the descriptor.
    embeds_types: ClassVar[bool] = False
    #: What the names of its parts begin with in DeePMD-kit's PyTorch dialect, as ``"sea."``.
    torch_prefix: ClassVar[str] = ""
    #: Children that branches of a multi-task model have in common at the sharing levels 1, 2, ….
    shared_levels: ClassVar[Sequence[Sequence[str]]] = ()
    sel: list[int]
    rcut: float
    rcut_smth: float
    mixed_types: ClassVar[bool] = False
    #: Whether neighbors that are equally far give another result in another order.
    sorts_neighbors: ClassVar[bool] = False

    type_map: list[str] | None = setting(None, "Names of the types.", key=False)

    @classmethod
    def selections(cls, section: dict[str, Any], where: str) -> Iterator[Selection]:
        """Iterate over the numbers of neighbors in a section, which may be ``"auto"``.

        Parameters
        ----------
        section : dict
            Section of such a descriptor.
        where : str
            Its path.
        """
        return selections_of(cls, section, where, mixed=cls.mixed_types)

    @classmethod
    def with_partners(cls, section: dict[str, Any], hidden: list[list[int]]) -> dict[str, Any]:
        """Return the section for atoms and virtual partners: twice the types.

        Parameters
        ----------
        section : dict
        hidden : list of [int, int]
            Pairs of types of which the first is that of a partner without spin.

        Raises
        ------
        NotAvailableError
            If the descriptor cannot hide pairs, or has no protection from atoms at one place.
        """
        if not {"exclude_types", "env_protection"} <= set(cls.settings):
            raise NotAvailableError(
                f"{section['type']} is not built for models with spins",
                where="model/descriptor/type",
            )
        out = {**section, "env_protection": section.get("env_protection") or PROTECTION}
        out["exclude_types"] = hidden + list(section.get("exclude_types", ()))
        if not cls.mixed_types:
            out["sel"] = [*section["sel"], *section["sel"]]
        return out

    @classmethod
    def with_type_embedding(cls, section: dict[str, Any], types: TypeEmbedding) -> dict[str, Any]:
        """Return the section for a model with a type embedding, which may enter the descriptor.

        Parameters
        ----------
        section : dict
        types : TypeEmbedding
            Gives the vectors :attr:`Atoms.types`, unless the descriptor takes it over
            (:attr:`embeds_types`).

        Raises
        ------
        InputError
            If the section contradicts the type embedding.
        """
        return section

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
        """Whether an atom's descriptor depends on atoms beyond its neighbors."""
        return False

    @property
    def interaction_range(self) -> float:
        """Distance beyond which an atom does not change the descriptor [Å]."""
        return self.rcut

    @property
    def message_range(self) -> float:
        """Distance up to which the neighbors of other atoms matter [Å]; 0 without messages."""
        return self.interaction_range - self.rcut

    def inputs(self) -> tuple[InputDef, ...]:
        """Inputs that are read beside positions and types."""
        return ()

    @property
    def reads_beyond_cutoff(self) -> bool:
        """Whether a neighbor beyond the cutoff, in the list of a hybrid, is not an empty slot."""
        return False

    def packings(self) -> list[Packing]:
        """Layouts of neighbors this descriptor reads."""
        raise TypeError(f"{type(self).__name__} does not state its packings")

    def call(self, atoms: Atoms, slots: Slots) -> DescriptorOutput:
        """Evaluate the descriptor of every atom."""
        raise TypeError(f"{type(self).__name__} cannot be evaluated")

    def type_table(self) -> Any:
        """Return the type embedding, (ntypes + 1, width), or None."""
        return None

    def change_types(self, change: TypeChange) -> np.ndarray | None:
        """Adopt another type map, in place.

        Returns
        -------
        (dim_out,) int or None
            Old places of the components, where they changed.
        """
        raise NotAvailableError(f"the types of the descriptor {self.serial.type} cannot be changed")

    def warnings(self, hidden: Collection[tuple[int, int]] = ()) -> list[str]:
        """Return what a user should know of the physics of this descriptor, a line each.

        Parameters
        ----------
        hidden : collection of (int, int)
            Sorted pairs of types that the model excludes, so that no neighbors are left to exclude.
        """
        parts = [part for part in self.statistics_parts() if part is not self]
        return list(dict.fromkeys(line for part in parts for line in part.warnings(hidden)))

    # -- compression --------------------------------------------------------------------------

    def compress(self, settings: TableSettings) -> list[str]:
        """Tabulate the embedding networks, in place; the networks stay beside their tables.

        Returns
        -------
        list of str
            What stays as it was, a line each.

        Raises
        ------
        InputError
            If settings of the descriptor exclude it.
        """
        return [f"{self.serial.type} has no embedding network of one number"]

    def uncompress(self) -> None:
        """Drop the tables, in place."""
        for part in self.statistics_parts():
            if part is not self:
                part.uncompress()

    # -- statistics ---------------------------------------------------------------------------

    def compute_statistics(self, sample: Sample) -> None:
        """Set means and deviations of every part from the sampled frames, or from their cache."""
        for part in self.statistics_parts():
            if part is not self:
                part.compute_statistics(sample)
                continue
            nothing = Batch.from_arrays(np.zeros((0, 0, 3)), None, [])
            nothing.edges = empty_edges()
            shapes = {k: v.shape for k, v in self.environment_sums(nothing).items()}
            if shapes:
                sums = functools.partial(self._sampled_sums, sample)
                self.set_statistics(sample.fetch(shapes, sums, self.statistics_key()))

    def _sampled_sums(self, sample: Sample) -> dict[str, np.ndarray]:
        return summed(self.environment_sums(batch) for batch in sample.batches())

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
