# SPDX-License-Identifier: LGPL-3.0-or-later
"""Weighted sums of models, with constant weights or with weights that follow the distance."""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from deepmd.base.errors import InputError
from deepmd.dpmodel import ops
from deepmd.dpmodel.atomic_model.base import (
    AtomicModel,
    add_out_bias,
    atomic_serial,
    without_excluded,
)
from deepmd.dpmodel.atomic_model.combined import CombinedAtomicModel
from deepmd.dpmodel.atomic_model.pairtab import edges_of
from deepmd.dpmodel.descriptor.base import Atoms, Slots
from deepmd.dpmodel.neighbors import Packing
from deepmd.dpmodel.nn.environment import switch
from deepmd.dpmodel.nn.random import child_seed
from deepmd.dpmodel.type_map import TypeChange
from deepmd.schema.common import Rule
from deepmd.schema.descriptor import Selection
from deepmd.schema.settings import setting


def _mean_weights(data: dict) -> dict:
    """Version 2 always took the mean."""
    return {"weights": "mean", **data}


@AtomicModel.register("linear", "linear_ener")
class LinearAtomicModel(CombinedAtomicModel):
    """``e_i = Σ_m c_m e_i^m + bias``; every model keeps its own biases.

    All are without distinguished types; types are matched by name.
    """

    #: Path of the section of a member.
    place = "model/models/{}"
    serial = atomic_serial("linear", 3, "models weights", ("models",), upgrades={2: _mean_weights})

    weights: Any = setting(
        "mean",
        'One number per model, "mean" or "sum".',
        kind=[list[float], str],
        rule=Rule(
            lambda v: isinstance(v, list) or v in ("mean", "sum"),
            'must be a list of numbers, "mean" or "sum"',
        ),
    )

    def __init__(
        self, models: Sequence[AtomicModel], type_map: Sequence[str], **settings: Any
    ) -> None:
        self.models = list(models)
        super().__init__(type_map, **settings)
        if not isinstance(self.weights, str):
            self.weights = [float(w) for w in self.weights]
        for k, model in enumerate(self.models):
            self._check_member(k, model)

    def _check_member(self, k: int, model: AtomicModel) -> None:
        missing = [name for name in self.type_map if name not in model.type_map]
        if missing:
            raise InputError(
                f"does not know the types {', '.join(missing)}",
                where=f"{self.place.format(k)}/type_map",
                fix="every type of the whole must be in every member",
            )
        outputs = model.output_def().keys()
        if "energy" not in outputs:
            raise InputError(
                f"predicts {', '.join(outputs)}, not energies",
                where=f"{self.place.format(k)}/fitting_net",
                fix="use the fitting net ener",
            )
        if not model.mixed_types:
            raise InputError(
                "a sum of models needs a descriptor without distinguished types",
                where=f"{self.place.format(k)}/descriptor",
                fix="use one such as se_atten",
            )

    @classmethod
    def selections(cls, section: dict[str, Any], where: str) -> Iterator[Selection]:
        """Iterate over the numbers of neighbors in the sections of the components."""
        for k, member in enumerate(section.get("models", ())):
            kind = AtomicModel.kind_of(member)
            if kind is not None:
                yield from kind.selections(member, f"{where}/models[{k}]")

    def members(self) -> Sequence[AtomicModel]:
        """Return the components."""
        return self.models

    def change_types(self, change: TypeChange) -> None:
        """Adopt another type map; the components match their types by name."""
        components = {id(m): m for m in self.models}  # one may serve twice
        for k, model in enumerate(components.values()):
            seed = child_seed(change.seed, k)
            model.change_types(TypeChange(list(model.type_map), change.new, seed))
        super().change_types(change)

    def coefficients(self) -> list[float]:
        """Weight of every member."""
        n = len(self.models)
        if isinstance(self.weights, str):
            return [1.0 / n if self.weights == "mean" else 1.0] * n
        return list(self.weights)

    def packings(self) -> list[Packing]:
        """Return the members' layouts, each once, in the whole's types."""
        found = [self._layout(k, p) for k, m in enumerate(self.models) for p in m.packings()]
        return list(dict.fromkeys(found))

    def _layout(self, k: int, packing: Packing) -> Packing:
        """A member's packing with its excluded pairs, and the whole's, in the whole's types."""
        names = self.models[k].type_map
        own = tuple(
            (self.type_map.index(names[a]), self.type_map.index(names[b]))
            for a, b in packing.exclude
            if names[a] in self.type_map and names[b] in self.type_map
        )
        whole = tuple((int(a), int(b)) for a, b in self.pair_exclude_types)
        return dataclasses.replace(packing, ntypes=self.ntypes, exclude=own + whole)

    def energies(self, atoms: Atoms, slots: Slots) -> list[Any]:
        """Energy of every atom by every member, own biases included."""
        out = []
        for k, model in enumerate(self.models):
            number = np.array([model.type_map.index(n) for n in self.type_map], dtype=np.int64)
            index = ops.like(number, atoms.atype)
            mine = {p: slots[self._layout(k, p)] for p in model.packings()}
            for p in mine:
                if p.layout == "first_type":
                    mine[p] = [ops.take(index, s) for s in mine[p]]
            local = atoms._replace(atype=ops.take(index, atoms.atype))
            out.append(model(local, mine)["energy"])
        return out

    def call(self, atoms: Atoms, slots: Slots, extra: Sequence[str] = ()) -> dict[str, Any]:
        """Evaluate every atom; see :class:`AtomicModel`."""
        energy = self.mean(self.energies(atoms, slots), atoms, slots)
        return without_excluded(self, add_out_bias(self, {"energy": energy}, atoms), atoms)

    def mean(self, energies: list[Any], atoms: Atoms, slots: Slots) -> Any:
        """Weigh the energies of the members, each (n_atoms, 1), and add them up."""
        return sum(c * e for c, e in zip(self.coefficients(), energies, strict=True))

    @classmethod
    def construct(cls, config: dict, data: dict) -> Any:
        return cls([], **config)


@AtomicModel.register("zbl")
class ZBLAtomicModel(LinearAtomicModel):
    """A network that gives way to a pair table at short distances.

    ``e_i = (1 - w_i) e_i^net + w_i e_i^table + bias``, where ``w_i`` falls from 1 to 0 between
    ``sw_rmin`` and ``sw_rmax`` as a function of the softmin of the neighbors' distances,
    ``σ_i = Σ_j r e^(-r/α) / Σ_j e^(-r/α)``.

    Wang et al., Appl. Phys. Lett. 114, 244101 (2019).

    The models are the network and the table.
    """

    place = "model"
    serial = atomic_serial("zbl", 2, "models weights sw_rmin sw_rmax smin_alpha", ("models",))

    sw_rmin: float = setting(..., "Below this distance only the table acts, Å.")
    sw_rmax: float = setting(..., "Above this distance only the network acts, Å.")
    smin_alpha: float = setting(0.1, "Decay length of the soft minimum, Å.")

    def mean(self, energies: list[Any], atoms: Atoms, slots: Slots) -> Any:
        """Weigh the energies of network and table, each (n_atoms, 1), and add them up."""
        network, table = energies
        w = self.table_weight(atoms, slots)[:, None]
        return (1.0 - w) * network + w * table

    def table_weight(self, atoms: Atoms, slots: Slots) -> Any:
        """Weight of the table for every atom (n_atoms,); 0 for an atom without neighbors."""
        (packing,) = self.models[1].packings()
        i, _, r = edges_of(atoms, slots[self._layout(1, packing)][0])
        space, n = ops.xp(r), ops.shape(atoms.atype)[0]
        # Padding of the list lies at the cutoff or beyond and belongs to nobody.
        e = space.exp(r * (-1.0 / self.smin_alpha)) * ops.cast(r < self.rcut, "float64")
        total = ops.segment_sum(e, i, n)
        alone = total == 0
        softmin = ops.segment_sum(r * e, i, n) / space.where(alone, total + 1.0, total)
        w = switch(softmin, self.sw_rmax, self.sw_rmin)
        return space.where(alone, 0.0 * w, w)


@AtomicModel.register("zbl_bare_table")
class BareTableZBLAtomicModel(ZBLAtomicModel):
    """The same with a bias of the network only: ``e_i = (1 - w_i) (e_i^net + bias) + w_i e_i^table``.

    This is what ``srtab_add_bias`` false asks for. It has a name of its own in files, for a program
    that does not know it must not add the bias to the table.
    """

    serial = atomic_serial(
        "zbl_bare_table", 2, "models weights sw_rmin sw_rmax smin_alpha", ("models",)
    )

    def call(self, atoms: Atoms, slots: Slots, extra: Sequence[str] = ()) -> dict[str, Any]:
        """Evaluate every atom; see :class:`AtomicModel`."""
        network, table = self.energies(atoms, slots)
        network = add_out_bias(self, {"energy": network}, atoms)["energy"]
        energy = self.mean([network, table], atoms, slots)
        return without_excluded(self, {"energy": energy}, atoms)
