# SPDX-License-Identifier: LGPL-3.0-or-later
"""Deep potential long range (DPLR): electrostatics of ions and Wannier centroids.

Source: Zhang et al., J. Chem. Phys. 156, 124107 (2022), https://doi.org/10.1063/5.0083669.
"""

import dataclasses
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from deepmd.base.errors import InputError
from deepmd.dpmodel import ops
from deepmd.dpmodel.batch import Batch, Edges
from deepmd.dpmodel.ewald import EwaldRecp
from deepmd.dpmodel.model.model import Model
from deepmd.dpmodel.model.modifier import FrameEnergy, Modifier, Response, respond
from deepmd.dpmodel.module import Serial
from deepmd.dpmodel.neighbors import batch_edges
from deepmd.dpmodel.type_map import TypeChange
from deepmd.schema.common import POSITIVE
from deepmd.schema.settings import setting


@Modifier.register("dipole_charge")
class DipoleChargeModifier(Modifier):
    """Ewald sum of Gaussian charges on atoms and on Wannier centroids.

    Every atom has the charge of its type. An atom whose type the dipole model selects has a
    centroid at its position plus its dipole, with the charge of that type. The sum is the
    reciprocal part, see :class:`~deepmd.dpmodel.ewald.EwaldRecp`; what it lacks at short distances
    is left to the short-range model, which is trained on labels less this energy.
    """

    serial = Serial(
        layout="@class @version type model_name model_charge_map sys_charge_map ewald_h ewald_beta"
        " model",
        name="Modifier",
        type="dipole_charge",
        version=3,
        accepts=(1, 2, 3),
        children=("dipole",),
        keys={"dipole": "model"},
    )
    child_kinds = {"model": Model}

    model_name: str = setting(..., "Model file of the dipoles, of any backend.")
    model_charge_map: list[float] = setting(
        ..., "Charges of the Wannier centroids, e, one per type that the dipole model selects."
    )
    sys_charge_map: list[float] = setting(..., "Charges of the atoms, e, one per type.")
    ewald_beta: float = setting(0.4, "Splitting of the Ewald sum, 1/Å.", rule=POSITIVE)
    ewald_h: float = setting(1.0, "Spacing of the grid of the Ewald sum, Å.", rule=POSITIVE)

    def build(self) -> None:
        """Begin without a dipole model."""
        self.dipole: Any = None
        #: Types of the model that is corrected.
        self.type_map: list[str] = []

    @classmethod
    def for_model(
        cls,
        section: dict[str, Any],
        type_map: Sequence[str],
        where: str,
        read: Callable[[str], Model],
    ) -> "DipoleChargeModifier":
        """Build the modifier of a checked section, with the dipole model of its file.

        Raises
        ------
        InputError
            If the file holds no dipole model, or charges are missing.
        """
        made = cls(**section)
        made.dipole = read(made.model_name)
        made.adopt(type_map, where)
        return made

    def adopt(self, type_map: Sequence[str], where: str | None = None) -> None:
        """Take the types of the model that is corrected.

        Raises
        ------
        InputError
            If the dipole model or the charges do not fit them.
        """
        dipole = self.dipole
        if dipole.kinds() != ["dipole"] or dipole.expands():
            raise InputError(
                "is no model of dipoles without spins",
                where=self.model_name,
                fix='train one with fitting_net/type "dipole"',
            )
        known, selected = dipole.get_type_map(), self._selected()
        unknown = [name for name in type_map if name not in known]
        if unknown:
            raise InputError(
                f"does not know the types {', '.join(unknown)}",
                where=self.model_name,
                fix="train the dipole model with the type_map of this model",
            )
        for name, charges, types in (
            ("sys_charge_map", self.sys_charge_map, list(type_map)),
            ("model_charge_map", self.model_charge_map, [known[t] for t in selected]),
        ):
            if len(charges) != len(types):
                raise InputError(
                    f"has {len(charges)} charges for the types {', '.join(types)}",
                    where=f"{where or 'modifier'}/{name}",
                    fix="give one per type",
                )
        self.type_map = list(type_map)

    def _selected(self) -> list[int]:
        """Types of the dipole model that have a centroid."""
        return self.dipole.get_sel_type() or list(range(self.dipole.get_ntypes()))

    def change_types(self, change: TypeChange) -> None:
        """Adopt another type map of the model that is corrected; charges are matched by name."""
        missing = [name for name in change.new if name not in change.old]
        if missing:
            raise InputError(
                f"has no charge of {', '.join(missing)}",
                where="modifier/sys_charge_map",
                fix="train the model anew with these types",
            )
        self.sys_charge_map = [self.sys_charge_map[change.old.index(n)] for n in change.new]
        self.adopt(change.new)

    # -- evaluation -------------------------------------------------------------------------------

    def energy(self, batch: Batch, respond: Callable[..., Response] = respond) -> FrameEnergy:
        """Return the electrostatic energy of periodic frames, and its derivatives.

        Raises
        ------
        InputError
            If a frame is not periodic.
        """
        if not batch.periodic.all():
            raise InputError(
                "an Ewald sum needs a periodic frame, this one has no cell",
                where="cell",
                fix="give a cell that is large enough",
            )
        own = self._dipole_batch(batch)
        values, pullback = respond(self.dipole, own)
        chosen, charges = self._centroids(own.atype)
        sites = batch.coord + np.asarray(values["dipole"])
        ions = np.asarray(self.sys_charge_map, np.float64)[batch.atype]
        n, ewald = batch.n_frames, EwaldRecp(self.ewald_h, self.ewald_beta)
        energy, by_cell = np.zeros(n), np.zeros((n, 3, 3))
        by_position, by_site = np.zeros_like(batch.coord), np.zeros_like(batch.coord)
        for f, (a, b) in enumerate(itertools.pairwise(batch.offsets())):
            with_site = np.arange(a, b)[chosen[a:b]]
            found = ewald.frame(
                np.concatenate([batch.coord[a:b], sites[with_site]]),
                np.concatenate([ions[a:b], charges[with_site]]),
                batch.cell[f],
            )
            energy[f], by_cell[f] = found.energy, found.by_cell
            by_position[a:b] = found.by_position[: b - a]
            by_site[with_site] = found.by_position[b - a :]
        g = pullback({"dipole": by_site})
        edges, total = own.edges, batch.n_atoms
        by_position += by_site
        by_position += ops.segment_sum(g, edges.j, total) - ops.segment_sum(g, edges.i, total)
        by_shift = (edges.shift[:, :, None] * g[:, None, :]).reshape(-1, 9)
        by_cell += ops.segment_sum(by_shift, batch.frame[edges.i], n).reshape(n, 3, 3)
        return FrameEnergy(energy, by_position, by_cell)

    def _centroids(self, atype: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Whether an atom has a centroid, and the charge of it, by types of the dipole model."""
        charge_of = np.zeros(self.dipole.get_ntypes())
        has = np.zeros(self.dipole.get_ntypes(), bool)
        has[self._selected()] = True
        charge_of[self._selected()] = self.model_charge_map
        return has[atype], charge_of[atype]

    def _dipole_batch(self, batch: Batch) -> Batch:
        """Return the frames with the types and the neighbors of the dipole model."""
        known, rcut = self.dipole.get_type_map(), self.dipole.get_rcut()
        types = np.array([known.index(name) for name in self.type_map], np.int64)
        own = dataclasses.replace(batch, atype=types[batch.atype], labels={}, find={})
        if batch.edges is None or batch.reach < rcut:
            own.edges = batch_edges(own, rcut)
            return own
        vec, e = batch.vectors(), batch.edges
        near = np.einsum("ek,ek->e", vec, vec) <= rcut * rcut
        own.edges = Edges(e.i[near], e.j[near], e.shift[near])
        return own
