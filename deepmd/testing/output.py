# SPDX-License-Identifier: LGPL-3.0-or-later
"""Tests of every model that predicts something else than an energy."""

from typing import Any, ClassVar

import numpy as np

from deepmd.dpmodel.output_def import Level, of_level
from deepmd.testing.component import ComponentTests
from deepmd.testing.systems import gradient, rotation


class OutputTests(ComponentTests):
    """Symmetries, derivatives, limits and formats of models of tensors, densities, properties.

    Attributes
    ----------
    ranks : dict of str to int
        How outputs turn with the system: 1 as vectors, 2 as tensors; others are scalars.
    """

    ranks: ClassVar[dict[str, int]] = {"dipole": 1, "polar": 2}

    # -- names of results ---------------------------------------------------------------------

    def outputs(self, potential: Any) -> dict[str, Any]:
        """Definitions of the outputs, by name."""
        out: dict[str, Any] = potential.model.output_def().get_data()
        return out

    def of_atoms(self, potential: Any) -> set[str]:
        """Names of the results that have a row per atom."""
        return {*of_level(potential.model.output_def().results(), Level.ATOM), "mask"}

    # -- symmetries ---------------------------------------------------------------------------

    def test_it_is_no_constant(self, potential: Any, system: Any) -> None:
        """All results depend on the positions, or the other tests would say nothing."""
        coord, cell, atype = system
        here = self.evaluate(potential, coord, cell, atype)
        there = self.evaluate(potential, coord * 1.01, cell * 1.01, atype)
        for name in self.outputs(potential):
            assert np.isfinite(here[name]).all()
            assert np.abs(here[name] - there[name]).max() > 1e-8, name

    def test_permutation(self, potential: Any, system: Any) -> None:
        """The order of the atoms does not matter."""
        coord, cell, atype = system
        order = np.random.default_rng(1).permutation(len(coord))
        rows = self.of_atoms(potential)
        want = self.evaluate(potential, coord, cell, atype)
        got = self.evaluate(potential, coord[order], cell, atype[order])
        self.assert_same(got, {k: v[:, order] if k in rows else v for k, v in want.items()})

    def test_rotation(self, potential: Any, system: Any) -> None:
        """Scalars stay, vectors and tensors turn with the system."""
        coord, cell, atype = system
        q = rotation()
        want = self.evaluate(potential, coord, cell, atype)
        got = self.evaluate(potential, coord @ q.T, cell @ q.T, atype)
        for name, variable in self.outputs(potential).items():
            for key in (name, variable.atom_name):
                value = want[key]
                for _ in range(self.ranks.get(name, 0)):  # the next of the axes of length 3
                    value = value.reshape(*value.shape[:2][: value.ndim - 1], -1, 3) @ q.T
                    value = np.swapaxes(value, -1, -2)
                self.assert_same(got[key].ravel(), np.reshape(value, -1), key)

    def test_translation(self, potential: Any, system: Any) -> None:
        """Moving everything, or single atoms by cell vectors, changes nothing."""
        coord, cell, atype = system
        want = self.evaluate(potential, coord, cell, atype)
        jumps = np.random.default_rng(2).integers(-3, 4, coord.shape) @ cell
        for moved in (coord + np.array([1.7, -20.3, 0.4]), coord + jumps):
            self.assert_same(self.evaluate(potential, moved, cell, atype), want)

    def test_supercell(self, potential: Any, system: Any) -> None:
        """Of two cells side by side, sums are twice those of one, means the same."""
        coord, cell, atype = system
        want = self.evaluate(potential, coord, cell, atype)
        double = cell * np.array([[2.0], [1.0], [1.0]])
        both = np.concatenate([coord, coord + cell[0]])
        got = self.evaluate(potential, both, double, np.tile(atype, 2))
        for name, variable in self.outputs(potential).items():
            factor = 1.0 if variable.intensive else 2.0
            self.assert_same(got[name], factor * want[name], name)
            self.assert_same(got[variable.atom_name], np.tile(want[variable.atom_name], (1, 2, 1)))

    # -- derivatives --------------------------------------------------------------------------

    def test_force_is_minus_the_gradient(self, potential: Any, system: Any) -> None:
        """Derivatives of every component by finite differences, where there are some."""
        coord, cell, atype = system
        out = self.evaluate(potential, coord, cell, atype)
        for variable in potential.model.differentiable():
            for c in range(variable.size):

                def component(x: np.ndarray, c: int = c, name: str = variable.name) -> Any:
                    cells = np.tile(cell, (len(x), 1, 1))
                    return self.evaluate(potential, x, cells, atype)[name][:, c]

                numeric = -gradient(component, coord)
                force = out["force"][0].reshape(len(coord), variable.size, 3)[:, c]
                np.testing.assert_allclose(force, numeric, rtol=0, atol=1e-7)

    def test_parts_add_up(self, potential: Any, system: Any) -> None:
        """What belongs to a frame is the sum over its atoms, or their mean."""
        out = self.evaluate(potential, *system)
        for name, variable in self.outputs(potential).items():
            value = out[variable.atom_name]
            counted = out["mask"].sum() if "mask" in out else value.shape[1]
            total = value.sum(axis=1) / (counted if variable.intensive else 1.0)
            self.assert_same(out[name], total, name)

    def test_smooth_at_the_cutoff(self, potential: Any) -> None:
        """Nothing jumps when an atom comes within the cutoff."""
        rcut, last = potential.get_rcut(), potential.get_ntypes() - 1
        cluster = np.array([[0, 0, 0], [0.4, 0.02, 0], [-0.1, 0.4, 0], [0.1, -0.4, 0], [0, 0, 1]])
        coord = np.tile(rcut * cluster, (2, 1, 1))
        coord[:, 4, 2] *= 1 + np.array([-1e-7, 1e-7])
        out = self.evaluate(potential, coord, None, np.array([0, last, 0, last, 0]))
        for name in self.outputs(potential):
            assert np.abs(out[name][1] - out[name][0]).max() < 1e-9, name

    # -- limits -------------------------------------------------------------------------------

    def test_few_atoms(self, potential: Any) -> None:
        """No atom, one atom, and atoms that see nothing of each other."""
        none = self.evaluate(potential, np.zeros((2, 0, 3)), None, np.zeros(0, int))
        rcut = potential.get_rcut()
        for name, variable in self.outputs(potential).items():
            assert none[name].shape == (2, variable.size)
            assert not none[name].any()
            assert none[variable.atom_name].shape == (2, 0, variable.size)
            for t in range(potential.get_ntypes()):
                one = self.evaluate(potential, np.zeros((1, 3)), None, np.array([t]))
                assert np.isfinite(one[name]).all()
                apart = np.array([[0, 0, 0], [0, 1.001 * rcut, 0]])
                far = self.evaluate(potential, apart, None, np.array([t, t]))
                factor = 1.0 if variable.intensive else 2.0
                self.assert_same(far[name], factor * one[name], name)

    def test_frames_do_not_see_each_other(self, potential: Any, system: Any) -> None:
        """Frames together give what they give alone."""
        coord, cell, atype = system
        coords = coord + np.random.default_rng(5).normal(size=(3, *coord.shape)) * 0.1
        many = self.evaluate(potential, coords, np.tile(cell, (3, 1, 1)), atype)
        for k in range(3):
            one = self.evaluate(potential, coords[k], cell, atype)
            self.assert_same({name: many[name][k : k + 1] for name in one}, one)
