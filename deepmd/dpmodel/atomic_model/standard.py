# SPDX-License-Identifier: LGPL-3.0-or-later
"""The usual model: a descriptor, then a fitting."""

import dataclasses
from collections.abc import Collection, Iterator, Sequence
from typing import Any

import numpy as np

from deepmd.dpmodel import ops
from deepmd.dpmodel.atomic_model.base import AtomicModel, atomic_serial, without_excluded
from deepmd.dpmodel.descriptor.base import Atoms, Descriptor, DescriptorOutput, Slots
from deepmd.dpmodel.descriptor.environment import sorted_pairs
from deepmd.dpmodel.fitting.base import Fitting
from deepmd.dpmodel.input_def import InputDef, merge_inputs
from deepmd.dpmodel.neighbors import Packing, empty_edges, pack
from deepmd.dpmodel.nn.tabulation import TableSettings
from deepmd.dpmodel.nn.type_embedding import TypeEmbedding
from deepmd.dpmodel.output_def import FittingOutputDef
from deepmd.dpmodel.statistics import Sample
from deepmd.dpmodel.type_map import TypeChange
from deepmd.schema.descriptor import Selection


@AtomicModel.register("standard")
class StandardAtomicModel(AtomicModel):
    """Descriptor and fitting, with the bias per type and what is excluded."""

    serial = atomic_serial(
        "standard",
        2,
        "descriptor fitting type_embedding",
        ("descriptor", "fitting", "type_embedding"),
        optional=("type_embedding",),
    )
    torch_names = {"fitting": "fitting_net"}

    descriptor: Any
    fitting: Any
    #: Vectors of the types, which the descriptor may read, and one fitting for all types does.
    type_embedding: Any

    def __init__(
        self,
        descriptor: Descriptor | None,
        fitting: Fitting | None,
        type_map: Sequence[str],
        type_embedding: TypeEmbedding | None = None,
        **settings: Any,
    ) -> None:
        self.descriptor, self.fitting = descriptor, fitting
        self.type_embedding = type_embedding
        super().__init__(type_map, **settings)

    def build(self) -> None:
        """Make statistics that change nothing; none where the parts follow from a file."""
        self.out_bias = self.out_std = None
        if self.fitting is not None:
            super().build()

    @classmethod
    def selections(cls, section: dict[str, Any], where: str) -> Iterator[Selection]:
        """Iterate over the numbers of neighbors in the section of the descriptor."""
        given = section.get("descriptor")
        kind = Descriptor.kind_of(given)
        return iter(()) if kind is None else kind.selections(given, f"{where}/descriptor")

    @property
    def rcut(self) -> float:
        """Cutoff [Å]."""
        return self.descriptor.rcut

    @property
    def sel(self) -> Any:
        """Largest numbers of neighbors."""
        return self.descriptor.sel

    @property
    def mixed_types(self) -> bool:
        """Whether frames of different composition may share a system."""
        return self.descriptor.mixed_types

    @property
    def message_passing(self) -> bool:
        """Whether atoms beyond the cutoff matter."""
        return self.descriptor.message_passing

    @property
    def interaction_range(self) -> float:
        """Distance beyond which atoms do not influence each other [Å]."""
        return self.descriptor.interaction_range

    @property
    def message_range(self) -> float:
        """Distance up to which the neighbors of other atoms matter [Å]; 0 without messages."""
        return self.descriptor.message_range

    def inputs(self) -> tuple[InputDef, ...]:
        """Inputs of the fitting and of the descriptor."""
        return merge_inputs([self.fitting.inputs(), self.descriptor.inputs()])

    @property
    def common_bias(self) -> bool:
        """Whether the first row of bias and deviation serves for all types."""
        return self.fitting.common_bias

    def components(self) -> dict[str, Any]:
        """Return descriptor and fitting, and the type embedding of the model."""
        types = {} if self.type_embedding is None else {"type-embedding": self.type_embedding}
        return {"descriptor": self.descriptor, "fitting-net": self.fitting, **types}

    def kinds(self) -> list[str]:
        """Return the kinds of what is predicted."""
        return self.fitting.kinds()

    def statistics_nodes(self, sample: Sample) -> Iterator[tuple[Any, Sample]]:
        """Iterate over the parts of the descriptor, and the fitting."""
        apart = sorted_pairs(self.pair_exclude_types)
        for part in self.descriptor.statistics_parts():
            known = sorted_pairs(getattr(part, "exclude_types", ()))
            more = sorted(apart - known)
            yield part, sample.without_pairs(more, self.type_map)
        yield self.fitting, sample

    def own_bias(self) -> np.ndarray:
        """Bias that the fitting adds to the output, (ntypes, size)."""
        return self.fitting.own_bias()

    def clear_inner_biases(self) -> None:
        """Set the bias of the fitting to zero."""
        self.fitting.own_bias()[:] = 0.0

    def fixed_biases(self, name: str) -> list[Sequence[Any]]:
        """Biases of an output that the input fixes: those of the fitting, and preset ones."""
        given = self.fitting.fixed_bias(name)
        return [*([] if given is None else [given]), *super().fixed_biases(name)]

    def change_types(self, change: TypeChange) -> None:
        """Adopt another type map."""
        order = self.descriptor.change_types(change)
        types = self.type_embedding
        if types is not None:
            types.change_types(change.beside(types.type_map))
        self.fitting.change_types(change)
        if order is not None:
            self.fitting.reorder_descriptor(order)
        super().change_types(change)

    def compress(self, settings: TableSettings) -> list[str]:
        """Tabulate the embedding networks of the descriptor."""
        return self.descriptor.compress(settings)

    def uncompress(self) -> None:
        """Drop the tables of the descriptor."""
        self.descriptor.uncompress()

    def warnings(self, hidden: Collection[tuple[int, int]] = ()) -> list[str]:
        """Return what a user should know of the physics of the descriptor and of ``atom_ener``."""
        found = self.descriptor.warnings({*hidden, *sorted_pairs(self.pair_exclude_types)})
        numbers = self.fitting.atom_ener or ()
        if any(e is not None for e in numbers) and self.isolated_descriptors().any():
            found.append(
                "energies of isolated atoms will not be those of atom_ener: their descriptors are "
                "not zero, because of means of the environment (set_davg_zero), type embeddings "
                "(concat_output_tebd) or embedded empty slots (se_e2_r)"
            )
        return found

    def isolated_descriptors(self) -> np.ndarray:
        """Descriptors of an isolated atom of every type, (ntypes, dim_out)."""
        n, descriptor = self.ntypes, self.descriptor
        atype = np.arange(n)
        tables = pack(descriptor.packings(), empty_edges(), atype, np.zeros((0, 3)), None, atype)
        slots, start = {}, 0
        for packing in descriptor.packings():
            slots[packing] = tables[start : start + packing.n_tables]
            start += packing.n_tables
        padded, none = np.array([[descriptor.rcut, 0.0, 0.0]]), np.zeros(0, dtype=np.int64)
        # Neutral singlets, where charges are embedded.
        given = {"charge_spin": np.zeros((n, 2))}
        atoms = Atoms(padded, none, none, atype, atype, given)
        return np.asarray(self.described(atoms, slots).value)

    def output_def(self) -> FittingOutputDef:
        """Return what the fitting predicts."""
        return self.fitting.output_def()

    def sel_type(self) -> list[int]:
        """Return the types the fitting predicts; empty means all."""
        return self.fitting.sel_type()

    def packings(self) -> list[Packing]:
        """Return the layouts of descriptor and fitting, each once."""
        return list(dict.fromkeys(map(self._layout, self._parts())))

    def _parts(self) -> list[Packing]:
        return [*self.descriptor.packings(), *self.fitting.packings()]

    def _layout(self, packing: Packing) -> Packing:
        """Leave the excluded pairs out of a packing of neighbors."""
        if not self.pair_exclude_types or packing.layout == "centres":
            return packing
        pairs = tuple((int(a), int(b)) for a, b in self.pair_exclude_types)
        return dataclasses.replace(packing, exclude=packing.exclude + pairs)

    def described(self, atoms: Atoms, slots: Slots) -> DescriptorOutput:
        """Evaluate the descriptor, with the vector of an atom's type beside it if there is one."""
        if self.type_embedding is None:
            return self.descriptor(atoms, slots)
        types = self.type_embedding()
        output = self.descriptor(atoms._replace(types=types), slots)
        value, space = output.value, ops.xp(output.value)
        own = space.astype(ops.take(types, atoms.atype), value.dtype)
        return DescriptorOutput(space.concat([value, own], axis=-1), output.rotation)

    def call(self, atoms: Atoms, slots: Slots, extra: Sequence[str] = ()) -> dict[str, Any]:
        """Evaluate every atom; see :class:`AtomicModel`."""
        mine = {p: slots[self._layout(p)] for p in self._parts()}
        atoms = atoms._replace(directions=self.fitting.reads_directions)
        output = self.described(atoms, mine)
        values = self.fitting(output, atoms, mine)
        values = self.fitting.with_out_bias(values, self.out_bias, self.out_std, atoms)
        values = without_excluded(self, values, atoms)
        if "descriptor" in extra:
            values["descriptor"] = ops.cast(output.value, "float64")
        if "fitting_last_layer" in extra:
            last = self.fitting.last_layer(output, atoms, mine)
            values["fitting_last_layer"] = ops.cast(last, "float64")
        return values

    @classmethod
    def construct(cls, config: dict, data: dict) -> "StandardAtomicModel":
        return cls(None, None, **config)
