# SPDX-License-Identifier: LGPL-3.0-or-later
"""Tensors, densities of states and properties through their public classes."""

import numpy as np
import pytest
from golden.cases import inputs, path, select

from deepmd.base.errors import InputError
from deepmd.infer import DeepDipole, DeepDOS, DeepEval, DeepGlobalPolar, DeepPolar, DeepPot
from deepmd.infer.deep_property import DeepProperty

CASES = {c["name"]: c for c in select()}
pytestmark = pytest.mark.golden


def _given(name):
    given = inputs(CASES[name], "pbc")
    return [given[k] for k in ("coords", "cells", "atom_types")]


@pytest.mark.parametrize(
    ("name", "kind", "size"), [("dipole_se_e2_a", DeepDipole, 3), ("polar_se_e2_a", DeepPolar, 9)]
)
def test_tensors(name, kind, size):
    model = kind(path(CASES[name], "dp"))
    args = _given(name)
    atoms, total = model.eval(*args), model.eval(*args, atomic=False)
    nf, na = atoms.shape[:2]
    assert atoms.shape == (nf, na, size) and total.shape == (nf, size)
    np.testing.assert_allclose(atoms.sum(axis=1), total, atol=1e-12)
    assert model.output_dim == size and model.tselt == model.get_sel_type()


def test_forces_of_a_dipole_by_differences():
    model = DeepDipole(path(CASES["dipole_se_e2_a"], "dp"))
    coords, cells, types = (np.array(x) for x in _given("dipole_se_e2_a"))
    coords, cells = coords[:1].reshape(1, -1), cells[:1]
    _, force, virial, atoms, atom_virial = model.eval_full(coords, cells, types, atomic=True)
    na = len(types)
    assert force.shape == (1, 3, na, 3) and virial.shape == (1, 3, 9)
    assert atoms.shape == (1, na, 3) and atom_virial.shape == (1, 3, na, 9)
    np.testing.assert_allclose(atom_virial.sum(axis=2), virial, atol=1e-12)
    step = 1e-5
    for k in (0, 7):
        moved = np.repeat(coords, 2, axis=0)
        moved[0, k] += step
        moved[1, k] -= step
        high, low = model.eval(moved, np.repeat(cells, 2, axis=0), types, atomic=False)
        np.testing.assert_allclose((low - high) / (2 * step), force[0, :, k // 3, k % 3], atol=1e-8)


def test_other_kinds_and_the_general_class():
    dos = DeepEval(path(CASES["dos_se_e2_a"], "dp"))
    assert isinstance(dos, DeepDOS)
    total, atoms = dos.eval(*_given("dos_se_e2_a"), atomic=True)
    assert total.shape[1] == atoms.shape[2] == dos.numb_dos
    prop = DeepEval(path(CASES["property_extensive"], "dp"))
    assert isinstance(prop, DeepProperty) and prop.get_intensive() is False
    (value,) = prop.eval(*_given("property_extensive"))
    assert value.shape[1] == prop.get_task_dim()
    polar = DeepGlobalPolar(path(CASES["polar_se_e2_a"], "dp"))
    assert polar.eval(*_given("polar_se_e2_a")).ndim == 2


def test_derivatives_of_a_polarizability_are_refused():
    with pytest.raises(InputError, match="a polar has no derivatives"):
        DeepPolar(path(CASES["polar_se_e2_a"], "dp")).eval_full(*_given("polar_se_e2_a"))


def test_the_wrong_class_says_so():
    with pytest.raises(InputError, match="predicts dipole, not energy"):
        DeepPot(path(CASES["dipole_se_e2_a"], "dp"))


def test_charge_and_spin():
    case = CASES["dpa3_chg_spin"]
    model = DeepPot(path(case, "dp"))
    args = _given("dpa3_chg_spin")
    usual = model.eval(*args, charge_spin=[0, 1])[0]
    charged = model.eval(*args, charge_spin=[1, 2])[0]
    assert np.abs(usual - charged).max() > 1e-6
    np.testing.assert_array_equal(model.eval(*args)[0], usual)
    with pytest.raises(InputError, match="charge_spin"):
        model.eval(*args, charge_spin=[0, 1, 2])
    for wrong in ([500, 1], [0, 150], [0.5, 1], [0, -1]):
        with pytest.raises(
            InputError, match=r"charge_spin: (charge|multiplicity) .* from (-100|0) to"
        ):
            model.eval(*args, charge_spin=wrong)
    model.model.get_default_chg_spin = lambda: None
    with pytest.raises(InputError, match="needs charge_spin, the charge and multiplicity"):
        model.eval(*args)
    assert model.eval_typeebd().shape[0] == len(model.get_type_map()) + 1
