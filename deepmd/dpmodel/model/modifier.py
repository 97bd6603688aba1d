# SPDX-License-Identifier: LGPL-3.0-or-later
"""Energies of whole frames that are added to those of a model, such as an Ewald sum."""

from abc import ABC, abstractmethod
from typing import NamedTuple

import numpy as np

from deepmd.dpmodel.batch import Batch


class FrameEnergy(NamedTuple):
    """Energy of frames and its derivatives.

    Attributes
    ----------
    energy : (n_frames,) [eV]
    by_position : (n_atoms, 3) [eV/Å]
        Derivative by the positions, the cell being fixed.
    by_cell : (n_frames, 3, 3) [eV/Å]
        Derivative by the cell vectors (rows), the positions being fixed; zero for open frames.
    """

    energy: np.ndarray
    by_position: np.ndarray
    by_cell: np.ndarray


class Modifier(ABC):
    """Energy that is no function of the edge vectors.

    Its energy, force and virial are added to those of the frames (:meth:`Model.assemble`). Energies
    and virials of atoms stay those of the model, since such a term has no unique share of an atom.
    A model is trained on labels less these terms.
    """

    @abstractmethod
    def energy(self, batch: Batch) -> FrameEnergy:
        """Return the energy of the frames of a batch, and its derivatives."""

    def terms(self, batch: Batch) -> dict[str, np.ndarray]:
        """Return ``energy`` (n_frames, 1), ``force`` (n_atoms, 3) and ``virial`` (n_frames, 9).

        The virial is minus the derivative by a strain of positions and cell,
        ``W_ab = -Σ_i (∂E/∂r_i)_a r_ib - Σ_k (∂E/∂h_k)_a h_kb``.
        """
        energy, by_position, by_cell = self.energy(batch)
        n = batch.n_frames
        strain = np.zeros((n, 3, 3))
        np.add.at(strain, batch.frame, by_position[:, :, None] * batch.coord[:, None, :])
        strain += np.einsum("fka,fkb->fab", by_cell, np.reshape(batch.cell, (n, 3, 3)))
        return {
            "energy": energy.reshape(n, 1),
            "force": -by_position,
            "virial": -strain.reshape(n, 9),
        }
