# SPDX-License-Identifier: LGPL-3.0-or-later
"""Several descriptors side by side."""

import builtins
import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np
from dargs import Argument

from deepmd.base.errors import InputError, NotAvailableError
from deepmd.dpmodel import ops
from deepmd.dpmodel.descriptor.base import Atoms, Descriptor, DescriptorOutput, Slots
from deepmd.dpmodel.input_def import InputDef, merge_inputs
from deepmd.dpmodel.module import Serial
from deepmd.dpmodel.neighbors import Packing
from deepmd.dpmodel.nn.random import Seed, child_seed
from deepmd.dpmodel.nn.tabulation import TableSettings
from deepmd.dpmodel.nn.type_embedding import TypeEmbedding
from deepmd.dpmodel.type_map import TypeChange
from deepmd.schema.common import Rule
from deepmd.schema.descriptor import Selection, descriptor_variant
from deepmd.schema.settings import setting


@Descriptor.register("hybrid")
class DescrptHybrid(Descriptor):
    """Concatenation of descriptors."""

    serial = Serial(
        layout="@class type @version list", name="Descriptor", type="hybrid", children=("list",)
    )
    torch_names = {"list": "descrpt_list"}

    list: Any = setting(
        (),
        "The members, each a full descriptor section with its type.",
        rule=Rule(bool, "must name at least one descriptor"),
        key=False,
    )
    seed: Seed = setting(None, "Seed of the members without one.", key=False)

    def build(self) -> None:
        members = []
        for k, section in enumerate(self.list):
            given = {"seed": child_seed(self.seed, k), **section}
            where = f"model/descriptor/list/{k}/type"
            kind = Descriptor.registry.get(given.pop("type"), where=where)
            members.append(kind(**given, type_map=self.type_map))
        self.list = members
        if len({m.ntypes for m in members}) > 1:
            raise InputError(
                f"the members have {[m.ntypes for m in members]} types",
                where="model/descriptor/list",
                fix="give every member one sel per type",
            )

    @classmethod
    def arguments(cls) -> Any:
        """Return the list of members, which the keys of each describe."""
        doc, members = cls.settings["list"].doc, descriptor_variant(exclude=("hybrid",))
        return [Argument("list", builtins.list, [], [members], repeat=True, doc=doc or "")]

    @classmethod
    def selections(cls, section: dict[str, Any], where: str) -> Iterator[Selection]:
        """Iterate over the numbers of neighbors in the sections of the members."""
        for k, member in enumerate(section.get("list", ())):
            kind = Descriptor.kind_of(member)
            if kind is not None:
                yield from kind.selections(member, f"{where}/list[{k}]")

    @classmethod
    def with_partners(cls, section: dict[str, Any], hidden: Any) -> dict[str, Any]:
        """Return the section with members for atoms and virtual partners."""
        kinds = [Descriptor.registry.get(member["type"]) for member in section["list"]]
        parts = zip(kinds, section["list"], strict=True)
        return {**section, "list": [kind.with_partners(part, hidden) for kind, part in parts]}

    @classmethod
    def with_type_embedding(cls, section: dict[str, Any], types: TypeEmbedding) -> dict[str, Any]:
        """Return the section with members that read the type embedding."""
        kinds = [Descriptor.registry.get(member["type"]) for member in section["list"]]
        for k, kind in enumerate(kinds):
            if kind.embeds_types:
                raise NotAvailableError(
                    f"{section['list'][k]['type']} has type vectors of its own, which components "
                    "of a hybrid do not share with the model",
                    where=f"model/descriptor/list/{k}/type",
                    fix=f'leave out model/type_embedding, and give "tebd_dim": {types.neuron[-1]}',
                )
        parts = zip(kinds, section["list"], strict=True)
        return {**section, "list": [kind.with_type_embedding(part, types) for kind, part in parts]}

    @property
    def ntypes(self) -> int:
        """Number of types."""
        return self.list[0].ntypes

    @property
    def rcut(self) -> float:  # type: ignore[override]
        """Largest cutoff of the members [Å]."""
        return max(m.rcut for m in self.list)

    @property
    def rcut_smth(self) -> float:  # type: ignore[override]
        """Smallest start of a switch [Å]."""
        return min(m.rcut_smth for m in self.list)

    @property
    def sel(self) -> Any:  # type: ignore[override]
        """Largest numbers of neighbors of the members; one sum if a member mixes types."""
        if self.mixed_types:
            return [max(sum(m.sel) for m in self.list)]
        return [max(column) for column in zip(*(m.sel for m in self.list), strict=True)]

    @property
    def mixed_types(self) -> bool:  # type: ignore[override]
        """Whether a member mixes types."""
        return any(m.mixed_types for m in self.list)

    @property
    def message_passing(self) -> bool:
        """Whether a member passes messages."""
        return any(m.message_passing for m in self.list)

    @property
    def interaction_range(self) -> float:
        """Largest range of the components [Å]."""
        return max(m.interaction_range for m in self.list)

    @property
    def message_range(self) -> float:
        """Largest range of messages of the components [Å]."""
        return max(m.message_range for m in self.list)

    def inputs(self) -> tuple[InputDef, ...]:
        """Inputs of the components."""
        return merge_inputs(m.inputs() for m in self.list)

    @property
    def dim_out(self) -> int:
        """Width of the descriptor."""
        return sum(m.dim_out for m in self.list)

    @property
    def dim_embed(self) -> int:
        """Width of the rotation matrix."""
        return sum(m.dim_embed for m in self.list)

    def packings(self) -> Any:
        """Return the members' layouts, each once."""
        found: dict[Packing, None] = {}
        for member in self.list:
            found.update(dict.fromkeys(self._layout(member, p) for p in member.packings()))
        return [*found]

    def _layout(self, member: Descriptor, packing: Packing) -> Packing:
        """Layout of the neighbors of a member, which are chosen from the list of the whole.

        The list reaches to the largest cutoff. Most members are zero, or as for an empty slot,
        beyond their own; they get the neighbors within it only.
        """
        if packing.layout not in ("typed", "mixed"):
            return packing
        if member.reads_beyond_cutoff:
            packing = dataclasses.replace(packing, rcut=self.rcut)
        if packing.layout == "mixed":
            return packing
        return dataclasses.replace(packing, nearest=max(packing.nearest, sum(self.sel)))

    def change_types(self, change: TypeChange) -> np.ndarray:
        """Change every component; see :class:`Descriptor`."""
        orders, begin = [], 0
        for k, member in enumerate(self.list):
            seed = child_seed(change.seed, k)
            order = member.change_types(dataclasses.replace(change, seed=seed))
            orders.append(begin + (np.arange(member.dim_out) if order is None else order))
            begin += member.dim_out
        return np.concatenate(orders)

    def compress(self, settings: TableSettings) -> Any:
        """Tabulate the networks of every member that has such."""
        return [line for m in self.list for line in m.compress(settings)]

    def uncompress(self) -> None:
        """Drop the tables of all members."""
        for m in self.list:
            m.uncompress()

    def statistics_parts(self) -> Any:
        """Return the members' parts."""
        return [part for m in self.list for part in m.statistics_parts()]

    def call(self, atoms: Atoms, slots: Slots) -> DescriptorOutput:
        """Evaluate all members: value (n_atoms, dim_out), rotation (n_atoms, dim_embed, 3)."""
        # An empty slot lies at the largest cutoff, where every member's switch is 0.
        parts = [
            member(atoms, {p: slots[self._layout(member, p)] for p in member.packings()})
            for member in self.list
        ]
        value = ops.xp(parts[0].value).concat([p.value for p in parts], axis=-1)
        rotations = [p.rotation for p in parts if p.rotation is not None]
        rotation = ops.xp(value).concat(rotations, axis=1) if rotations else None
        return DescriptorOutput(value, rotation)
