# SPDX-License-Identifier: LGPL-3.0-or-later
"""From a batch to the arrays a model is evaluated on."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from deepmd.dpmodel.batch import Batch
from deepmd.dpmodel.neighbors import Overflow, Packing, pack


class Inputs(NamedTuple):
    """Arguments of the evaluation entry, in the order every compiled model file has.

    Attributes
    ----------
    vec : (n_edges, 3) float64 [Å]
        Neighbour minus centre: the only array that is differentiated.
    i, j : (n_edges,) int64
    atype, frame : (n_atoms,) int64
    fparam : (n_frames, n_fparam) float64
        Where a model takes them, charge and spin multiplicity are the last two columns.
    aparam : (n_atoms, n_aparam) float64
        Of a model with spins, the displacements of the atoms [Å] are the last three columns.
    slots : list of int64 arrays
        As :func:`deepmd.dpmodel.neighbors.pack` makes them for the model's packings.
    """

    vec: Any
    i: Any
    j: Any
    atype: Any
    frame: Any
    fparam: Any
    aparam: Any
    slots: list[Any]

    @classmethod
    def of(cls, arrays: Sequence[Any]) -> "Inputs":
        """Build from all arrays in a row, as compiled programs take them; slots are the last."""
        first = dict(zip(cls._fields[:-1], arrays, strict=False))
        return cls(**first, slots=list(arrays[len(first) :]))

    def map(self, f: Callable[[Any], Any]) -> "Inputs":
        """Apply ``f`` to every array."""
        mapped = {name: f(getattr(self, name)) for name in self._fields[:-1]}
        return Inputs(**mapped, slots=[f(s) for s in self.slots])


#: Distances below this [Å] are taken for it, so that nothing is divided by zero.
SHORTEST = 1e-20


def squared_lengths(batch: Batch, vec: np.ndarray) -> np.ndarray:
    """Squared lengths (n_edges,) [Å²] by which neighbours are chosen.

    Atoms at the same place are no neighbours, but a displaced atom and the one on its site are,
    however small the displacement.
    """
    r2 = np.einsum("ea,ea->e", vec, vec)
    return r2 if batch.displacement is None else np.maximum(r2, SHORTEST**2)


def atom_parameters(batch: Batch) -> np.ndarray:
    """Parameters of the atoms and, where there are any, displacements: (n_atoms, n)."""
    aparam = np.zeros((batch.n_atoms, 0)) if batch.aparam is None else batch.aparam
    if batch.displacement is None:
        return aparam
    return np.concatenate([aparam, batch.displacement], axis=1)


def prepare(batch: Batch, packings: Sequence[Packing], overflow: Overflow | None = None) -> Inputs:
    """Compute the edge vectors of a batch and pack its neighbours."""
    vec = batch.vectors()
    r2 = squared_lengths(batch, vec)
    slots = pack(list(packings), batch.edges, batch.atype, r2, overflow, batch.frame)
    fparam = np.zeros((batch.n_frames, 0)) if batch.fparam is None else batch.fparam
    if batch.charge_spin is not None:
        fparam = np.concatenate([fparam, batch.charge_spin], axis=1)
    aparam = atom_parameters(batch)
    return Inputs(
        vec, batch.edges.i, batch.edges.j, batch.atype, batch.frame, fparam, aparam, slots
    )
