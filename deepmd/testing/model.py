# SPDX-License-Identifier: LGPL-3.0-or-later
"""Tests of every model that predicts an energy."""

from typing import Any, ClassVar

import numpy as np
import pytest

from deepmd.infer import DeepPot
from deepmd.runtime.evaluator import Evaluator
from deepmd.testing.component import ComponentTests
from deepmd.testing.systems import gradient, rotation, small_system


class ModelTests(ComponentTests):
    """Symmetries, derivatives, limits and formats of energy models: :class:`ComponentTests`.

    Attributes
    ----------
    of_frames, of_atoms : tuple of str
        Results that are compared: sums over frames, and rows of atoms.
    vectors, tensors : tuple of str
        Of these and of :meth:`extra`, those that turn with the system.
    step : float
        That of finite differences [Å]; a smaller one for functions in pieces.
    """

    derivatives = ("force", "virial", "atom_virial")
    of_frames: ClassVar[tuple[str, ...]] = ("energy", "virial")
    of_atoms: ClassVar[tuple[str, ...]] = ("force", "atom_energy", "atom_virial")
    vectors: ClassVar[tuple[str, ...]] = ("force",)
    tensors: ClassVar[tuple[str, ...]] = ("virial", "atom_virial")
    step: ClassVar[float] = 1e-3

    def opened(self, made: Evaluator) -> Any:
        """Return the potential."""
        return DeepPot.from_evaluator(made)

    @pytest.fixture
    def more(self, system: Any) -> dict[str, np.ndarray]:
        """What the model takes of the atoms of the system besides; see :meth:`extra`."""
        return self.extra(len(system[0]))

    def turned(self, values: dict[str, np.ndarray], q: np.ndarray) -> dict[str, np.ndarray]:
        """Return results, or what a model takes, of the system that is turned by ``q``."""
        out = dict(values)
        for name in values.keys() & set(self.vectors):
            out[name] = values[name] @ q.T
        for name in values.keys() & set(self.tensors):
            value = values[name].reshape(*values[name].shape[:-1], 3, 3)
            out[name] = np.einsum("ab,...bc,dc->...ad", q, value, q).reshape(values[name].shape)
        return out

    def rows(self, values: dict[str, np.ndarray], rows: np.ndarray) -> dict[str, np.ndarray]:
        """Return results with the rows of some atoms, in their order."""
        return {name: v[:, rows] if v.ndim == 3 else v for name, v in values.items()}

    def test_it_is_no_constant(self, potential: Any, system: Any, more: Any) -> None:
        """All results depend on the positions, or the other tests would say nothing."""
        out = self.evaluate(potential, *system, **more)
        for name in (*self.of_frames, *self.of_atoms):
            assert np.isfinite(out[name]).all()
            assert np.ptp(out[name]) > 1e-8 or name == "energy", name

    # -- symmetries ---------------------------------------------------------------------------

    def test_permutation(self, potential: Any, system: Any, more: Any) -> None:
        """The order of the atoms does not matter."""
        coord, cell, atype = system
        order = np.random.default_rng(1).permutation(len(coord))
        want = self.evaluate(potential, coord, cell, atype, **more)
        moved = {name: value[order] for name, value in more.items()}
        got = self.evaluate(potential, coord[order], cell, atype[order], **moved)
        self.assert_same(got, self.rows(want, order))

    def test_rotation(self, potential: Any, system: Any, more: Any) -> None:
        """Energies stay, forces and virials turn with the system."""
        coord, cell, atype = system
        q = rotation()
        want = self.turned(self.evaluate(potential, coord, cell, atype, **more), q)
        moved = self.turned(more, q)
        self.assert_same(self.evaluate(potential, coord @ q.T, cell @ q.T, atype, **moved), want)

    def test_translation(self, potential: Any, system: Any, more: Any) -> None:
        """Moving everything, or single atoms by cell vectors, changes nothing."""
        coord, cell, atype = system
        want = self.evaluate(potential, coord, cell, atype, **more)
        jumps = np.random.default_rng(2).integers(-3, 4, coord.shape) @ cell
        for moved in (coord + np.array([1.7, -20.3, 0.4]), coord + jumps):
            self.assert_same(self.evaluate(potential, moved, cell, atype, **more), want)

    def test_supercell(self, potential: Any, system: Any, more: Any) -> None:
        """Two cells side by side have twice the energy, and the same forces."""
        coord, cell, atype = system
        want = self.evaluate(potential, coord, cell, atype, **more)
        double = cell * np.array([[2.0], [1.0], [1.0]])
        both = np.concatenate([coord, coord + cell[0]])
        twice = {name: np.tile(value, (2, 1)) for name, value in more.items()}
        got = self.evaluate(potential, both, double, np.tile(atype, 2), **twice)
        frames = {name: 2 * want[name] for name in self.of_frames}
        atoms = {name: np.tile(want[name], (1, 2, 1)) for name in self.of_atoms}
        self.assert_same(got, frames | atoms)

    # -- derivatives --------------------------------------------------------------------------

    @pytest.mark.parametrize("periodic", [True, False])
    def test_force_is_minus_the_gradient(
        self, potential: Any, system: Any, more: Any, periodic: bool
    ) -> None:
        """Force by finite differences of the energy."""
        coord, cell, atype = system
        box = cell if periodic else None
        force = self.evaluate(potential, coord, box, atype, **more)["force"][0]
        numeric = -gradient(
            lambda x: self.energies(potential, x, box, atype, **more), coord, self.step
        )
        np.testing.assert_allclose(force, numeric, rtol=0, atol=1e-8)

    def energies(self, potential: Any, coord: Any, cell: Any, atype: Any, **more: Any) -> Any:
        """Energies of frames, (n_frames,)."""
        if cell is not None and np.ndim(cell) == 2:
            cell = np.tile(cell, (len(coord), 1, 1))
        given = {name: self._of_frames(value, coord) for name, value in more.items()}
        return potential.evaluate(coord, cell, atype, derivatives=(), **given)["energy"][:, 0]

    def test_virial_is_minus_the_strain_derivative(
        self, potential: Any, system: Any, more: Any
    ) -> None:
        """Virial by finite differences of the energy."""
        coord, cell, atype = system

        def energy(strains: np.ndarray) -> np.ndarray:
            # Element (a, b) of a virial belongs to x_a changing with x_b; they differ with spins.
            deformed = np.swapaxes(np.eye(3) + strains, -1, -2)
            found: np.ndarray = self.energies(
                potential, coord @ deformed, cell @ deformed, atype, **more
            )
            return found

        numeric = -gradient(energy, np.zeros((3, 3)), self.step)
        virial = self.evaluate(potential, coord, cell, atype, **more)["virial"][0].reshape(3, 3)
        np.testing.assert_allclose(virial, numeric, rtol=0, atol=1e-7)
        if not more.keys() & set(self.vectors):  # else the vectors turn back what is turned
            np.testing.assert_allclose(virial, virial.T, rtol=0, atol=1e-10)

    def test_parts_add_up(self, potential: Any, system: Any, more: Any) -> None:
        """Energy and virial are the sums over atoms, and forces cancel."""
        for cell in (system[1], None):
            out = self.evaluate(potential, system[0], cell, system[2], **more)
            for name in self.of_frames:
                if f"atom_{name}" in self.of_atoms:
                    self.assert_same(out[f"atom_{name}"].sum(axis=1), out[name])
            self.assert_same(out["force"].sum(axis=1), np.zeros((1, 3)))

    def test_smooth_at_the_cutoff(self, potential: Any) -> None:
        """Energy and force do not jump when an atom comes within the cutoff."""
        rcut, last = potential.get_rcut(), potential.get_ntypes() - 1
        cluster = np.array([[0, 0, 0], [0.4, 0.02, 0], [-0.1, 0.4, 0], [0.1, -0.4, 0], [0, 0, 1]])
        coord = np.tile(rcut * cluster, (2, 1, 1))
        coord[:, 4, 2] *= 1 + np.array([-1e-7, 1e-7])
        for t in range(last + 1):
            out = self.evaluate(potential, coord, None, [0, last, 0, last, t], **self.extra(5))
            energy, force = out["energy"], out["force"]
            assert abs(energy[1] - energy[0])[0] < 1e-10
            assert np.abs(force[1] - force[0]).max() < 1e-8
            assert np.abs(force[1]).max() > 1e-6

    # -- limits -------------------------------------------------------------------------------

    def test_few_atoms(self, potential: Any) -> None:
        """No atom, one atom, and atoms that see nothing of each other."""
        nothing = {name: np.zeros((2, *v.shape)) for name, v in self.extra(0).items()}
        none = self.evaluate(potential, np.zeros((2, 0, 3)), None, [], **nothing)
        sizes = {"energy": 1, "virial": 9, "atom_energy": 1, "atom_virial": 9}
        for name in (*self.of_frames, *self.of_atoms):
            atoms = (0,) if name in self.of_atoms else ()
            assert none[name].shape == (2, *atoms, sizes.get(name, 3))
        assert not none["energy"].any()
        rcut, more = potential.get_rcut(), self.extra(1)
        both = {name: np.concatenate([value, value]) for name, value in more.items()}
        for t in range(potential.get_ntypes()):
            one = self.evaluate(potential, np.zeros((1, 3)), None, [t], **more)
            assert np.isfinite(one["energy"]).all()
            assert not one["force"].any() or more
            far = [[0, 0, 0], [0, 1.001 * self.reach(rcut), 0]]
            out = self.evaluate(potential, far, None, [t, t], **both)
            self.assert_same(out["energy"], 2 * one["energy"])
            assert np.abs(out["force"]).max() < 1e-14
            cell = np.eye(3) * 3 * rcut
            large = self.evaluate(potential, np.zeros((1, 3)), cell, [t], **more)
            self.assert_same(large["energy"], one["energy"])

    def reach(self, rcut: float) -> float:
        """Return the distance beyond which atoms see nothing of each other."""
        return rcut

    def test_two_atoms(self, potential: Any) -> None:
        """Forces of a dimer are opposite and along the bond."""
        d = np.array([0.3, -0.4, 0.5]) * 0.5 * potential.get_rcut()
        last, more = potential.get_ntypes() - 1, self.extra(2)
        force = self.evaluate(potential, [[0, 0, 0], d], None, [0, last], **more)["force"]
        self.assert_same(force[0, 0], -force[0, 1])
        if not more.keys() & set(self.vectors):
            self.assert_same(np.cross(force[0, 0], d), np.zeros(3))

    def test_more_neighbors_than_sel(self, potential: Any) -> None:
        """The farthest are left out, and the order of the atoms still does not matter."""
        rcut, ntypes = potential.get_rcut(), potential.get_ntypes()
        n = min(2 * sum(potential.get_sel()) + 4, 120)
        coord, _, atype = small_system(ntypes, 0.6 * rcut, n=n, seed=3)
        more = self.extra(n)
        out = self.evaluate(potential, coord, None, atype, **more)
        assert all(np.isfinite(v).all() for v in out.values())
        assert potential.evaluator.overflow.centers > 0
        order = np.random.default_rng(4).permutation(n)
        moved = {name: value[order] for name, value in more.items()}
        again = self.evaluate(potential, coord[order], None, atype[order], **moved)
        self.assert_same(again, {"energy": out["energy"], "force": out["force"][:, order]})

    def test_frames_do_not_see_each_other(self, potential: Any, system: Any, more: Any) -> None:
        """Frames together give what they give alone, open ones among periodic ones."""
        coord, cell, atype = system
        rng = np.random.default_rng(5)
        coords = coord + rng.normal(size=(3, *coord.shape)) * 0.1
        cells = np.stack([cell, np.zeros((3, 3)), cell * 1.1])
        many = self.evaluate(potential, coords, cells, atype, **more)
        for k in range(3):
            box = None if k == 1 else cells[k]
            one = self.evaluate(potential, coords[k], box, atype, **more)
            self.assert_same({name: value[k : k + 1] for name, value in many.items()}, one)

    def test_virtual_atoms(self, potential: Any, system: Any, more: Any) -> None:
        """Atoms of type -1 are as if they were not there."""
        coord, cell, atype = system
        types = np.array([atype, atype])
        types[0, 1] = types[1, -1] = -1
        out = self.evaluate(potential, np.stack([coord, coord]), cell, types, **more)
        for k in range(2):
            real = types[k] >= 0
            left = {name: value[real] for name, value in more.items()}
            one = self.evaluate(potential, coord[real], cell, types[k][real], **left)
            got = {name: value[k : k + 1] for name, value in out.items()}
            self.assert_same(self.rows(got, real), {name: one[name] for name in got})
            assert not any(got[name][:, ~real].any() for name in self.of_atoms)
