# SPDX-License-Identifier: LGPL-3.0-or-later
"""Structure factors of charges by B-splines on a mesh and its Fourier transform.

Source: Essmann et al., J. Chem. Phys. 103, 8577 (1995), https://doi.org/10.1063/1.470117.
"""

from collections.abc import Iterator

import numpy as np

#: Mesh points per axis that a charge touches.
ORDER = 8
#: Mesh points over twice the largest wave number.
FINENESS = 3
#: Elements per block of the products of splines.
BLOCK = 1 << 21


def mesh_pays(n_charges: int, halves: np.ndarray) -> bool:
    """Return whether a mesh is faster than a direct sum over wave numbers up to ``halves``."""
    waves = float(np.prod(2 * np.asarray(halves) + 1))
    # Times of both in units of that of one charge and wave, measured on one core.
    return n_charges * waves > 46_000.0 * n_charges + 2_300.0 * waves


class ParticleMesh:
    """Structure factors of charges, spread on a mesh by B-splines of order 8.

    Their error is about 1e-11 of the sum of charges for waves that matter to Gaussian charges.

    Parameters
    ----------
    fractions : (n, 3)
        Coordinates of the charges in units of the cell vectors.
    charge : (n,)
    halves : (3,) of int
        Largest wave number per axis.

    Attributes
    ----------
    integers : list of three (n_waves,) arrays of int
        Wave numbers per axis: from -half to half, of the last axis from 0 on.
    structure : (n_0, n_1, n_2) of complex
        ``S(n) = Σ q exp(-2πi n·s)``.
    """

    def __init__(self, fractions: np.ndarray, charge: np.ndarray, halves: np.ndarray) -> None:
        self.size = tuple(_fast_size(max(ORDER, FINENESS * 2 * int(h))) for h in halves)
        self.charge = charge
        self.integers = [
            np.arange(-halves[0], halves[0] + 1),
            np.arange(-halves[1], halves[1] + 1),
            np.arange(halves[2] + 1),
        ]
        self.places = [_splines(s, m) for s, m in zip(fractions.T, self.size, strict=True)]
        self.factor = np.einsum(
            "a,b,c->abc",
            *(_euler(n, m) for n, m in zip(self.integers, self.size, strict=True)),
        )
        mesh = np.zeros(int(np.prod(self.size)))
        for rows, flat, (w0, w1, w2) in self._blocks(slope=False):
            values = np.einsum("n,na,nb,nc->nabc", charge[rows], w0[..., 0], w1[..., 0], w2[..., 0])
            mesh += np.bincount(flat.reshape(-1), values.reshape(-1), minlength=mesh.size)
        waves = np.fft.rfftn(mesh.reshape(self.size))
        self.structure = waves[self._corner()] * self.factor

    def slopes(self, by_structure: np.ndarray) -> np.ndarray:
        """Derivatives by the fractions, (n, 3), of the energy with a given derivative by S*.

        ``by_structure`` (n_0, n_1, n_2) belongs to both n and -n.
        """
        waves = np.zeros((*self.size[:2], self.size[2] // 2 + 1), np.complex128)
        waves[self._corner()] = by_structure * np.conj(self.factor)
        potential = np.fft.irfftn(waves, s=self.size, axes=(0, 1, 2)).reshape(-1)
        potential *= float(np.prod(self.size))
        out = np.empty((len(self.charge), 3))
        for rows, flat, (w0, w1, w2) in self._blocks(slope=True):
            n = len(flat)
            last = potential[flat].reshape(n, ORDER * ORDER, ORDER) @ w2
            inner = np.swapaxes(last.reshape(n, ORDER, ORDER, 2), 2, 3) @ w1[:, None]
            both = np.einsum("naij,nak->nkij", inner, w0)  # whether axis 0, 2, 1 has a slope
            out[rows] = np.stack([both[:, 1, 0, 0], both[:, 0, 0, 1], both[:, 0, 1, 0]], axis=1)
        return self.charge[:, None] * out

    def _corner(self) -> tuple[np.ndarray, ...]:
        """Index of the wave numbers in the transform."""
        return np.ix_(*(n % m for n, m in zip(self.integers, self.size, strict=True)))

    def _blocks(self, slope: bool) -> Iterator[tuple[slice, np.ndarray, list[np.ndarray]]]:
        """Charges, places on the flat mesh (n, p, p, p), splines (n, p, 2) and their slopes."""
        step = max(1, BLOCK // ORDER**3)
        for begin in range(0, len(self.charge), step):
            rows = slice(begin, begin + step)
            i, j, k = (points[rows] for points, _ in self.places)
            plane = i[:, :, None] * self.size[1] + j[:, None, :]
            flat = plane[:, :, :, None] * self.size[2] + k[:, None, None, :]
            yield rows, flat, [values[rows] for _, values in self.places]


def _splines(s: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Mesh points (n, p) of charges at fractions s, splines there and slopes by s: (n, p, 2)."""
    u = (s - np.floor(s)) * size
    first = np.minimum(u.astype(np.int64), size - 1)
    value, below = _cardinal(u - first, ORDER)
    slope = below.copy()
    slope[:, 1:] -= below[:, :-1]
    points = (first[:, None] - np.arange(ORDER)) % size
    return points, np.stack([value, size * slope], axis=-1)


def _cardinal(w: np.ndarray, order: int) -> tuple[np.ndarray, np.ndarray]:
    """Cardinal B-splines of the order, and of the one below, at w + j, j = 0 ... order - 1."""
    value = np.zeros((len(w), order))
    value[:, 0], value[:, 1] = w, 1.0 - w
    below = value
    x = w[:, None] + np.arange(order)
    for p in range(3, order + 1):
        below = value
        value = x * below
        value[:, 1:] += (p - x[:, 1:]) * below[:, :-1]
        value /= p - 1
    return value, below


def _euler(n: np.ndarray, size: int) -> np.ndarray:
    """Factors that undo the damping of waves n by splines, ``1 / Σ_j M_p(j) exp(2πi n j/K)``."""
    at_integers = _cardinal(np.zeros(1), ORDER)[0][0]
    phases = np.exp(-2j * np.pi * np.outer(n, np.arange(ORDER)) / size)
    return 1.0 / (np.conj(phases) @ at_integers)


def _fast_size(n: int) -> int:
    """Smallest even number from n on with no prime factor above 5."""
    while True:
        rest = n
        for prime in (2, 3, 5):
            while rest % prime == 0:
                rest //= prime
        if rest == 1 and n % 2 == 0:
            return n
        n += 1
