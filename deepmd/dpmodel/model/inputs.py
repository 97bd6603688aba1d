# SPDX-License-Identifier: LGPL-3.0-or-later
"""From a batch to the arrays a model is evaluated on."""

from collections.abc import Callable, Collection, Sequence
from typing import Any, NamedTuple

import numpy as np

from deepmd.dpmodel.batch import Batch
from deepmd.dpmodel.neighbors import Overflow, Packing, pack


class Inputs(NamedTuple):
    """Arguments of the evaluation entry, in the order every compiled model file has.

    Attributes
    ----------
    vec : (n_edges, 3) float64 [Å]
        Neighbor minus center: the only array that is differentiated.
    i, j : (n_edges,) int64
    atype, frame : (n_atoms,) int64
    frame_inputs : dict of str to (n_frames, size) float64
        ``fparam``, ``charge_spin``: what the model takes, see :meth:`Model.entry_inputs`.
    atom_inputs : dict of str to (n_atoms, size) float64
        ``aparam`` and, of models with spins, ``displacement``: from sites to their atoms [Å]. Of
        models with copies of atoms ``role``, ``owner`` and ``place``, see :class:`deepmd.dpmodel.batch.Batch`.
    slots : list of int64 arrays
        As :func:`deepmd.dpmodel.neighbors.pack` makes them for the model's packings.
    """

    vec: Any
    i: Any
    j: Any
    atype: Any
    frame: Any
    frame_inputs: dict[str, Any]
    atom_inputs: dict[str, Any]
    slots: list[Any]

    def flat(self) -> list[Any]:
        """Return all arrays in a row, those of dictionaries in their order."""
        named = [*self.frame_inputs.values(), *self.atom_inputs.values()]
        return [self.vec, self.i, self.j, self.atype, self.frame, *named, *self.slots]

    def with_arrays(self, arrays: Sequence[Any]) -> "Inputs":
        """Return inputs of the same names with other arrays, in the order of :meth:`flat`."""
        rest = iter(arrays)
        vec, i, j, atype, frame = (next(rest) for _ in range(5))
        frame_inputs = {name: next(rest) for name in self.frame_inputs}
        atom_inputs = {name: next(rest) for name in self.atom_inputs}
        return Inputs(vec, i, j, atype, frame, frame_inputs, atom_inputs, list(rest))

    def map(self, f: Callable[[Any], Any]) -> "Inputs":
        """Apply ``f`` to every array."""
        return self.with_arrays([f(x) for x in self.flat()])

    def named(self) -> set[str]:
        """Names of the inputs of frames and atoms."""
        return {*self.frame_inputs, *self.atom_inputs}

    def only(self, names: Collection[str]) -> "Inputs":
        """Return the inputs without those of other names."""
        return self._replace(
            frame_inputs={k: v for k, v in self.frame_inputs.items() if k in names},
            atom_inputs={k: v for k, v in self.atom_inputs.items() if k in names},
        )


#: Distances below this [Å] are taken for it, so that nothing is divided by zero.
SHORTEST = 1e-20


def shortest(batch: Batch) -> float:
    """Distance [Å] that shorter ones count as where neighbors are chosen.

    Atoms at the same place are no neighbors, but a displaced atom and the one on its site are,
    however small the displacement.
    """
    return 0.0 if batch.displacement is None else SHORTEST


def frame_inputs(batch: Batch) -> dict[str, np.ndarray]:
    """Return what a batch has per frame beside its cells: (n_frames, n) by name."""
    return _present(batch, "fparam", "charge_spin")


def atom_inputs(batch: Batch) -> dict[str, np.ndarray]:
    """Return what a batch has per atom beside positions and types: (n_atoms, n) by name."""
    return _present(batch, "aparam", "displacement", "role", "owner", "place")


def _present(batch: Batch, *names: str) -> dict[str, np.ndarray]:
    return {name: getattr(batch, name) for name in names if getattr(batch, name) is not None}


def prepare(batch: Batch, packings: Sequence[Packing], overflow: Overflow | None = None) -> Inputs:
    """Compute the edge vectors of a batch and pack its neighbors."""
    vec = batch.vectors()
    slots = pack(
        list(packings), batch.edges, batch.atype, vec, overflow, batch.frame, shortest(batch)
    )
    i, j, per_frame, per_atom = (
        batch.edges.i,
        batch.edges.j,
        frame_inputs(batch),
        atom_inputs(batch),
    )
    return Inputs(vec, i, j, batch.atype, batch.frame, per_frame, per_atom, slots)
