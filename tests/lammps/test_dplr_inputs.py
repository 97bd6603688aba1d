# SPDX-License-Identifier: LGPL-3.0-or-later
"""Inputs of DPLR as they stand: that of the example, and one in the usual words of DeePMD-kit."""

import runpy
import shutil

import numpy as np
import pytest
from conftest import reference_path
from examples.test_examples_run import EXAMPLES

from deepmd.infer import DeepPot

FOLDER = EXAMPLES / "water" / "dplr"
write_data = runpy.run_path(str(FOLDER / "lammps_data.py"))["write_data"]

#: What inputs of DeePMD-kit's users look like: its words, in their usual order.
USUAL = """
variable        NSTEPS      equal 4
variable        THERMO_FREQ equal 2
variable        NREP        equal 1
variable        TEMP        equal 300.0
variable        TAU_T       equal 0.1
variable        KMESH       equal 32
variable        BETA        equal 0.4

units           metal
boundary        p p p
atom_style      full
neighbor        2.0 bin
neigh_modify    every 10 delay 0 check no

read_data       conf.lmp
replicate       ${NREP} ${NREP} ${NREP}
group           real_atom    type 1 2
group           virtual_atom type 3

pair_style      deepmd ener.pb
pair_coeff      * *
bond_style      zero
bond_coeff      *
special_bonds   lj/coul 1 1 1 angle no

kspace_style    pppm/dplr 1e-5
kspace_modify   gewald ${BETA} diff ik mesh ${KMESH} ${KMESH} ${KMESH}

fix             0 all dplr model ener.pb type_associate 1 3 bond_type 1
fix_modify      0 virial yes

velocity        real_atom create ${TEMP} 12345
fix             1 real_atom nvt temp ${TEMP} ${TEMP} ${TAU_T}

compute         real_temp  real_atom temp
compute         real_press all       pressure real_temp
thermo_style    custom step pe ke etotal temp press vol c_real_temp c_real_press
thermo_modify   temp real_temp press real_press
thermo          ${THERMO_FREQ}
dump            1 real_atom custom ${THERMO_FREQ} water.dump id fx fy fz
dump_modify     1 sort id

timestep        0.0005
run             ${NSTEPS}
write_restart   dplr.restart
"""


@pytest.mark.golden
def test_usual_input(lammps, tmp_path, converted):
    """Nothing is changed but the model, which went through dp convert-backend, on one rank and two."""
    pytest.importorskip("tensorflow")
    folder = reference_path("data/dplr_water")
    coord, cell = (np.load(folder / f"set.000/{k}.npy")[0].reshape(-1, 3) for k in ("coord", "box"))
    types = np.loadtxt(folder / "type.raw", dtype=int)
    write_data(tmp_path / "conf.lmp", coord, cell, types, (6.0, 1.0), {0: -8.0})
    path = converted(reference_path("dplr/ener.pb"), ".pb")
    (tmp_path / "ener.pb").symlink_to(path)
    energy, force, _ = DeepPot(path).eval(coord[None], cell.reshape(1, 9), types)
    one = lammps(USUAL)
    # What a mesh of 32 per axis and order 5 allow in a cell of 16 angstroms.
    assert one.thermo()["PotEng"][0] == pytest.approx(energy.item(), rel=1e-6)
    np.testing.assert_allclose(one.dump("water.dump")[0][:, 1:], force[0], rtol=0, atol=2e-3)
    first, second = one.thermo(), lammps(USUAL, ranks=2).thermo()
    for name, value in first.items():
        np.testing.assert_allclose(second[name], value, rtol=1e-7)


@pytest.mark.golden
def test_input_of_the_example(lammps, tmp_path, converted):
    """Data by the scripts of the example and a trained model of water, on one rank and two."""
    pytest.importorskip("torch")
    (tmp_path / "data").symlink_to(EXAMPLES / "water" / "data")
    shutil.copytree(FOLDER, tmp_path / "dplr", ignore=shutil.ignore_patterns("model*", "*.pth"))
    for script in ("make_centroids.py", "lammps_data.py"):
        runpy.run_path(str(tmp_path / "dplr" / script), run_name="__main__")
    shutil.copy(tmp_path / "dplr" / "water.data", tmp_path)
    path = converted(reference_path("dplr/ener.pb"), ".pth")
    (tmp_path / "water.pth").symlink_to(path)
    part = tmp_path / "dplr/centroids/valid/valid_0/set.000"
    coord, cell = (np.load(part / f"{k}.npy")[-1:] for k in ("coord", "box"))
    energy = DeepPot(path).eval(coord, cell, [0, 1, 1] * (coord.size // 9))[0].item()
    text = (FOLDER / "in.lammps").read_text()
    one, two = lammps(text).thermo(), lammps(text, ranks=2).thermo()
    assert one["Step"][-1] == 100
    assert one["PotEng"][0] == pytest.approx(energy, rel=1e-6)
    assert np.abs(one["E_long"]).min() > 0.5
    for name, value in one.items():
        np.testing.assert_allclose(two[name], value, rtol=1e-6)
