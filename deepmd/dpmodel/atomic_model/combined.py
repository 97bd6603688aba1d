# SPDX-License-Identifier: LGPL-3.0-or-later
"""What follows for a model of energies from the models that it consists of."""

from collections.abc import Collection
from typing import Any

from deepmd.dpmodel.atomic_model.base import AtomicModel, total
from deepmd.dpmodel.descriptor.environment import sorted_pairs
from deepmd.dpmodel.input_def import InputDef, merge_inputs
from deepmd.dpmodel.output_def import FittingOutputDef, energy_output


class CombinedAtomicModel(AtomicModel):
    """An energy of atoms out of the energies of :meth:`AtomicModel.members`."""

    @property
    def rcut(self) -> float:
        """Largest cutoff of the members [Å]."""
        return max(m.rcut for m in self.members())

    @property
    def sel(self) -> Any:
        """Largest number of neighbors of the members."""
        return max(total(m.sel) for m in self.members())

    @property
    def mixed_types(self) -> bool:
        """Whether no member distinguishes types, so that frames of different composition may mix."""
        return all(m.mixed_types for m in self.members())

    @property
    def message_passing(self) -> bool:
        """Whether a member passes messages."""
        return any(m.message_passing for m in self.members())

    @property
    def interaction_range(self) -> float:
        """Largest range of the members [Å]."""
        return max(m.interaction_range for m in self.members())

    @property
    def message_range(self) -> float:
        """Largest range of messages of the members [Å]."""
        return max(m.message_range for m in self.members())

    def inputs(self) -> tuple[InputDef, ...]:
        """Inputs of the members."""
        return merge_inputs(m.inputs() for m in self.members())

    def warnings(self, hidden: Collection[tuple[int, int]] = ()) -> list[str]:
        """Return what a user should know of the physics of the members."""
        hidden = {*hidden, *sorted_pairs(self.pair_exclude_types)}
        return list(dict.fromkeys(line for m in self.members() for line in m.warnings(hidden)))

    def output_def(self) -> FittingOutputDef:
        """An energy."""
        return energy_output()
