# SPDX-License-Identifier: LGPL-3.0-or-later
"""Virials of atoms for the heat flux: what must hold for them, whatever passes messages."""

import numpy as np
import pytest

from deepmd.base.errors import NotAvailableError
from deepmd.dpmodel.model import build_model
from deepmd.infer import DeepPot
from deepmd.runtime.evaluator import Evaluator
from tests.members import section

TYPES = np.array([0, 1, 1, 0, 1, 1])
MASSES = np.where(TYPES == 0, 16.0, 1.0)
PERIODIC = np.array([[6.5, 0.0, 0.0], [0.9, 5.8, 0.0], [-0.6, 0.5, 6.1]])


@pytest.fixture(scope="module", params=["dpa3", "dpa2", "se_e2_a"])
def potential(request, tmp_path_factory):
    model = build_model(section(request.param, tmp_path_factory.mktemp("unfolded")))
    return DeepPot.from_evaluator(Evaluator(model))


def atoms(seed=0):
    """Positions, velocities of a cluster whose ends do not see each other directly."""
    rng = np.random.default_rng(seed)
    coord = np.arange(6)[:, None] * [1.4, 0.5, 0.3] + rng.normal(size=(6, 3)) * 0.2
    return coord, rng.normal(size=(6, 3))


def test_sum_is_the_virial(potential):
    """In a cell smaller than the cutoff, with atoms outside of it; energies are the usual ones."""
    coord, _ = atoms()
    given = coord[None], PERIODIC.reshape(1, 9), TYPES
    energy, virial = potential.eval_unfolded_virial(*given)
    _, _, total, atom_energy, edges = potential.eval(*given, atomic=True)
    np.testing.assert_allclose(virial.sum(axis=1), total, rtol=0, atol=1e-11)
    np.testing.assert_allclose(energy, atom_energy, rtol=0, atol=1e-12)
    local = not potential.model.message_passing()
    assert np.allclose(virial, edges, rtol=0, atol=1e-11) == local


def test_heat_flux_is_the_drift_of_the_energy(potential):
    """J = d/dt Σ r_i e_i along a trajectory of constant energy, in an open cluster."""
    coord, velocity = atoms(1)
    energy, force, _ = potential.eval(coord[None], None, TYPES)
    acceleration = force[0] / MASSES[:, None]

    def center(h):
        """Σ r_i e_i, e_i with the kinetic energy, a time h later."""
        r = coord + h * velocity + h * h / 2 * acceleration
        v = velocity + h * acceleration
        e = potential.eval(r[None], None, TYPES, atomic=True)[3][0, :, 0]
        return (r * (e + MASSES * (v * v).sum(axis=1) / 2)[:, None]).sum(axis=0)

    def slope(h):
        return (center(h) - center(-h)) / (2 * h)

    h = 1e-4  # the error of second order cancels
    drift = (4 * slope(h) - slope(2 * h)) / 3
    e, w = (x[0] for x in potential.eval_unfolded_virial(coord[None], None, TYPES))
    kinetic = MASSES * (velocity * velocity).sum(axis=1) / 2
    convection = ((e[:, 0] + kinetic)[:, None] * velocity).sum(axis=0)

    def flux(virials):
        return convection + np.einsum("iab,ia->b", virials.reshape(-1, 3, 3), velocity)

    np.testing.assert_allclose(flux(w), drift, rtol=0, atol=1e-7 * np.abs(drift).max())
    # Virials that edges give to their neighbors miss that for models that pass messages.
    edges = potential.eval(coord[None], None, TYPES, atomic=True)[4][0]
    scale = np.abs(drift - convection).max()
    right = np.abs(flux(edges) - drift).max() < 1e-5 * scale
    assert right == (not potential.model.message_passing())
    assert energy.shape == (1, 1)


def test_images_far_away_do_not_matter(potential):
    """A cluster in a large cell has the values of an open one, wherever the cell's edges are."""
    coord, _ = atoms()
    cell = 40.0 * np.eye(3)
    _, alone = potential.eval_unfolded_virial(coord[None], None, TYPES)
    _, found = potential.eval_unfolded_virial((coord + 39.0)[None] % 40.0, cell[None], TYPES)
    np.testing.assert_allclose(found, alone, rtol=0, atol=1e-10)


def test_frames_and_virtual_atoms(potential):
    """Several frames at once; an atom of type -1 has zeros."""
    coord = np.stack([atoms(k)[0] for k in range(2)])
    _, both = potential.eval_unfolded_virial(coord, None, TYPES)
    more = np.concatenate([coord[:, :2], np.zeros((2, 1, 3)), coord[:, 2:]], axis=1)
    _, found = potential.eval_unfolded_virial(more, None, np.insert(TYPES, 2, -1))
    assert not found[:, 2].any()
    np.testing.assert_allclose(np.delete(found, 2, axis=1), both, rtol=0, atol=1e-13)


def test_torch(tmp_path):
    """The lifted model gives the same."""
    torch_evaluator = pytest.importorskip("deepmd.pt.evaluator").TorchEvaluator
    model = build_model(section("dpa3", tmp_path))
    given = atoms()[0][None], PERIODIC.reshape(1, 9), TYPES
    want = DeepPot.from_evaluator(Evaluator(model)).eval_unfolded_virial(*given)
    found = DeepPot.from_evaluator(torch_evaluator(model)).eval_unfolded_virial(*given)
    for a, b in zip(found, want, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-10 * np.abs(b).max())


def test_spins_are_refused(tmp_path):
    model = DeepPot.from_evaluator(Evaluator(build_model(section("spin", tmp_path))))
    with pytest.raises(NotAvailableError, match="models with spins"):
        model.eval_unfolded_virial(np.zeros((1, 1, 3)), None, [0], spin=np.ones((1, 1, 3)))
