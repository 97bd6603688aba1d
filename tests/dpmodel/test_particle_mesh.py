# SPDX-License-Identifier: LGPL-3.0-or-later
"""Ewald sums on a mesh equal direct ones."""

import numpy as np
import pytest

from deepmd.dpmodel import ewald
from deepmd.dpmodel.particle_mesh import mesh_pays

CELL = np.array([[8.7, 0.0, 0.0], [1.1, 9.3, 0.2], [-0.9, 0.8, 7.9]])


def frame(coord, charge, cell, monkeypatch, on_mesh):
    monkeypatch.setattr(ewald, "mesh_pays", lambda *_: on_mesh)
    return ewald.EwaldRecp(0.8, 0.4).frame(coord, charge, cell)


def charges(n=40):
    rng = np.random.default_rng(0)
    coord = rng.uniform(-1.0, 2.0, (n, 3)) @ CELL  # outside of the cell, too
    charge = rng.normal(size=n)
    return coord, charge - charge.mean()


def test_mesh_equals_direct_sum(monkeypatch):
    """Energy, and derivatives by positions and by the cell."""
    coord, charge = charges()
    direct = frame(coord, charge, CELL, monkeypatch, on_mesh=False)
    mesh = frame(coord, charge, CELL, monkeypatch, on_mesh=True)
    assert mesh.energy != direct.energy
    assert mesh.energy == pytest.approx(direct.energy, rel=1e-9)
    for name in ("by_position", "by_cell"):
        want = getattr(direct, name)
        found = getattr(mesh, name)
        np.testing.assert_allclose(found, want, rtol=0, atol=1e-8 * np.abs(want).max())


def test_derivatives_on_mesh(monkeypatch):
    """They are those of the energy on the mesh."""
    coord, charge = charges(6)
    rng = np.random.default_rng(1)
    along, strain = rng.normal(size=coord.shape), rng.normal(size=(3, 3))

    def energy(t, u):
        moved = (coord + t * along) + u * coord @ strain
        cell = CELL + u * CELL @ strain
        return frame(moved, charge, cell, monkeypatch, on_mesh=True).energy

    at = frame(coord, charge, CELL, monkeypatch, on_mesh=True)
    h = 1e-4
    by_t = (energy(h, 0.0) - energy(-h, 0.0)) / (2 * h)
    by_u = (energy(0.0, h) - energy(0.0, -h)) / (2 * h)
    assert by_t == pytest.approx(np.sum(at.by_position * along), rel=1e-6)
    both = np.sum(at.by_position * (coord @ strain)) + np.sum(at.by_cell * (CELL @ strain))
    assert by_u == pytest.approx(both, rel=1e-6)


def test_choice_by_size():
    """Small cells are summed directly."""
    assert not mesh_pays(256, np.array([7, 7, 7]))
    assert not mesh_pays(2048, np.array([13, 13, 13]))
    assert mesh_pays(20_000, np.array([30, 30, 30]))
