# SPDX-License-Identifier: LGPL-3.0-or-later
"""Sums over fragments in LAMMPS: the regions of atoms come from a compute."""

import numpy as np
from cxx.test_pairwise import written
from dpmodel.test_pairwise import section

from deepmd.dpmodel.model import build_model
from deepmd.infer import DeepPot

CELL = np.diag([8.0, 9.0, 10.0])
REGIONS = np.array([0] * 6 + [1] * 5 + [2] * 5 + [9] * 5 + [-1] * 2 + [3] * 4)
TYPES = np.arange(27) % 3
COMMANDS = """
units metal
atom_style atomic
neighbor 1.0 bin
fix ap all property/atom d_ap ghost yes
read_data atoms.data
{sets}
compute ap all property/atom d_ap
pair_style deepmd {model} aparam_from_compute ap
pair_coeff * * A B C
velocity all create 30 1
fix 1 all nve
timestep 0.0002
thermo_style custom step pe
thermo_modify line one format float %.15g
dump 1 all custom 5 a.dump id type x y z fx fy fz
dump_modify 1 sort id format float %.15g
run 5
"""


def atoms():
    grid = np.stack(np.meshgrid(*[np.arange(3.0)] * 3, indexing="ij"), -1).reshape(-1, 3)
    coord = (grid + 0.5) / 3 @ CELL + 0.2 * np.random.default_rng(3).normal(size=(27, 3))
    rows = [f"{k + 1} {t + 1} {x} {y} {z}" for k, (t, (x, y, z)) in enumerate(zip(TYPES, coord))]
    box = [f"0 {length} {a}lo {a}hi" for length, a in zip(np.diag(CELL), "xyz", strict=True)]
    masses = [f"{k} 10.0" for k in (1, 2, 3)]
    return "\n".join(
        ["atoms\n", "27 atoms", "3 atom types", *box, "\nMasses\n", *masses, "\nAtoms\n", *rows, ""]
    )


def test_dynamics(lammps, tmp_path):
    model = written(tmp_path / "pairwise.dp", build_model(section()))
    (tmp_path / "atoms.data").write_text(atoms())
    sets = "\n".join(f"set atom {k + 1} d_ap {r}" for k, r in enumerate(REGIONS))
    run = lammps(COMMANDS.format(model=model, sets=sets))
    potential = DeepPot(model, engine="framework")
    for frame, energy in ((0, run.thermo()["PotEng"][0]), (-1, run.thermo()["PotEng"][-1])):
        rows = run.dump("a.dump")[frame]
        types = rows[:, 1].astype(int) - 1
        want = potential.eval(rows[None, :, 2:5], CELL.reshape(1, 9), types, aparam=REGIONS)
        np.testing.assert_allclose(energy, want[0].item(), rtol=1e-12)
        np.testing.assert_allclose(rows[:, 5:8], want[1][0], rtol=0, atol=1e-12)


def test_several_ranks_are_refused(lammps, tmp_path):
    model = written(tmp_path / "pairwise.dp", build_model(section()))
    (tmp_path / "atoms.data").write_text(atoms())
    run = lammps(COMMANDS.format(model=model, sets=""), ranks=2, fails=True)
    assert "regions of ghosts" in run.error and "one rank" in run.error
