# SPDX-License-Identifier: LGPL-3.0-or-later
"""The ASE calculator."""

import gc
import logging
from pathlib import Path

import numpy as np
import pytest
from infer.models import make_section, write

pytest.importorskip("ase")

from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.calculator import PropertyNotImplementedError
from ase.calculators.fd import calculate_numerical_stress
from ase.neighborlist import NeighborList, NewPrimitiveNeighborList
from ase.stress import voigt_6_to_full_3x3_stress

from deepmd.base.errors import InputError
from deepmd.calculator import DP, periodic_cell
from deepmd.dpmodel.model import build_model
from deepmd.infer import DeepPot
from deepmd.io import save_model
from deepmd.runtime.probes import model_file_dict


@pytest.fixture
def ice():
    rng = np.random.default_rng(0)
    cell = [[5.0, 0.2, 0.1], [0.3, 5.4, 0.0], [0.0, -0.4, 5.2]]
    return Atoms("OHHOHH", positions=rng.uniform(0, 5, (6, 3)), cell=cell, pbc=True)


def test_same_as_deep_pot(model_file, ice):
    ice.calc = DP(model_file)
    e, f, v = DeepPot(model_file).eval(ice.positions, ice.cell[:], [0, 1, 1, 0, 1, 1])
    assert ice.get_potential_energy() == e[0, 0]
    assert ice.get_potential_energy(force_consistent=True) == e[0, 0]
    np.testing.assert_array_equal(ice.get_forces(), f[0])
    stress = voigt_6_to_full_3x3_stress(ice.get_stress())
    full = v[0].reshape(3, 3)
    np.testing.assert_allclose(stress, -0.5 * (full + full.T) / ice.get_volume(), atol=1e-16)
    np.testing.assert_array_equal(ice.calc.results["virial"], full)


def test_stress_is_the_strain_derivative(model_file, ice):
    ice.calc = DP(model_file)
    np.testing.assert_allclose(
        ice.get_stress(), calculate_numerical_stress(ice, eps=1e-5), atol=1e-8
    )


def test_attributes_clients_use(model_file):
    calc = DP(Path(model_file), device="cpu", nlist_backend="auto")
    assert calc.name == "DP"
    assert calc.dp.get_type_map() == ["O", "H"]
    assert {"energy", "free_energy", "forces", "stress", "virial"} <= set(
        calc.implemented_properties
    )


def test_subclass(model_file, ice):
    class Mine(DP):
        def calculate(self, atoms=None, properties=("energy",), system_changes=()):
            super().calculate(atoms, properties, system_changes)
            self.results["energy"] += 1.0

    ice.calc = Mine(str(model_file))
    assert ice.get_potential_energy() == pytest.approx(
        ice.get_potential_energy(force_consistent=True) + 1.0
    )


def test_open_systems_have_no_stress(model_file):
    water = molecule("H2O", calculator=DP(model_file))
    assert water.get_forces().shape == (3, 3)
    with pytest.raises(PropertyNotImplementedError):
        water.get_stress()


def test_export_leaves_out_what_ase_does_not_know(model_file, ice):
    ice.calc = DP(model_file)
    properties = ice.get_properties(["energy", "forces", "stress"])
    assert "virial" not in properties
    assert properties["energy"] == ice.get_potential_energy()


def test_type_dict_and_unknown_elements(model_file, ice):
    a = DP(model_file, type_dict={"O": 1, "H": 0})
    b = DP(model_file)
    swapped = ice.copy()
    swapped.symbols = "HOOHOO"
    assert a.get_potential_energy(ice) == b.get_potential_energy(swapped)
    with pytest.raises(InputError, match=r"has C \(atom 0\)"):
        b.get_potential_energy(molecule("CH4"))


def test_parameters_in_info_are_forwarded_and_noticed(parameter_file, ice):
    ice.calc = DP(parameter_file)
    ice.info["fparam"] = [0.1, 0.2]
    ice.info["aparam"] = np.linspace(0, 1, 6)
    first = ice.get_potential_energy()
    reference = DeepPot(parameter_file)
    types = [0, 1, 1, 0, 1, 1]

    def expected():
        return reference.eval(
            ice.positions, ice.cell[:], types, fparam=ice.info["fparam"], aparam=ice.info["aparam"]
        )[0][0, 0]

    assert first == expected()
    ice.info["fparam"] = [0.5, 0.2]
    assert ice.get_potential_energy() == expected() != first
    ice.info["aparam"] = np.zeros(6)
    assert ice.get_potential_energy() == expected()


def test_numbers_are_numpy_floats(model_file, ice):
    ice.calc = DP(model_file)
    assert type(ice.get_potential_energy()) is np.float64


def test_inputs_that_are_no_arrays(parameter_file, ice):
    ice.calc = DP(parameter_file)
    ice.info |= {"fparam": [[0.1], [0.2, 0.3]], "aparam": 0.0}
    with pytest.raises(InputError, match="fparam: is no array"):
        ice.get_potential_energy()


@pytest.fixture(scope="module")
def spin_file(tmp_path_factory):
    section = make_section()
    section["spin"] = {"use_spin": ["O"], "virtual_scale": [0.3]}
    path = tmp_path_factory.mktemp("spin") / "spin.dp"
    save_model(path, model_file_dict(build_model(section), section, 0.9, "NumPy"))
    return path


def test_spins_are_magnetic_moments(spin_file, ice):
    ice.calc = DP(spin_file)
    with pytest.raises(InputError, match="magmoms: the model needs spins"):
        ice.get_potential_energy()
    ice.set_initial_magnetic_moments([1.0, 0, 0, 1.0, 0, 0])
    with pytest.raises(InputError, match="magmoms: the model needs directions"):
        ice.get_potential_energy()
    ice.set_initial_magnetic_moments(None)  # ASE keeps the shape
    spin = np.random.default_rng(1).normal(size=(6, 3))
    ice.set_initial_magnetic_moments(spin)
    want = DeepPot(spin_file).eval(ice.positions, ice.cell[:], [0, 1, 1, 0, 1, 1], spin=spin)
    assert ice.get_potential_energy() == want[0][0, 0]
    np.testing.assert_array_equal(ice.calc.results["force_mag"], want[3][0])
    ice.set_initial_magnetic_moments(-2 * spin)
    assert ice.get_potential_energy() != want[0][0, 0]
    assert "force_mag" not in ice.get_properties(["energy"])


def test_magnetic_moments_do_not_disturb_other_models(model_file, ice):
    ice.calc = DP(model_file)
    before = ice.get_potential_energy()
    ice.set_initial_magnetic_moments([1.0, 0, 0, 1.0, 0, 0])
    assert ice.get_potential_energy() == before


@pytest.mark.parametrize("pbc", [(1, 1, 0), (0, 1, 0), (1, 0, 1)])
def test_partly_periodic(model_file, ice, pbc):
    """The same as a large cell in the open directions, and no images through a small one."""
    ice.set_pbc(pbc)
    ice.calc = DP(model_file)
    energy, forces = ice.get_potential_energy(), ice.get_forces()
    repeated = ice.copy()
    wide = repeated.cell[:].copy()
    for k in range(3):
        if not pbc[k]:
            wide[k] *= 10
    repeated.set_cell(wide)
    repeated.set_pbc(True)
    repeated.calc = DP(model_file)
    assert energy == pytest.approx(repeated.get_potential_energy(), abs=1e-12)
    np.testing.assert_allclose(forces, repeated.get_forces(), atol=1e-12)
    volume = ice.get_volume()
    assert np.isfinite(ice.get_stress()).all()
    np.testing.assert_allclose(
        ice.get_stress()[:3] * volume, -np.diag(ice.calc.results["virial"]), atol=1e-14
    )


def test_a_slab_without_third_vector(model_file):
    slab = bulk("O", "fcc", a=4.0, cubic=True) * (2, 2, 1)
    slab.set_pbc((1, 1, 0))
    slab.cell[2] = 0
    slab.calc = DP(model_file)
    assert np.isfinite(slab.get_potential_energy())
    with pytest.raises(PropertyNotImplementedError):
        slab.get_stress()


def test_periodic_cell_of_open_directions():
    cell = periodic_cell(np.eye(3) * 3, (True, False, False), np.array([[0, 0, 0], [0, 9, 1]]), 4.0)
    np.testing.assert_allclose(cell @ cell.T, np.diag(np.diag(cell @ cell.T)), atol=1e-12)
    assert np.linalg.norm(cell, axis=1).min() == pytest.approx(3.0)
    assert periodic_cell(np.eye(3), (False,) * 3, np.zeros((1, 3)), 4.0) is None


def test_missing_cell_vector_in_a_periodic_direction(model_file, ice):
    ice.cell[0] = 0
    ice.calc = DP(model_file)
    with pytest.raises(InputError, match="no volume"):
        ice.get_potential_energy()


@pytest.mark.parametrize("primitive", [True, False])
def test_neighbor_list_of_ase(model_file, ice, primitive):
    options = {"self_interaction": False, "bothways": True, "skin": 0.2}
    if primitive:
        neighbors = NewPrimitiveNeighborList([2.0] * 6, **options)
    else:
        neighbors = NeighborList([2.0] * 6, primitive=NewPrimitiveNeighborList, **options)
    a, b = DP(model_file, neighbor_list=neighbors), DP(model_file)
    for _ in range(3):
        assert a.get_potential_energy(ice) == pytest.approx(b.get_potential_energy(ice), abs=1e-12)
        np.testing.assert_allclose(a.get_forces(ice), b.get_forces(ice), atol=1e-12)
        ice.rattle(0.15, seed=1)


def test_half_and_short_neighbor_lists(model_file, ice):
    half = NewPrimitiveNeighborList([2.0] * 6, self_interaction=True, bothways=False)
    expected = DP(model_file).get_potential_energy(ice)
    assert DP(model_file, neighbor_list=half).get_potential_energy(ice) == pytest.approx(expected)
    short = NewPrimitiveNeighborList([1.0] * 6, self_interaction=False, bothways=True)
    with pytest.raises(InputError, match="neighbor_list"):
        DP(model_file, neighbor_list=short).get_potential_energy(ice)


def test_overflow_is_reported_once_and_at_the_end(tmp_path, ice, caplog):
    small = write(tmp_path / "small.dp", sel=(1, 2))
    with caplog.at_level(logging.WARNING, logger="deepmd"):
        ice.calc = DP(small)
        for _ in range(3):
            ice.rattle(0.01)
            ice.get_forces()
        assert len([r for r in caplog.records if "would do" in r.getMessage()]) == 1
        ice.calc = None
        gc.collect()
    assert "in all" in caplog.records[-1].getMessage()
