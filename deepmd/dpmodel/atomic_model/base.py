# SPDX-License-Identifier: LGPL-3.0-or-later
"""Atomic models: contributions of every atom, biases included, before anything is summed."""

from collections.abc import Collection, Iterator, Sequence
from typing import Any, ClassVar

import numpy as np

from deepmd.base.plugin import Registry
from deepmd.dpmodel import ops
from deepmd.dpmodel.construction import claim
from deepmd.dpmodel.descriptor.base import Atoms, Slots
from deepmd.dpmodel.fitting.base import kept_atoms
from deepmd.dpmodel.input_def import InputDef
from deepmd.dpmodel.module import Module, Registered, Serial
from deepmd.dpmodel.neighbors import Packing
from deepmd.dpmodel.nn.tabulation import TableSettings
from deepmd.dpmodel.output_def import FittingOutputDef
from deepmd.dpmodel.statistics import Sample
from deepmd.dpmodel.type_map import TypeChange
from deepmd.schema.descriptor import Selection
from deepmd.schema.settings import setting


class AtomicModel(Registered):
    """Base of all atomic models; ``out_bias`` and ``out_std`` are (n_outputs, ntypes, size)."""

    registry: ClassVar[Registry] = Registry("model")
    default_kind = "standard"

    type_map: list[str] = setting(..., "Names of the types.")
    atom_exclude_types: list[int] = setting((), "Types whose atoms contribute nothing.")
    pair_exclude_types: list[list[int]] = setting((), "Pairs of types that are not neighbors.")
    rcond: float | None = setting(
        None, "Singular values below this fraction of the largest are dropped in the bias fit."
    )
    preset_out_bias: dict[str, Any] | None = setting(
        None, "Given biases per output and type; None where one is fitted."
    )
    out_bias: Any
    out_std: Any

    @property
    def rcut(self) -> float:
        """Cutoff [Å]."""
        raise TypeError(f"{type(self).__name__} does not state its cutoff")

    @property
    def ntypes(self) -> int:
        """Number of types."""
        return len(self.type_map)

    @property
    def sel(self) -> Any:
        """Largest numbers of neighbors."""
        raise TypeError(f"{type(self).__name__} does not state its neighbors")

    @property
    def mixed_types(self) -> bool:
        """Whether frames of different composition may share a system."""
        return True

    @property
    def message_passing(self) -> bool:
        """Whether atoms beyond the cutoff matter."""
        return False

    @property
    def interaction_range(self) -> float:
        """Distance beyond which atoms do not influence each other [Å]."""
        return self.rcut

    @property
    def message_range(self) -> float:
        """Distance up to which the neighbors of other atoms matter [Å]; 0 without messages."""
        return self.interaction_range - self.rcut

    def inputs(self) -> tuple[InputDef, ...]:
        """Inputs that are read beside positions and types."""
        return ()

    def build(self) -> None:
        """Make statistics that change nothing."""
        outputs = self.output_def().get_data().values()
        claim(len(outputs), self.ntypes, max(v.size for v in outputs))
        self.out_bias = np.zeros((len(outputs), self.ntypes, max(v.size for v in outputs)))
        self.out_std = np.ones_like(self.out_bias)

    @classmethod
    def selections(cls, section: dict[str, Any], where: str) -> Iterator[Selection]:
        """Iterate over the numbers of neighbors in a section; see :meth:`Descriptor.selections`."""
        return iter(())

    def members(self) -> Sequence["AtomicModel"]:
        """Return the atomic models that this one is made of."""
        return ()

    def components(self) -> dict[str, Any]:
        """Return the components by the names that counts of parameters have, in their order."""
        return {}

    def kinds(self) -> list[str]:
        """Return the kinds of what is predicted; see :meth:`Model.kinds`."""
        return self.output_def().keys()

    def compute_statistics(self, sample: Sample) -> None:
        """Set the statistics of all parts from sampled frames, but not the biases."""
        for node, seen in self.statistics_nodes(sample):
            node.compute_statistics(seen)

    def statistics_nodes(self, sample: Sample) -> Iterator[tuple[Any, Sample]]:
        """Iterate over the parts with statistics of their own, and the frames as each sees them.

        Members with types in another order see them in theirs; those that are not trained keep
        their own.
        """
        seen = sample.without_pairs(self.pair_exclude_types, self.type_map)
        for member in self.members():
            if member.trainable:
                yield from member.statistics_nodes(seen.of_types(member.type_map))

    @property
    def common_bias(self) -> bool:
        """Whether the first row of bias and deviation serves for all types."""
        return False

    def own_bias(self) -> np.ndarray:
        """Bias that parts add to the output beside ``out_bias``, (ntypes, size)."""
        return np.zeros((self.ntypes, 1))

    def clear_inner_biases(self) -> None:
        """Set the biases of all parts to zero, so that ``out_bias`` is the whole."""
        for member in self.members():
            member.out_bias[:] = 0.0
            member.clear_inner_biases()

    def fixed_biases(self, name: str) -> list[Sequence[Any]]:
        """Biases of an output that the input fixes, by types; the last has the last word."""
        given = (self.preset_out_bias or {}).get(name)
        return [] if given is None else [given]

    def change_types(self, change: TypeChange) -> None:
        """Adopt another type map; new types have no bias. Parts are changed by the subclasses."""
        for name, fill in (("out_bias", 0.0), ("out_std", 1.0)):
            rows = getattr(self, name)
            if self.common_bias:
                setattr(self, name, np.repeat(rows[:, :1], len(change.new), axis=1))
            else:
                setattr(self, name, change.rows(rows, fill, axis=1))
        self.atom_exclude_types = change.types(self.atom_exclude_types)
        self.pair_exclude_types = change.pairs(self.pair_exclude_types)
        if self.preset_out_bias is not None:
            given = self.preset_out_bias.items()
            self.preset_out_bias = {k: None if v is None else change.values(v) for k, v in given}
        self.type_map = list(change.new)

    def compress(self, settings: TableSettings) -> list[str]:
        """Tabulate embedding networks, in place; see :meth:`Descriptor.compress`."""
        parts = {id(member): member for member in self.members()}  # one may serve twice
        return [line for member in parts.values() for line in member.compress(settings)]

    def uncompress(self) -> None:
        """Drop the tables, in place."""
        for member in self.members():
            member.uncompress()

    def warnings(self, hidden: Collection[tuple[int, int]] = ()) -> list[str]:
        """Return what a user should know of the physics; see :meth:`Descriptor.warnings`."""
        return []

    def output_def(self) -> FittingOutputDef:
        """Return what this model predicts."""
        raise TypeError(f"{type(self).__name__} does not state its outputs")

    def sel_type(self) -> list[int]:
        """Return the types that are predicted; empty means all."""
        return []

    def packings(self) -> list[Packing]:
        """Return the layouts of neighbors of all parts, in a fixed order, each once."""
        raise TypeError(f"{type(self).__name__} does not state its packings")

    def call(self, atoms: Atoms, slots: Slots, extra: Sequence[str] = ()) -> dict[str, Any]:
        """Evaluate every atom.

        Parameters
        ----------
        atoms, slots
            The batch, and its neighbors packed as :meth:`packings` says.
        extra : sequence of str
            ``descriptor`` and ``fitting_last_layer`` are returned too when named here.

        Returns
        -------
        dict
            {name: (n_atoms, size) float64}
        """
        raise TypeError(f"{type(self).__name__} cannot be evaluated")


Module._classes["Model"] = AtomicModel


def atomic_serial(
    kind: str, version: int, keys: str, children: tuple[str, ...], **more: Any
) -> Serial:
    """Return what an atomic model holds: the common part, and the keys and children of its own."""
    return Serial(
        layout="type_map atom_exclude_types pair_exclude_types rcond preset_out_bias @variables"
        f" @class @version type {keys}",
        name="Model",
        type=kind,
        version=version,
        accepts=tuple(range(2, version + 1)),
        buffers=("out_bias", "out_std"),
        children=children,
        **more,
    )


def add_out_bias(model: AtomicModel, values: dict[str, Any], atoms: Atoms) -> dict[str, Any]:
    """Add the model's bias per type to every output that has one."""
    out = dict(values)
    for k, (name, definition) in enumerate(model.output_def().get_data().items()):
        bias = model.out_bias[k, :, : definition.size]
        out[name] = values[name] + ops.take(bias, atoms.atype)
    return out


def without_excluded(model: AtomicModel, values: dict[str, Any], atoms: Atoms) -> dict[str, Any]:
    """Set the contributions of excluded center types to zero."""
    if not model.atom_exclude_types:
        return values
    excluded, n = model.atom_exclude_types, model.ntypes
    return {k: v * kept_atoms(excluded, n, atoms.atype, v) for k, v in values.items()}


def total(sel: int | Sequence[int]) -> int:
    """Return the largest number of neighbors of all types."""
    return int(sel) if isinstance(sel, int) else int(sum(sel))
