# SPDX-License-Identifier: LGPL-3.0-or-later
"""Virials of atoms as the heat flux needs them, by an unfolded cell.

Langer et al., "Heat flux for semilocal machine-learning potentials", Phys. Rev. B 108, L100302 (2023).
"""

import dataclasses
import math

import numpy as np

from deepmd.base.errors import NotAvailableError
from deepmd.dpmodel.batch import Batch
from deepmd.dpmodel.model import prepare
from deepmd.dpmodel.neighbors import batch_edges
from deepmd.runtime.evaluator import Evaluator


def unfolded_virials(evaluator: Evaluator, batch: Batch) -> tuple[np.ndarray, np.ndarray]:
    """Energies and virials of the atoms of a batch, in the decomposition of the heat flux.

    The virial of atom i is ``W_ab = -Σ_k (∂e_k/∂r_i)_a (r_i - r_k)_b``, where k runs over the atoms of
    the cell and i over the images of the atom. Every frame is evaluated as an open system of its
    atoms and all images that influence them: with ``B_b = Σ_k r_kb e_k``, in which the positions are
    not differentiated, the sum is ``r_ib ∂E/∂r_ia - ∂B_b/∂r_ia``, four derivatives in all.

    Returns
    -------
    energy : (n_atoms, 1) [eV]
    virial : (n_atoms, 9) [eV]
        Their sum is the virial of the frame.

    Raises
    ------
    NotAvailableError
        For models with spins or fragments, of unlimited range, or without a differentiable energy.
    """
    model = evaluator.model
    reach = model.info().interaction_range
    if model.expands() or model.modifier is not None or not math.isfinite(reach):
        raise NotAvailableError(
            "virials for the heat flux are not built for models with spins or fragments, or of "
            "unlimited range"
        )
    parts = [_of_frame(evaluator, batch.frames(k, k + 1), reach) for k in range(batch.n_frames)]
    empty = [(np.zeros((0, 1)), np.zeros((0, 9)))]
    energy, virial = (np.concatenate(rows) for rows in zip(*(parts or empty), strict=True))
    return energy, virial


def _of_frame(evaluator: Evaluator, batch: Batch, reach: float) -> tuple[np.ndarray, np.ndarray]:
    """Those of a batch of one frame, [eV]."""
    n = batch.n_atoms
    coord, owner = _unfolded(batch, reach)
    whole = dataclasses.replace(
        batch,
        coord=coord,
        cell=np.zeros_like(batch.cell),
        periodic=np.zeros(1, bool),
        atype=batch.atype[owner],
        frame=np.zeros(len(owner), batch.frame.dtype),
        natoms=np.array([len(owner)], np.asarray(batch.natoms).dtype),
        aparam=None if batch.aparam is None else batch.aparam[owner],
        edges=None,
    )
    model = evaluator.model
    whole = dataclasses.replace(whole, edges=batch_edges(whole, model.rcut))
    inputs = prepare(whole, model.packings(), evaluator.overflow)
    (output,) = model.differentiable()
    place = coord - coord[:n].mean(axis=0)  # large coordinates would cost digits
    forces = []
    for weight in (np.ones(n), *place[:n].T):
        cotangent = np.zeros((len(owner), 1))
        cotangent[:n, 0] = weight
        found = evaluator.vjp(inputs, {output.name: cotangent})
        g, force = found["vjp"], np.zeros_like(coord)
        np.add.at(force, whole.edges.i, g)
        np.subtract.at(force, whole.edges.j, g)
        forces.append(force)
    virial = place[:, None, :] * forces[0][:, :, None] - np.stack(forces[1:], axis=-1)
    total = np.zeros((n, 9))
    np.add.at(total, owner, virial.reshape(-1, 9))
    return np.asarray(found[output.name], np.float64)[:n], total


def _unfolded(batch: Batch, reach: float) -> tuple[np.ndarray, np.ndarray]:
    """Positions (m, 3) of the atoms of a frame and the images within reach of them; their atoms."""
    edges = batch_edges(dataclasses.replace(batch, edges=None), reach)
    images = np.column_stack([edges.j, np.rint(edges.shift).astype(np.int64)])
    images = np.unique(images[np.any(images[:, 1:] != 0, axis=1)], axis=0)
    moved = batch.coord[images[:, 0]] + images[:, 1:] @ np.reshape(batch.cell[0], (3, 3))
    owner = np.concatenate([np.arange(batch.n_atoms), images[:, 0]])
    return np.concatenate([batch.coord, moved]), owner
