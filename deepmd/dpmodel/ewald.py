# SPDX-License-Identifier: LGPL-3.0-or-later
"""The reciprocal part of the energy of Gaussian charges (Ewald) on a grid of given spacing."""

from typing import NamedTuple

import numpy as np

from deepmd.dpmodel.particle_mesh import ParticleMesh, mesh_pays

#: Coulomb constant [eV Å].
COULOMB = 14.39964535475696995031


class EwaldFrame(NamedTuple):
    """Energy of one frame of charges and its derivatives.

    Attributes
    ----------
    energy : float [eV]
    by_position : (n, 3) [eV/Å]
        Derivative by the positions, the cell being fixed.
    by_cell : (3, 3) [eV/Å]
        Derivative by the cell vectors (rows), the positions being fixed.
    """

    energy: float
    by_position: np.ndarray
    by_cell: np.ndarray

    def virial(self, coord: np.ndarray, cell: np.ndarray) -> np.ndarray:
        """Return minus the derivative by a strain of positions and cell, (3, 3) [eV]."""
        return -(self.by_position.T @ coord + self.by_cell.T @ cell)


class EwaldRecp:
    r"""``E = k/(2πV) Σ_{m≠0} exp(-π²m²/β²)/m² |S(m)|²`` with ``S(m) = Σ q exp(2πi m·r)``.

    The vectors are ``m = n h⁻ᵀ`` for the integers n from -K/2 to K/2 on every axis, K being the
    length of the cell vector over the spacing, rounded up to an even number. The sum is direct, its
    time proportional to the charges times the vectors; in large cells it goes over a mesh
    (:class:`ParticleMesh`), with errors of about 1e-10 of the energy and 1e-9 of the largest force.

    Parameters
    ----------
    hh : float
        Spacing of the real-space grid [Å]; it decides how many vectors m are summed.
    beta : float
        Splitting [1/Å].
    """

    def __init__(self, hh: float, beta: float) -> None:
        self.hh, self.beta = float(hh), float(beta)

    def eval(
        self, coord: np.ndarray, charge: np.ndarray, box: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Evaluate frames.

        Parameters
        ----------
        coord : (nframes, natoms × 3) [Å]
        charge : (nframes, natoms) [e]
        box : (nframes, 9) [Å]
            Rows are the cell vectors.

        Returns
        -------
        energy : (nframes, 1) [eV]
        force : (nframes, natoms × 3) [eV/Å]
        virial : (nframes, 9) [eV]
        """
        nf = len(coord)
        energy, force, virial = np.zeros((nf, 1)), np.zeros((nf, coord[0].size)), np.zeros((nf, 9))
        for k in range(nf):
            r, cell = np.reshape(coord[k], (-1, 3)), np.reshape(box[k], (3, 3))
            frame = self.frame(r, np.reshape(charge[k], -1), cell)
            energy[k] = frame.energy
            force[k] = -frame.by_position.reshape(-1)
            virial[k] = frame.virial(r, cell).reshape(-1)
        return energy, force, virial

    def frame(self, coord: np.ndarray, charge: np.ndarray, cell: np.ndarray) -> EwaldFrame:
        """Evaluate one frame: positions (n, 3) [Å], charges (n,) [e], cell (3, 3) [Å]."""
        inverse = np.linalg.inv(cell)
        counts = np.ceil(np.linalg.norm(cell, axis=1) / self.hh).astype(int)
        halves = (counts + counts % 2) // 2
        volume = abs(np.linalg.det(cell))
        evaluate = self._mesh if mesh_pays(len(coord), halves) else self._direct
        energy, by_fraction, strain = evaluate(coord @ inverse, charge, inverse, halves, volume)
        # m·r is n·s for the fractions s, which a strain does not change.
        by_position = by_fraction @ inverse.T
        both = strain - energy * np.eye(3)  # by a strain of positions and cell
        return EwaldFrame(energy, by_position, inverse.T @ (both - by_position.T @ coord).T)

    def _direct(
        self,
        fractions: np.ndarray,
        charge: np.ndarray,
        inverse: np.ndarray,
        halves: np.ndarray,
        volume: float,
    ) -> tuple[float, np.ndarray, np.ndarray]:
        """Return energy, its derivative by fractions, and by a strain without that of the volume.

        The exponentials are products of one factor per axis, so that the sums over charges, and
        back to them, are matrix products. Vectors m and -m count alike: those with a negative
        first integer are left out, and their opposites count twice.
        """
        integers = [np.arange(halves[0] + 1), *(np.arange(-h, h + 1) for h in halves[1:])]
        waves = [
            np.exp(2j * np.pi * np.outer(n, s)) for n, s in zip(integers, fractions.T, strict=True)
        ]
        energy, by_fraction, strain = 0.0, np.zeros_like(fractions), np.zeros((3, 3))
        for n, wave in zip(integers[0], waves[0], strict=True):
            m = self._plane(n, integers, inverse)
            weight = (1.0 if n == 0 else 2.0) * self._weights(m, volume)
            with_charge = charge * wave * waves[1]
            structure = with_charge @ waves[2].T
            energies = weight * np.abs(structure) ** 2
            energy += float(energies.sum())
            by_fraction += _slopes(n, integers, with_charge, waves[2], weight * np.conj(structure))
            strain += self._strain(energies, m)
        return energy, by_fraction, strain

    def _mesh(
        self,
        fractions: np.ndarray,
        charge: np.ndarray,
        inverse: np.ndarray,
        halves: np.ndarray,
        volume: float,
    ) -> tuple[float, np.ndarray, np.ndarray]:
        """Return the same as :meth:`_direct`, by smooth particle-mesh Ewald."""
        mesh = ParticleMesh(fractions, charge, halves)
        n = np.stack(np.meshgrid(*mesh.integers, indexing="ij"), axis=-1)
        m = n @ inverse.T
        weight = self._weights(m, volume)
        # The last axis has one of m and -m.
        energies = np.where(n[..., 2] == 0, 1.0, 2.0) * weight * np.abs(mesh.structure) ** 2
        by_fraction = mesh.slopes(2.0 * weight * mesh.structure)
        return float(energies.sum()), by_fraction, self._strain(energies, m)

    @staticmethod
    def _plane(n: int, integers: list[np.ndarray], inverse: np.ndarray) -> np.ndarray:
        """Reciprocal vectors without 2π of a first integer: (n_2, n_3, 3) [1/Å]."""
        second, third = np.meshgrid(integers[1], integers[2], indexing="ij")
        return np.stack([np.full_like(second, n), second, third], axis=-1) @ inverse.T

    def _weights(self, m: np.ndarray, volume: float) -> np.ndarray:
        """Weights of ``|S(m)|²``, zero for m = 0."""
        m2 = np.einsum("...a,...a->...", m, m)
        safe = np.where(m2, m2, 1.0)
        weight = np.exp(-((np.pi / self.beta) ** 2) * m2) / safe
        return np.where(m2, weight, 0.0) * COULOMB / (2.0 * np.pi * volume)

    def _strain(self, energies: np.ndarray, m: np.ndarray) -> np.ndarray:
        """Derivative of a sum of energies by a strain, which changes m² in their weights."""
        m2 = np.einsum("...a,...a->...", m, m)
        factor = 2.0 * energies * (1.0 / np.where(m2, m2, 1.0) + (np.pi / self.beta) ** 2)
        flat = m.reshape(-1, 3)
        return flat.T @ (factor.reshape(-1, 1) * flat)


def _slopes(
    n: int,
    integers: list[np.ndarray],
    with_charge: np.ndarray,
    last: np.ndarray,
    weighted: np.ndarray,
) -> np.ndarray:
    """Derivative of a plane's energy by the fractions of the charges, (n_charges, 3).

    ``weighted`` is the weight times the conjugate of the structure factor.
    """
    parts = weighted @ last  # (n_2, n_charges)
    own = with_charge * parts
    third = with_charge * ((weighted * integers[2]) @ last)
    slopes = [n * own.sum(axis=0), integers[1] @ own, third.sum(axis=0)]
    return -4.0 * np.pi * np.imag(np.stack(slopes, axis=1))
