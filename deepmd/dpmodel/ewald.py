# SPDX-License-Identifier: LGPL-3.0-or-later
"""The reciprocal part of the energy of Gaussian charges (Ewald) on a grid of given spacing."""

from typing import NamedTuple

import numpy as np

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
    length of the cell vector over the spacing, rounded up to an even number. The sum is direct: its
    time is proportional to the charges times the vectors.

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
        """Evaluate one frame: positions (n, 3) [Å], charges (n,) [e], cell (3, 3) [Å].

        The exponentials are products of one factor per axis, so that the sums over charges, and
        back to them, are matrix products. Vectors m and -m count alike: those with a negative
        first integer are left out, and their opposites count twice.
        """
        inverse = np.linalg.inv(cell)
        counts = np.ceil(np.linalg.norm(cell, axis=1) / self.hh).astype(int)
        first, *halves = (counts + counts % 2) // 2
        integers = [np.arange(first + 1), *(np.arange(-h, h + 1) for h in halves)]
        waves = [
            np.exp(2j * np.pi * np.outer(n, s))
            for n, s in zip(integers, (coord @ inverse).T, strict=True)
        ]
        volume = abs(np.linalg.det(cell))
        energy, by_fraction, strain = 0.0, np.zeros((len(coord), 3)), np.zeros((3, 3))
        for n, wave in zip(integers[0], waves[0], strict=True):
            m = self._plane(n, integers, inverse)
            m2 = np.einsum("bca,bca->bc", m, m)
            weight = (1.0 if n == 0 else 2.0) * self._weights(m2, volume)
            with_charge = charge * wave * waves[1]
            structure = with_charge @ waves[2].T
            energies = weight * np.abs(structure) ** 2
            energy += float(energies.sum())
            by_fraction += _slopes(n, integers, with_charge, waves[2], weight * np.conj(structure))
            # A strain changes the volume, and m² in the weight.
            factor = 2.0 * energies * (1.0 / np.where(m2, m2, 1.0) + (np.pi / self.beta) ** 2)
            strain += np.einsum("bc,bcx,bcy->xy", factor, m, m)
        # m·r is n·s for the fractions s, which a strain does not change.
        by_position = by_fraction @ inverse.T
        both = strain - energy * np.eye(3)  # by a strain of positions and cell
        return EwaldFrame(energy, by_position, inverse.T @ (both - by_position.T @ coord).T)

    @staticmethod
    def _plane(n: int, integers: list[np.ndarray], inverse: np.ndarray) -> np.ndarray:
        """Reciprocal vectors without 2π of a first integer: (n_2, n_3, 3) [1/Å]."""
        second, third = np.meshgrid(integers[1], integers[2], indexing="ij")
        return np.stack([np.full_like(second, n), second, third], axis=-1) @ inverse.T

    def _weights(self, m2: np.ndarray, volume: float) -> np.ndarray:
        """Weights of ``|S(m)|²``, zero for m = 0."""
        safe = np.where(m2, m2, 1.0)
        weight = np.exp(-((np.pi / self.beta) ** 2) * m2) / safe
        return np.where(m2, weight, 0.0) * COULOMB / (2.0 * np.pi * volume)


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
