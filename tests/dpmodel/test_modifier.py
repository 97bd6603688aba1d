# SPDX-License-Identifier: LGPL-3.0-or-later
"""Energies of whole frames beside a model, and vector–Jacobian products of its outputs."""

import itertools

import numpy as np
import pytest

from deepmd.dpmodel.batch import Batch
from deepmd.dpmodel.ewald import EwaldRecp
from deepmd.dpmodel.model import build_model, prepare
from deepmd.dpmodel.model.modifier import FrameEnergy, Modifier
from deepmd.dpmodel.neighbors import batch_edges
from deepmd.np.evaluator import NumPyEvaluator
from tests.members import section

CHARGES = np.array([0.5, -0.3])


class Plane(Modifier):
    """Harmonic attraction to a plane, and a price for volume: neither is a function of edges."""

    def energy(self, batch, respond=None):
        z = batch.coord[:, 2] - 1.0
        cell = batch.cell.reshape(-1, 3, 3)
        volume = np.linalg.det(cell)
        energy = 0.01 * volume + np.bincount(batch.frame, weights=0.5 * z * z)
        by_position = np.stack([0.0 * z, 0.0 * z, z], axis=1)
        by_cell = 0.01 * volume[:, None, None] * np.linalg.inv(cell).transpose(0, 2, 1)
        return FrameEnergy(energy, by_position, by_cell)


class Charges(Modifier):
    """Ewald sum of fixed charges."""

    def energy(self, batch, respond=None):
        parts, ends = [], batch.offsets()
        for k, (a, b) in enumerate(itertools.pairwise(ends)):
            charges = CHARGES[batch.atype[a:b]]
            parts.append(EwaldRecp(1.0, 0.4).frame(batch.coord[a:b], charges, batch.cell[k]))
        energy, by_position, by_cell = zip(*parts, strict=True)
        return FrameEnergy(np.array(energy), np.concatenate(by_position), np.array(by_cell))


def system(model, coord, cell):
    batch = Batch.from_arrays(coord[None], cell.reshape(1, 3, 3), [0, 1, 1, 0])
    batch.edges = batch_edges(batch, model.rcut)
    return batch


@pytest.mark.parametrize("modifier", [Plane(), Charges()])
def test_forces_and_virial_are_exact(modifier, tmp_path):
    model = build_model(section("se_e2_a", tmp_path))
    rng = np.random.default_rng(0)
    coord = rng.uniform(0.0, 4.0, (4, 3))
    cell = 4.5 * np.eye(3) + rng.normal(scale=0.2, size=(3, 3))
    plain = NumPyEvaluator(model).evaluate(system(model, coord, cell))
    model.modifier = modifier

    def evaluate(x=coord, h=cell, **options):
        return NumPyEvaluator(model).evaluate(system(model, x, h), **options)

    def energy(**where):
        return evaluate(**where, derivatives=())["energy"].item()

    out = evaluate()
    assert abs(out["energy"] - plain["energy"]).max() > 1e-3
    assert (out["atom_energy"] == plain["atom_energy"]).all()
    h, force, virial = 1e-4, np.zeros((4, 3)), np.zeros((3, 3))
    for k in np.ndindex(4, 3):
        d = np.zeros((4, 3))
        d[k] = h
        force[k] = -(energy(x=coord + d) - energy(x=coord - d)) / (2 * h)
    for k in np.ndindex(3, 3):
        up, down = np.eye(3), np.eye(3)
        up[k] += h
        down[k] -= h
        e = [energy(x=coord @ s.T, h=cell @ s.T) for s in (up, down)]
        virial[k] = -(e[0] - e[1]) / (2 * h)
    assert np.abs(out["force"] - force).max() < 1e-6
    assert np.abs(out["virial"].reshape(3, 3) - virial).max() < 1e-6


@pytest.mark.parametrize("name", ["dipole", "se_e2_a"])
def test_vector_jacobian_product_is_the_contracted_gradient(name, tmp_path):
    """One backward pass in place of one for each component."""
    model = build_model(section(name, tmp_path))
    rng = np.random.default_rng(1)
    inputs = prepare(
        system(model, rng.uniform(0.0, 4.0, (4, 3)), 4.5 * np.eye(3)), model.packings()
    )
    (output,) = model.output_def().get_data().values()
    same = rng.normal(size=output.size)
    whole = model.forward_edges(inputs)
    part = model.forward_edges(inputs, cotangent={output.name: np.tile(same, (4, 1))})
    assert (part[output.name] == whole[output.name]).all()
    want = np.einsum("edk,d->ek", whole[f"{output.name}_grad"], same)
    assert np.abs(part["vjp"] - want).max() < 1e-13 * np.abs(want).max()

    each = rng.normal(size=(4, output.size))
    found = model.forward_edges(inputs, cotangent={output.name: each})["vjp"]
    e, h = int(np.abs(found).sum(axis=1).argmax()), 1e-5

    def contraction(step):
        vec = np.array(inputs.vec)
        vec[e, 1] += step
        return float((each * model.atomic(inputs._replace(vec=vec))[output.name]).sum())

    assert found[e, 1] == pytest.approx((contraction(h) - contraction(-h)) / (2 * h), rel=1e-6)
