# SPDX-License-Identifier: LGPL-3.0-or-later
"""Tests of every model that predicts an energy."""

from typing import Any

import numpy as np
import pytest

from deepmd.infer import DeepPot
from deepmd.runtime.evaluator import Evaluator
from deepmd.testing.component import ComponentTests
from deepmd.testing.systems import gradient, rotation, small_system

NAMES = ("energy", "force", "virial", "atom_energy", "atom_virial")
OF_ATOMS = ("force", "atom_energy", "atom_virial")


class ModelTests(ComponentTests):
    """Symmetries, derivatives, limits and formats of energy models: :class:`ComponentTests`."""

    def opened(self, made: Evaluator) -> Any:
        """Return the potential."""
        return DeepPot.from_evaluator(made)

    def evaluate(self, potential: DeepPot, coord: Any, cell: Any, atype: Any) -> dict[str, Any]:
        """Evaluate frames; all results by name."""
        mixed = np.ndim(atype) == 2
        out = potential.eval(coord, cell, atype, atomic=True, mixed_type=mixed)
        return dict(zip(NAMES, out, strict=True))

    def test_it_is_no_constant(self, potential: DeepPot, system: Any) -> None:
        """All results depend on the positions, or the other tests would say nothing."""
        out = self.evaluate(potential, *system)
        for name in NAMES:
            assert np.isfinite(out[name]).all()
            assert np.ptp(out[name]) > 1e-8 or name == "energy", name

    # -- symmetries ---------------------------------------------------------------------------

    def test_permutation(self, potential: DeepPot, system: Any) -> None:
        """The order of the atoms does not matter."""
        coord, cell, atype = system
        order = np.random.default_rng(1).permutation(len(coord))
        want = self.evaluate(potential, coord, cell, atype)
        got = self.evaluate(potential, coord[order], cell, atype[order])
        self.assert_same(got, want | {name: want[name][:, order] for name in OF_ATOMS})

    def test_rotation(self, potential: DeepPot, system: Any) -> None:
        """Energies stay, forces and virials turn with the system."""
        coord, cell, atype = system
        q = rotation()
        want = self.evaluate(potential, coord, cell, atype)
        got = self.evaluate(potential, coord @ q.T, cell @ q.T, atype)
        want["force"] = want["force"] @ q.T
        for name in ("virial", "atom_virial"):
            value = want[name].reshape(*want[name].shape[:-1], 3, 3)
            turned = np.einsum("ab,...bc,dc->...ad", q, value, q)
            want[name] = turned.reshape(want[name].shape)
        self.assert_same(got, want)

    def test_translation(self, potential: DeepPot, system: Any) -> None:
        """Moving everything, or single atoms by cell vectors, changes nothing."""
        coord, cell, atype = system
        want = self.evaluate(potential, coord, cell, atype)
        jumps = np.random.default_rng(2).integers(-3, 4, coord.shape) @ cell
        for moved in (coord + np.array([1.7, -20.3, 0.4]), coord + jumps):
            self.assert_same(self.evaluate(potential, moved, cell, atype), want)

    def test_supercell(self, potential: DeepPot, system: Any) -> None:
        """Two cells side by side have twice the energy, and the same forces."""
        coord, cell, atype = system
        want = self.evaluate(potential, coord, cell, atype)
        double = cell * np.array([[2.0], [1.0], [1.0]])
        both = np.concatenate([coord, coord + cell[0]])
        got = self.evaluate(potential, both, double, np.tile(atype, 2))
        twice = {name: 2 * want[name] for name in ("energy", "virial")}
        self.assert_same(got, {name: np.tile(want[name], (1, 2, 1)) for name in OF_ATOMS} | twice)

    # -- derivatives --------------------------------------------------------------------------

    @pytest.mark.parametrize("periodic", [True, False])
    def test_force_is_minus_the_gradient(
        self, potential: DeepPot, system: Any, periodic: bool
    ) -> None:
        """Force by finite differences of the energy."""
        coord, cell, atype = system
        box = cell if periodic else None
        force = potential.eval(coord, box, atype)[1][0]
        numeric = -gradient(lambda x: potential.eval(x, box, atype)[0][:, 0], coord)
        np.testing.assert_allclose(force, numeric, rtol=0, atol=1e-8)

    def test_virial_is_minus_the_strain_derivative(self, potential: DeepPot, system: Any) -> None:
        """Virial by finite differences of the energy."""
        coord, cell, atype = system

        def energy(strains: np.ndarray) -> np.ndarray:
            # Element (a, b) of a virial belongs to x_b changing with x_a: rows times (1 + e).
            deformed = np.eye(3) + strains
            return potential.eval(coord @ deformed, cell @ deformed, atype)[0][:, 0]

        numeric = -gradient(energy, np.zeros((3, 3)))
        virial = potential.eval(coord, cell, atype)[2][0].reshape(3, 3)
        np.testing.assert_allclose(virial, numeric, rtol=0, atol=1e-7)
        np.testing.assert_allclose(virial, virial.T, rtol=0, atol=1e-10)

    def test_parts_add_up(self, potential: DeepPot, system: Any) -> None:
        """Energy and virial are the sums over atoms, and forces cancel."""
        for cell in (system[1], None):
            out = self.evaluate(potential, system[0], cell, system[2])
            self.assert_same(out["atom_energy"].sum(axis=1), out["energy"])
            self.assert_same(out["atom_virial"].sum(axis=1), out["virial"])
            self.assert_same(out["force"].sum(axis=1), np.zeros((1, 3)))

    def test_smooth_at_the_cutoff(self, potential: DeepPot) -> None:
        """Energy and force do not jump when an atom comes within the cutoff."""
        rcut, last = potential.get_rcut(), potential.get_ntypes() - 1
        cluster = np.array([[0, 0, 0], [0.4, 0.02, 0], [-0.1, 0.4, 0], [0.1, -0.4, 0], [0, 0, 1]])
        coord = np.tile(rcut * cluster, (2, 1, 1))
        coord[:, 4, 2] *= 1 + np.array([-1e-7, 1e-7])
        for t in range(last + 1):
            energy, force, _ = potential.eval(coord, None, [0, last, 0, last, t])
            assert abs(energy[1] - energy[0])[0] < 1e-10
            assert np.abs(force[1] - force[0]).max() < 1e-8
            assert np.abs(force[1]).max() > 1e-6

    # -- limits -------------------------------------------------------------------------------

    def test_few_atoms(self, potential: DeepPot) -> None:
        """No atom, one atom, and atoms that see nothing of each other."""
        none = potential.eval(np.zeros((2, 0, 3)), None, [], atomic=True)
        assert [x.shape for x in none] == [(2, 1), (2, 0, 3), (2, 9), (2, 0, 1), (2, 0, 9)]
        assert not none[0].any()
        rcut = potential.get_rcut()
        for t in range(potential.get_ntypes()):
            one = self.evaluate(potential, np.zeros((1, 3)), None, [t])
            assert np.isfinite(one["energy"]).all()
            assert not one["force"].any()
            far = self.evaluate(potential, [[0, 0, 0], [0, 1.001 * rcut, 0]], None, [t, t])
            self.assert_same(far["energy"], 2 * one["energy"])
            assert not far["force"].any()
            large = self.evaluate(potential, np.zeros((1, 3)), np.eye(3) * 3 * rcut, [t])
            self.assert_same(large["energy"], one["energy"])

    def test_two_atoms(self, potential: DeepPot) -> None:
        """Forces of a dimer are opposite and along the bond."""
        d = np.array([0.3, -0.4, 0.5]) * 0.5 * potential.get_rcut()
        last = potential.get_ntypes() - 1
        _, force, _ = potential.eval([[0, 0, 0], d], None, [0, last])
        self.assert_same(force[0, 0], -force[0, 1])
        self.assert_same(np.cross(force[0, 0], d), np.zeros(3))

    def test_more_neighbors_than_sel(self, potential: DeepPot) -> None:
        """The farthest are left out, and the order of the atoms still does not matter."""
        rcut, ntypes = potential.get_rcut(), potential.get_ntypes()
        n = min(2 * sum(potential.get_sel()) + 4, 120)
        coord, _, atype = small_system(ntypes, 0.6 * rcut, n=n, seed=3)
        out = self.evaluate(potential, coord, None, atype)
        assert all(np.isfinite(v).all() for v in out.values())
        assert potential.evaluator.overflow.centers > 0
        order = np.random.default_rng(4).permutation(n)
        again = self.evaluate(potential, coord[order], None, atype[order])
        self.assert_same(again, {"energy": out["energy"], "force": out["force"][:, order]})

    def test_frames_do_not_see_each_other(self, potential: DeepPot, system: Any) -> None:
        """Frames together give what they give alone, open ones among periodic ones."""
        coord, cell, atype = system
        rng = np.random.default_rng(5)
        coords = coord + rng.normal(size=(3, *coord.shape)) * 0.1
        cells = np.stack([cell, np.zeros((3, 3)), cell * 1.1])
        many = self.evaluate(potential, coords, cells, atype)
        for k in range(3):
            one = self.evaluate(potential, coords[k], None if k == 1 else cells[k], atype)
            self.assert_same({name: many[name][k : k + 1] for name in NAMES}, one)

    def test_virtual_atoms(self, potential: DeepPot, system: Any) -> None:
        """Atoms of type -1 are as if they were not there."""
        coord, cell, atype = system
        types = np.array([atype, atype])
        types[0, 1] = types[1, -1] = -1
        out = self.evaluate(potential, np.stack([coord, coord]), cell, types)
        for k in range(2):
            real = types[k] >= 0
            one = self.evaluate(potential, coord[real], cell, types[k][real])
            got = {name: out[name][k : k + 1] for name in NAMES}
            self.assert_same(got | {name: got[name][:, real] for name in OF_ATOMS}, one)
            assert not any(got[name][:, ~real].any() for name in OF_ATOMS)
