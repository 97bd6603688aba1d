# SPDX-License-Identifier: LGPL-3.0-or-later
"""Energies that depend on spins, through virtual atoms.

Every atom gets a virtual partner at ``r' = r + s * virtual_scale[type]``, of a type of its own.
An ordinary model sees twice the atoms; the partners of types without spin are hidden from it, and
no partner has an energy. Yang et al., Phys. Rev. B 110, 064427 (2024).
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from deepmd.base.errors import InputError, ModelFileError
from deepmd.dpmodel import ops
from deepmd.dpmodel.atomic_model.base import AtomicModel
from deepmd.dpmodel.batch import Batch, Edges
from deepmd.dpmodel.input_def import InputDef
from deepmd.dpmodel.model.inputs import Inputs
from deepmd.dpmodel.model.model import Model, with_terms
from deepmd.dpmodel.neighbors import batch_edges
from deepmd.dpmodel.output_def import FittingOutputDef, Level, of_level
from deepmd.dpmodel.type_map import TypeChange


def with_partners(batch: Batch, virtual_scale: Sequence[float]) -> Batch:
    """Return atoms and partners, without edges and labels; atom k is 2k and its partner 2k + 1."""
    shift = _shift(batch, virtual_scale)
    displacement = np.concatenate([0.0 * shift, shift], axis=1).reshape(-1, 3)
    return dataclasses.replace(
        batch,
        coord=np.repeat(batch.coord, 2, axis=0) + displacement,
        atype=(batch.atype[:, None] + [0, len(virtual_scale)]).reshape(-1),
        frame=np.repeat(batch.frame, 2),
        natoms=2 * batch.natoms,
        aparam=None if batch.aparam is None else np.repeat(batch.aparam, 2, axis=0),
        labels={},
        find={},
        spin=None,
        displacement=displacement,
        edges=None,
    )


def farthest_partner(batch: Batch, virtual_scale: Sequence[float]) -> float:
    """Return the largest distance of an atom and its partner [Å]."""
    shift = _shift(batch, virtual_scale)
    return float(np.sqrt((shift * shift).sum(axis=1).max(initial=0.0)))


def _shift(batch: Batch, virtual_scale: Sequence[float]) -> np.ndarray:
    return batch.spin * np.asarray(virtual_scale)[batch.atype][:, None]


@Model.registry.register("spin_ener")
class SpinModel(Model):
    """An atomic model of atoms and their virtual partners.

    In an expanded batch atom k is number 2k and its partner number 2k + 1.

    Parameters
    ----------
    atomic_model : AtomicModel
        Its type map is that of the atoms followed by that of their partners.
    use_spin : list of bool
        Which types have a spin.
    virtual_scale : list of float
        Displacement of the partner per unit of spin [Å], for every type; 0 for those without.
    """

    def __init__(
        self,
        atomic_model: AtomicModel,
        *,
        use_spin: Sequence[bool],
        virtual_scale: Sequence[float],
    ) -> None:
        super().__init__(atomic_model)
        self.use_spin = [bool(u) for u in use_spin]
        self.virtual_scale = [float(x) for x in virtual_scale]

    # -- queries ------------------------------------------------------------------------------

    @property
    def type_map(self) -> list[str]:
        """Names of the types of real atoms."""
        return self.atomic_model.type_map[: len(self.use_spin)]

    def has_spin(self) -> bool:
        """Whether atoms have spins."""
        return True

    def expands(self) -> bool:
        """Whether another batch than the given one is evaluated."""
        return True

    def get_use_spin(self) -> list[bool]:
        """Return which types have a spin."""
        return list(self.use_spin)

    def entry_inputs(self) -> tuple[InputDef, ...]:
        """Inputs of the evaluation entry: displacements [Å] in place of spins."""
        return (*super().inputs(), InputDef("displacement", Level.ATOM, 3))

    def inputs(self) -> tuple[InputDef, ...]:
        """Inputs of the atomic model, and spins."""
        return (*super().inputs(), InputDef("spin", Level.ATOM, 3))

    def spin_scale(self) -> tuple[float, ...]:
        """Displacement of the virtual atom per unit of spin [Å], for every type."""
        return tuple(self.virtual_scale)

    def output_def(self) -> FittingOutputDef:
        """Return what the model predicts."""
        known = self.atomic_model.output_def().get_data().values()
        return FittingOutputDef([dataclasses.replace(v, magnetic=True) for v in known])

    def change_types(self, change: TypeChange) -> None:
        """Adopt another type map; new types have no spin, their partners are no neighbors."""
        atomic, names = self.atomic_model, change.new
        n, before = len(names), atomic.type_map
        partner = dict(zip(change.old, before[len(change.old) :], strict=True))
        partner |= {name: f"{name}_spin" for name in change.added}
        fresh = [partner[name] for name in change.added]
        whole = [*names, *(partner[name] for name in names)]
        atomic.change_types(TypeChange(list(before), whole, change.seed, fresh))
        atomic.atom_exclude_types = sorted({*atomic.atom_exclude_types, *range(n, 2 * n)})
        self.use_spin = [bool(used) for used in change.values(self.use_spin)]
        self.virtual_scale = [scale or 0.0 for scale in change.values(self.virtual_scale)]

    # -- evaluation ---------------------------------------------------------------------------

    def expand(self, batch: Batch, *, all_centers: bool = False) -> Batch:
        """Return the batch of atoms and partners; see :class:`Model`.

        A partner may be within the cutoff where its atom is not: the pairs are found anew unless
        they reach far enough.
        """
        if batch.displacement is not None:
            return batch
        if batch.spin is None:
            raise InputError(
                "the model needs the spins of the atoms, none are given",
                where="spin",
                fix="give three numbers per atom, zero for types without spin",
            )
        twice = with_partners(batch, self.virtual_scale)
        all_centers = all_centers or self.message_passing()
        reach = self.rcut + (1 + all_centers) * farthest_partner(batch, self.virtual_scale)
        sites = batch.edges if batch.reach >= reach else batch_edges(batch, reach)
        twice.edges = self._edges(sites, twice, all_centers)
        return twice

    def _edges(self, sites: Edges, twice: Batch, all_centers: bool) -> Edges:
        """All pairs of the expanded batch within the cutoff, and those of atom and partner.

        Without ``all_centers`` partners are neighbors but have none: in a local model their
        surroundings do not matter. An atom without spin and its partner are at the same distance:
        where one of them is the last of ``sel``, the partner, which is hidden, is kept, for it is
        first. DeePMD-kit leaves the choice to an unstable sort of all periodic images.
        """
        atoms = np.arange(twice.n_atoms // 2, dtype=np.int64)
        none = np.zeros((len(atoms), 3))
        parts = []
        for b in (1, 0):
            for a in (0, 1) if all_centers else (0,):
                parts.append((2 * sites.i + a, 2 * sites.j + b, sites.shift))
                if a != b:
                    parts.append((2 * atoms + a, 2 * atoms + b, none))
        i, j, shift = (np.concatenate(columns) for columns in zip(*parts, strict=True))
        order = np.argsort(i, kind="stable")
        twice.edges = Edges(i[order], j[order], shift[order])
        i, j, shift = twice.edges.i, twice.edges.j, twice.edges.shift
        vec = twice.vectors()
        r2 = np.einsum("ea,ea->e", vec, vec)
        kept = (r2 <= self.rcut**2) & ((r2 > 0.0) | (i // 2 == j // 2))
        if not self._crowded(i[kept], r2[kept], twice.n_atoms):
            visible = self._visible()[twice.atype]
            kept &= visible[i] & visible[j]
        return Edges(i[kept], j[kept], shift[kept])

    def _visible(self) -> np.ndarray:
        """Whether atoms of a type are neighbors of any others: (2 n_types,)."""
        return np.array([True] * len(self.use_spin) + self.use_spin)

    def _crowded(self, i: np.ndarray, r2: np.ndarray, n_atoms: int) -> bool:
        """Whether hidden partners must stay in the list, because they take the places of others."""
        hidden = np.flatnonzero(~self._visible())
        pairs = {(int(t), other) for t in hidden for other in range(self.atomic_model.ntypes)}
        for p in self.packings():
            if p.layout in ("centres", "first_type"):
                continue
            known = {*p.exclude, *((b, a) for a, b in p.exclude)}
            counts = np.bincount(i[r2 <= p.rcut * p.rcut], minlength=n_atoms)
            if pairs - known or counts.max(initial=0) > (p.nearest or sum(p.sel)):
                return True
        return False

    def atomic(
        self, inputs: Inputs, extra: Sequence[str] = (), *, order: int = 3
    ) -> dict[str, Any]:
        """Evaluate every atom and partner of an expanded batch."""
        if "displacement" not in inputs.atom_inputs:
            raise ValueError("a batch for a model with spins must go through expand()")
        return super().atomic(inputs, extra, order=order)

    def strain_vectors(self, inputs: Inputs) -> Any:
        """Vectors between the sites: spins stay as they are when the cell is deformed."""
        shift = inputs.atom_inputs["displacement"]
        return inputs.vec + ops.take(shift, inputs.i) - ops.take(shift, inputs.j)

    def assemble(
        self,
        raw: dict[str, Any],
        inputs: Inputs,
        n_frames: int,
        derivatives: Sequence[str],
        terms: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Sum over atoms and partners, and give the partners' results to their atoms."""
        both = super().assemble(raw, inputs, n_frames, derivatives)
        per_frame = of_level(self.output_def().results(), Level.FRAME)
        types = inputs.atype[0::2]
        out: dict[str, Any] = {}
        for name, value in both.items():
            if name in ("force", "atom_virial"):
                out[name] = value[0::2] + value[1::2]
            elif name in per_frame:
                out[name] = value
            else:
                out[name] = value[0::2]
        if "force" in both:
            out["force_mag"] = both["force"][1::2] * self._of_type(self.virtual_scale, types, both)
        if "atom_energy" in both:
            out["mask_mag"] = self._of_type(self.use_spin, types, both)
        if "mask" in out and min(self.atomic_model.atom_exclude_types) >= len(self.use_spin):
            del out["mask"]
        return with_terms(out, terms)

    def _of_type(self, values: Sequence[float], types: Any, like: dict[str, Any]) -> Any:
        """Take one number per type, (n_atoms, 1); atoms of padding may have a partner's type."""
        table = np.array([[float(x)] for x in [*values, *values]])
        return ops.take(ops.like(table, next(iter(like.values()))), types)

    # -- dictionaries -------------------------------------------------------------------------

    def serialize(self) -> dict:
        """Return the dictionary, which has neither class nor version at this level."""
        return {
            "type": "spin_ener",
            "backbone_model": self.atomic_model.serialize(),
            "spin": {"use_spin": list(self.use_spin), "virtual_scale": list(self.virtual_scale)},
        }

    @classmethod
    def deserialize(cls, data: dict) -> "SpinModel":
        """Build a model from its dictionary."""
        for key, needed in (("backbone_model", ()), ("spin", ("use_spin", "virtual_scale"))):
            missing = [k for k in (key, *needed) if k not in data and k not in data.get(key, {})]
            if missing:
                raise ModelFileError(f"spin_ener: key {', '.join(missing)} is missing")
        backbone = AtomicModel.deserialize(data["backbone_model"])
        model = cls(
            backbone,
            use_spin=data["spin"]["use_spin"],
            virtual_scale=data["spin"]["virtual_scale"],
        )
        counts = {len(model.use_spin), len(model.virtual_scale), len(backbone.type_map) / 2}
        if len(counts) > 1:
            raise ModelFileError(
                f"spin_ener: {len(model.use_spin)} types with {len(model.virtual_scale)} scales do "
                f"not fit the {len(backbone.type_map)} types of the backbone"
            )
        return model
