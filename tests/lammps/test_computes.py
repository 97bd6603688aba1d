# SPDX-License-Identifier: LGPL-3.0-or-later
"""The computes, and what is said about neighbors beyond sel; with small random models."""

import numpy as np
import pytest

from tests.members import section

START = """
units metal
atom_style atomic
atom_modify map yes
neighbor 1.0 bin
read_data water.data
"""


def test_deeptensor(lammps, tmp_path, random_model):
    """Dipoles of atoms are those of DeepDipole; atoms without a value have zeros."""
    from deepmd.infer.deep_dipole import DeepDipole

    path = random_model(
        tmp_path / "dipole", fitting={"type": "dipole", "sel_type": [0]}, sel=[40, 80]
    )
    text = START + f"pair_style zero 4.0\npair_coeff * *\ncompute mu all deeptensor/atom {path}\n"
    text += "dump 1 all custom 1 mu.dump id type x y z c_mu[*]\n"
    text += "dump_modify 1 sort id format float %.15g\nrun 0\n"
    dump = lammps(text).dump("mu.dump")[0]
    types = dump[:, 1].astype(int) - 1
    box = 12.4446611404 * np.eye(3)
    value = DeepDipole(path).eval(dump[None, :, 2:5], box.reshape(1, 9), types)[0]
    assert value.shape == (len(types), 3) and np.abs(value[types == 0]).min() > 0.0
    np.testing.assert_allclose(dump[:, 5:], value, rtol=0, atol=1e-12)
    two = lammps(text, ranks=2).dump("mu.dump")[0]
    np.testing.assert_allclose(two, dump, rtol=0, atol=1e-12)


def test_deeptensor_with_messages(lammps, tmp_path):
    """Dipoles of a model that passes messages, on several ranks."""
    from deepmd.dpmodel.model import build_model
    from deepmd.infer.deep_dipole import DeepDipole
    from deepmd.io import save_model
    from deepmd.runtime.operations import with_program

    given = section("dipole", tmp_path)
    given["descriptor"] = section("dpa3", tmp_path)["descriptor"]
    path = tmp_path / "dipole.dp"
    save_model(path, with_program({"model": build_model(given).serialize()}))
    model = DeepDipole(path)
    rng = np.random.default_rng(3)
    edge, n = 14.0, 60
    rows = [
        f"{k + 1} {k % 2 + 1} {x} {y} {z}"
        for k, (x, y, z) in enumerate(rng.uniform(0, edge, (n, 3)))
    ]
    (tmp_path / "gas.data").write_text(
        f"a gas\n\n{n} atoms\n2 atom types\n"
        + "".join(f"0 {edge} {x}lo {x}hi\n" for x in "xyz")
        + "\nMasses\n\n1 16\n2 1\n\nAtoms # atomic\n\n"
        + "\n".join(rows)
        + "\n"
    )
    text = START.replace("water", "gas") + f"pair_style zero {model.get_rcut()}\npair_coeff * *\n"
    text += f"compute mu all deeptensor/atom {path}\n"
    text += "dump 1 all custom 1 mu.dump id type x y z c_mu[*]\n"
    text += "dump_modify 1 sort id format float %.17g\nrun 0\n"
    dump = lammps(text).dump("mu.dump")[0]
    cell = edge * np.eye(3).reshape(1, 9)
    value = model.eval(dump[None, :, 2:5], cell, dump[:, 1].astype(int) - 1)[0]
    dipoles = np.zeros((n, 3))
    dipoles[: len(value)] = value
    np.testing.assert_allclose(dump[:, 5:], dipoles, rtol=0, atol=1e-10 * np.abs(value).max())
    for ranks in (2, 4):
        found = lammps(text, ranks=ranks).dump("mu.dump")[0]
        np.testing.assert_allclose(found[:, 5:], dump[:, 5:], rtol=0, atol=1e-12)


def test_derivative_by_fparam_and_overflow(lammps, tmp_path, random_model):
    """dE/df as the difference of two runs; at the end LAMMPS tells how often sel was too small."""
    path = random_model(tmp_path / "fparam", fitting={"numb_fparam": 1}, sel=[8, 12])

    def style(value):
        return f"pair_style deepmd {path} fparam {value:.10f}\npair_coeff * * O H\n"

    output = "thermo_style custom step pe {}\nthermo_modify format float %.15g\nrun 0\n"
    delta = 1e-4
    text = START + style(0.3) + "variable f equal 0.3\n"
    text += "compute d all deepmd/fparam/dedn v_f 1e-4\n" + output.format("c_d")
    for value in (0.3 - delta, 0.3 + delta):
        text += "clear\n" + START + style(value) + output.format("")
    run = lammps(text)
    found = run.thermo(0)["c_d"][0]
    low, high = (run.thermo(k)["PotEng"][0] for k in (1, 2))
    assert abs(found) > 1e-6
    assert found == pytest.approx((high - low) / (2.0 * delta), rel=1e-6)
    assert "more neighbors within the cutoff than the model's sel" in run.text
