# SPDX-License-Identifier: LGPL-3.0-or-later
"""The dipole-charge modifier: numbers of DeePMD-kit, derivatives, dictionaries, wrong use."""

import json

import numpy as np
import pytest
from conftest import reference_path

from deepmd.backend.backend import Backend
from deepmd.base.errors import InputError, ModelFileError
from deepmd.dpmodel.batch import Batch
from deepmd.dpmodel.ewald import EwaldRecp
from deepmd.dpmodel.model import DipoleChargeModifier, Model, build_model
from deepmd.dpmodel.neighbors import batch_edges
from deepmd.dpmodel.type_map import TypeChange, change_type_map
from deepmd.io import load_model
from deepmd.runtime.evaluator import Evaluator
from tests.members import section

CHARGES = {"model_charge_map": [-8.0], "sys_charge_map": [6.0, 1.0]}


def modifier(dipole, types=None, **settings):
    """Return a modifier with small networks of dipoles for the first type only."""
    made = DipoleChargeModifier(model_name="dipole.dp", **{**CHARGES, **settings})
    made.dipole = dipole
    made.adopt(types or dipole.get_type_map())
    return made


def dipole_model(descriptor, tmp_path):
    """Return a model of the dipoles of the first type."""
    given = section("dipole", tmp_path)
    given["descriptor"] = section(descriptor, tmp_path)["descriptor"]
    given["fitting_net"]["sel_type"] = [0]
    return build_model(given)


def batch_of(coord, cell, rcut, types=(0, 1, 1, 0)):
    batch = Batch.from_arrays(coord[None], None if cell is None else cell[None], types)
    batch.edges, batch.reach = batch_edges(batch, rcut), rcut
    return batch


@pytest.mark.parametrize("backend", ["numpy", "pytorch", "jax", "tensorflow"])
@pytest.mark.golden
def test_correction_equals_that_of_deepmd_kit(backend):
    """Three frames, two of them triclinic; the dipole model runs on the backend."""
    kind = Backend.get_backend(backend)
    if not kind().is_available():
        pytest.skip(f"{backend} is not installed")
    about = json.loads(reference_path("dplr/dipole.json").read_text())
    wanted = np.load(reference_path("dplr/dipole.npz"))
    dipole = Model.deserialize(load_model(reference_path("dplr/dipole.dp"))["model"])
    made = DipoleChargeModifier(model_name="dipole.dp", **about["modifier"])
    made.dipole = dipole
    made.adopt(about["config"]["type_map"])
    batch = Batch.from_arrays(wanted["coord"], wanted["box"], wanted["atype"])
    batch.edges, batch.reach = batch_edges(batch, 4.5), 4.5
    terms = made.terms(batch, kind().evaluator(dipole).respond)
    for name, value in terms.items():
        want = wanted[f"out/{name}"].reshape(value.shape)
        assert np.abs(value - want).max() <= 1e-10 * np.abs(want).max(), name


@pytest.mark.parametrize("descriptor", ["se_e2_a", "dpa3"])
def test_derivatives_are_those_of_the_energy(descriptor, tmp_path):
    """The chain through the centroids included, of dipoles that pass messages, too."""
    made = modifier(dipole_model(descriptor, tmp_path))
    rcut, rng = made.dipole.get_rcut(), np.random.default_rng(0)
    coord = rng.uniform(0.0, 4.0, (4, 3))
    cell = 4.5 * np.eye(3) + rng.normal(scale=0.2, size=(3, 3))
    respond = Evaluator(made.dipole).respond
    terms = made.terms(batch_of(coord, cell, rcut), respond)

    def energy(x, h):
        return made.energy(batch_of(x, h, rcut), respond).energy[0]

    h = 1e-4
    for k in np.ndindex(4, 3):
        step = np.zeros((4, 3))
        step[k] = h
        slope = (energy(coord + step, cell) - energy(coord - step, cell)) / (2 * h)
        assert terms["force"][k] == pytest.approx(-slope, rel=1e-6, abs=1e-6)
    for k in np.ndindex(3, 3):
        strain = np.zeros((3, 3))
        strain[k] = h
        both = [energy(coord @ m.T, cell @ m.T) for m in (np.eye(3) + strain, np.eye(3) - strain)]
        slope = (both[0] - both[1]) / (2 * h)
        assert terms["virial"].reshape(3, 3)[k] == pytest.approx(-slope, rel=1e-6, abs=1e-6)


def test_energy_of_fixed_charges_is_the_sum_over_vectors():
    """All vectors one by one, against products of waves on half of them."""
    rng = np.random.default_rng(3)
    cell = 4.0 * np.eye(3) + rng.normal(scale=0.3, size=(3, 3))
    coord, charge = rng.uniform(0.0, 4.0, (5, 3)), rng.normal(size=5)
    sizes = np.ceil(np.linalg.norm(cell, axis=1)).astype(int)
    halves = (sizes + sizes % 2) // 2
    total = 0.0
    for n in np.ndindex(*(2 * halves + 1)):
        m = np.linalg.inv(cell) @ (np.array(n) - halves)
        if m @ m > 0:
            wave = np.sum(charge * np.exp(2j * np.pi * coord @ m))
            total += np.exp(-((np.pi / 0.4) ** 2) * (m @ m)) / (m @ m) * abs(wave) ** 2
    total *= 14.39964535475696995031 / (2 * np.pi * np.linalg.det(cell))
    energy, force, virial = EwaldRecp(1.0, 0.4).eval(
        coord.reshape(1, -1), charge[None], cell.reshape(1, -1)
    )
    assert energy.item() == pytest.approx(total, rel=1e-12)
    assert np.abs(force.reshape(5, 3).sum(axis=0)).max() < 1e-12
    assert np.abs(virial.reshape(3, 3) - virial.reshape(3, 3).T).max() < 1e-12


def test_atoms_with_a_centroid_of_no_dipole_are_ions_of_both_charges(tmp_path):
    """A dipole of zero leaves the sum of fixed charges."""
    dipole = dipole_model("se_e2_a", tmp_path)
    for network in dipole.atomic_model.fitting.nets.networks:
        if network is not None:
            network.layers[-1].w[...] = network.layers[-1].b[...] = 0.0
    made, rng = modifier(dipole), np.random.default_rng(1)
    coord, cell = rng.uniform(0.0, 4.0, (4, 3)), 4.5 * np.eye(3)
    found = made.energy(batch_of(coord, cell, dipole.get_rcut())).energy
    want = EwaldRecp(1.0, 0.4).frame(coord, np.array([-2.0, 1.0, 1.0, -2.0]), cell)
    assert found[0] == pytest.approx(want.energy, rel=1e-12)


def test_dictionary_and_evaluation_of_a_model_with_it(tmp_path):
    model = build_model(section("se_e2_a", tmp_path))
    model.modifier = modifier(dipole_model("se_e2_a", tmp_path), tuple(model.get_type_map()))
    again = Model.deserialize(model.serialize())
    assert again.serialize()["modifier"]["@version"] == 3
    batch = batch_of(np.random.default_rng(2).uniform(0, 4, (4, 3)), 4.5 * np.eye(3), model.rcut)
    whole, terms = Evaluator(again).evaluate(batch), model.modifier.terms(batch)
    bare = Evaluator(again).evaluate(batch, modified=False)
    for name in ("energy", "force", "virial"):
        assert np.allclose(whole[name], bare[name] + terms[name], rtol=0, atol=1e-12)
    assert (whole["atom_energy"] == bare["atom_energy"]).all()
    turned = change_type_map(again, model.get_type_map()[::-1])
    batch.atype = 1 - batch.atype
    assert np.allclose(Evaluator(turned).evaluate(batch)["force"], whole["force"], atol=1e-10)


def test_what_does_not_fit_is_named(tmp_path):
    dipole = dipole_model("se_e2_a", tmp_path)
    types = dipole.get_type_map()
    with pytest.raises(InputError, match=r"sys_charge_map: has 1 charges for the types"):
        modifier(dipole, types, sys_charge_map=[1.0])
    with pytest.raises(
        InputError, match=f"model_charge_map: has 2 charges for the types {types[0]}"
    ):
        modifier(dipole, types, model_charge_map=[1.0, 1.0])
    with pytest.raises(InputError, match=r"dipole\.dp: does not know the types Xe"):
        modifier(dipole, ["Xe", types[1]])
    with pytest.raises(InputError, match=r"dipole\.dp: is no model of dipoles"):
        modifier(build_model(section("se_e2_a", tmp_path)), types)
    with pytest.raises(InputError, match="an Ewald sum needs a periodic frame"):
        modifier(dipole, types).terms(batch_of(np.eye(4, 3), None, 4.0))
    made = build_model(section("se_e2_a", tmp_path))
    made.modifier = modifier(dipole, made.get_type_map())
    with pytest.raises(InputError, match="has no charge of Xe"):
        made.modifier.change_types(TypeChange(types, [*types, "Xe"], None))
    data = made.serialize()
    data["modifier"]["sys_charge_map"] = [1.0]
    with pytest.raises(ModelFileError, match="has 1 charges"):
        Model.deserialize(data)
