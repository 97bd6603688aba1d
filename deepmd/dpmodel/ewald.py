# SPDX-License-Identifier: LGPL-3.0-or-later
"""The reciprocal part of the energy of Gaussian charges (Ewald) on a grid of given spacing."""

import itertools

import numpy as np

#: Coulomb constant [eV Å].
COULOMB = 14.39964535475696995031


class EwaldRecp:
    r"""``E = k/(2πV) Σ_{m≠0} exp(-π²m²/β²)/m² |S(m)|²`` with ``S(m) = Σ q exp(2πi m·r)``.

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
        frames = zip(
            np.reshape(coord, (nf, -1, 3)),
            np.reshape(charge, (nf, -1)),
            np.reshape(box, (nf, 3, 3)),
            strict=True,
        )
        parts = [self._frame(*frame) for frame in frames]
        return tuple(np.stack([p[k].reshape(-1) for p in parts]) for k in range(3))  # type: ignore[return-value]

    def _frame(
        self, r: np.ndarray, q: np.ndarray, cell: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        m = self._vectors(cell)
        m2 = np.einsum("ka,ka->k", m, m)
        weight = np.exp(-np.square(np.pi / self.beta) * m2) / m2
        weight *= COULOMB / (2.0 * np.pi * abs(np.linalg.det(cell)))
        wave = q * np.exp(2j * np.pi * (m @ r.T))  # (vectors, atoms)
        structure = wave.sum(axis=1)
        energies = weight * np.abs(structure) ** 2
        slope = weight[:, None] * np.imag(np.conj(structure)[:, None] * wave)
        force = 4.0 * np.pi * np.einsum("ki,ka->ia", slope, m)
        # Strain changes the volume, and m² in the weight.
        factor = 2.0 * energies * (1.0 / m2 + np.square(np.pi / self.beta))
        virial = energies.sum() * np.eye(3) - np.einsum("k,ka,kb->ab", factor, m, m)
        return energies.sum(keepdims=True), force, virial

    def _vectors(self, cell: np.ndarray) -> np.ndarray:
        """Reciprocal vectors without 2π, (n, 3) [1/Å], zero left out."""
        counts = np.ceil(np.linalg.norm(cell, axis=1) / self.hh).astype(int)
        halves = (counts + counts % 2) // 2
        grid = itertools.product(*(range(-n, n + 1) for n in halves))
        numbers = np.array([n for n in grid if any(n)], dtype=np.float64)
        return numbers @ np.linalg.inv(cell).T
