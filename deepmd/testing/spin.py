# SPDX-License-Identifier: LGPL-3.0-or-later
"""Tests of every energy model of atoms with spins."""

from typing import Any

import numpy as np

from deepmd.testing.model import ModelTests
from deepmd.testing.systems import gradient


class SpinTests(ModelTests):
    """The tests of models, with spins that turn with the system, and magnetic forces.

    Attributes are those of :class:`ModelTests`; sections of the cases have ``spin``.
    """

    of_atoms = (*ModelTests.of_atoms, "force_mag")
    vectors = (*ModelTests.vectors, "force_mag", "spin")

    def extra(self, n_atoms: int) -> dict[str, np.ndarray]:
        """Return spins of atoms."""
        return {"spin": np.random.default_rng(8).normal(size=(n_atoms, 3))}

    def test_magnetic_force_is_minus_the_gradient(
        self, potential: Any, system: Any, more: Any
    ) -> None:
        """Magnetic force by finite differences of the energy; it is zero for types without spins."""
        coord, cell, atype = system
        out = self.evaluate(potential, coord, cell, atype, **more)

        def energy(spin: np.ndarray) -> Any:
            coords = np.tile(coord, (len(spin), 1, 1))
            return self.energies(potential, coords, cell, atype, spin=spin)

        numeric = -gradient(energy, more["spin"], self.step)
        np.testing.assert_allclose(out["force_mag"][0], numeric, rtol=0, atol=1e-8)
        without = ~out["mask_mag"][0, :, 0].astype(bool)
        assert not out["force_mag"][0, without].any()
        assert not numeric[without].any()
