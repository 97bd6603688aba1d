# SPDX-License-Identifier: LGPL-3.0-or-later
"""Energy of a QM region by one model, and of its interaction with fragments by another."""

import copy
import dataclasses
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from deepmd.base.errors import InputError
from deepmd.dpmodel import ops
from deepmd.dpmodel.atomic_model.base import (
    AtomicModel,
    add_out_bias,
    atomic_serial,
    without_excluded,
)
from deepmd.dpmodel.atomic_model.combined import CombinedAtomicModel
from deepmd.dpmodel.descriptor.base import Atoms, Slots
from deepmd.dpmodel.fitting.named_layers import share_equal_layers
from deepmd.dpmodel.fragments import MM, QM
from deepmd.dpmodel.input_def import InputDef
from deepmd.dpmodel.module import modules
from deepmd.dpmodel.neighbors import Packing
from deepmd.dpmodel.nn.random import child_seed
from deepmd.dpmodel.nn.type_embedding import TypeEmbedding
from deepmd.dpmodel.output_def import Level
from deepmd.dpmodel.type_map import TypeChange
from deepmd.io.tree import difference
from deepmd.schema.descriptor import Selection


@AtomicModel.register("pairwise_dprc")
class PairwiseAtomicModel(CombinedAtomicModel):
    """``e_i`` of the QM model in the QM region, of the QM/MM model in a fragment and its copy.

    Atoms are those of an expanded batch, see :func:`deepmd.dpmodel.fragments.split_regions`, whose
    ``role`` says which of the models evaluates an atom. Both models have biases of their own; that
    of the whole is one of every atom, not of copies.

    Parameters
    ----------
    qm_model, qmmm_model : AtomicModel
        Of the same types; they predict energies.
    """

    serial = atomic_serial("pairwise_dprc", 2, "qm_model qmmm_model", ("qm_model", "qmmm_model"))

    qm_model: Any
    qmmm_model: Any

    def __init__(
        self,
        qm_model: AtomicModel | None,
        qmmm_model: AtomicModel | None,
        type_map: Sequence[str],
        **settings: Any,
    ) -> None:
        self.qm_model, self.qmmm_model = qm_model, qmmm_model
        super().__init__(type_map, **settings)
        if qm_model is not None:
            self.check_members()

    def check_members(self) -> None:
        """Raise InputError if the models do not fit each other."""
        for name, model in self.named().items():
            where = f"model/{name}"
            if model.type_map != self.type_map:
                raise InputError(
                    f"its types are {model.type_map}, those of the whole {self.type_map}",
                    where=f"{where}/type_map",
                    fix="leave it out",
                )
            outputs = model.output_def().keys()
            if list(outputs) != ["energy"]:
                raise InputError(
                    f"predicts {', '.join(outputs)}, not energies",
                    where=f"{where}/fitting_net",
                    fix="use the fitting net ener",
                )
            if any(one.name == "aparam" for one in model.inputs()):
                raise InputError(
                    "reads parameters of atoms, which are the regions here",
                    where=f"{where}/fitting_net/numb_aparam",
                    fix="set it to 0",
                )

    def _embeddings(self) -> list[TypeEmbedding]:
        """Return the type embeddings of both models, if both have one."""
        found = ([n for n in modules(m) if isinstance(n, TypeEmbedding)] for m in self.members())
        first, second = found
        return [first[0], second[0]] if first and second else []

    def share_types(self) -> None:
        """Let the QM/MM model have the type embedding of the QM model, if both have one."""
        first, second = self._embeddings() or (None, None)
        node: Any
        for node in modules(self.qmmm_model):
            if getattr(node, "type_embedding", None) is second:
                node.type_embedding = first

    def share_named_layers(self, share: Callable[[list[Any], list[str]], None]) -> None:
        """Let layers of one name be one in the networks of both fittings, where these have names.

        ``share`` does so for a list of layers and their names.
        """
        fittings: list[Any] = [getattr(m, "fitting", None) for m in self.members()]
        if any(not getattr(one, "layer_name", None) for one in fittings):
            return
        names = [name for one in fittings for name in one.layer_name]
        for networks in zip(*(one.nets.networks for one in fittings), strict=False):
            layers = [layer for network in networks for layer in network.layers]
            share(layers, names)
            networks[1].layers = layers[len(networks[0].layers) :]

    def restore(self, data: dict) -> None:
        """Take both models from a dictionary; what is equal there and may be shared is one."""
        super().restore(data)
        self.check_members()
        self.share_named_layers(share_equal_layers)
        both = self._embeddings()
        if both and difference(both[0].serialize(), both[1].serialize()) is None:
            self.share_types()

    @classmethod
    def construct(cls, config: dict, data: dict) -> Any:
        return cls(None, None, **config)

    # -- queries ------------------------------------------------------------------------------

    def named(self) -> dict[str, AtomicModel]:
        """Return both models by name."""
        return {"qm_model": self.qm_model, "qmmm_model": self.qmmm_model}

    def members(self) -> Sequence[AtomicModel]:
        """Return both models."""
        return [self.qm_model, self.qmmm_model]

    def inputs(self) -> tuple[InputDef, ...]:
        """Inputs of both models, and the regions of the atoms."""
        regions = InputDef("aparam", Level.ATOM, 1)
        return (*super().inputs(), regions)

    @classmethod
    def selections(cls, section: dict[str, Any], where: str) -> Iterator[Selection]:
        """Iterate over the numbers of neighbors in the sections of both models."""
        for name in ("qm_model", "qmmm_model"):
            kind = AtomicModel.kind_of(section.get(name))
            if kind is not None:
                yield from kind.selections(section[name], f"{where}/{name}")

    def change_types(self, change: TypeChange) -> None:
        """Adopt another type map; a type embedding of both stays one."""
        both = self._embeddings()
        shared = bool(both) and both[0] is both[1]
        # What is shared changes once.
        self.qmmm_model = copy.deepcopy(self.qmmm_model)
        for k, model in enumerate(self.members()):
            seed = child_seed(change.seed, k)
            model.change_types(TypeChange(list(model.type_map), change.new, seed))
        super().change_types(change)
        self.share_named_layers(share_equal_layers)
        if shared:
            self.share_types()

    # -- biases -------------------------------------------------------------------------------

    def set_given_biases(self) -> None:
        """Set the biases of both models to what their ``atom_ener`` gives, 0 where it does not."""
        for model in self.members():
            for given in model.fixed_biases("energy"):
                for t, value in enumerate(given):
                    if value is not None:
                        model.out_bias[0, t, 0] = float(value) - model.own_bias()[t, 0]

    def fixed_biases(self, name: str) -> list[Sequence[Any]]:
        """Biases beside those of both models: kept where both give one, or where they are given."""
        both = [dict(enumerate(last(m.fixed_biases(name)))) for m in self.members()]
        known = [all(one.get(t) is not None for one in both) for t in range(self.ntypes)]
        kept = [float(b) if k else None for b, k in zip(self.out_bias[0, :, 0], known, strict=True)]
        return [kept, *super().fixed_biases(name)]

    # -- evaluation ---------------------------------------------------------------------------

    def packings(self) -> list[Packing]:
        """Return the layouts of both models, each once."""
        found = [self._layout(p) for m in self.members() for p in m.packings()]
        return list(dict.fromkeys(found))

    def _layout(self, packing: Packing) -> Packing:
        """Return a packing of one of the models without the pairs that the whole excludes."""
        if not self.pair_exclude_types or packing.layout == "centres":
            return packing
        pairs = tuple((int(a), int(b)) for a, b in self.pair_exclude_types)
        return dataclasses.replace(packing, exclude=packing.exclude + pairs)

    def call(self, atoms: Atoms, slots: Slots, extra: Sequence[str] = ()) -> dict[str, Any]:
        """Evaluate every atom; see :class:`AtomicModel`."""
        role = atoms.atom_inputs["role"]
        # The bias is one of atoms, not of copies.
        of_atoms = ops.cast(role == QM, "float64") + ops.cast(role == MM, "float64")
        energy = of_atoms * add_out_bias(self, {"energy": 0.0 * role}, atoms)["energy"]
        for model, mine in ((self.qm_model, role == QM), (self.qmmm_model, role > QM)):
            seen = {p: slots[self._layout(p)] for p in model.packings()}
            energy = energy + ops.cast(mine, "float64") * model(atoms, seen)["energy"]
        return without_excluded(self, {"energy": energy}, atoms)


def last(sources: Sequence[Sequence[Any]]) -> list[Any]:
    """Return biases by type, of several sources the last that gives one."""
    width = max((len(one) for one in sources), default=0)
    found: list[Any] = [None] * width
    for one in sources:
        found = [old if new is None else new for old, new in itertools.zip_longest(found, one)]
    return found
