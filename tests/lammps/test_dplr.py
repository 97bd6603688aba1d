# SPDX-License-Identifier: LGPL-3.0-or-later
"""fix dplr and kspace_style pppm/dplr: the numbers of Python's Ewald sum and DPLR models."""

import runpy
from pathlib import Path

import numpy as np
import pytest

from deepmd.dpmodel.batch import Batch
from deepmd.dpmodel.ewald import EwaldRecp
from deepmd.dpmodel.model import DipoleChargeModifier, Model, build_model
from deepmd.dpmodel.model.modifier import respond
from deepmd.dpmodel.neighbors import batch_edges
from deepmd.io import load_model, save_model
from tests.members import section

CELL = np.array([[7.6, 0.0, 0.0], [0.9, 7.2, 0.0], [-0.6, 0.5, 7.9]])
IONS, ELECTRONS = np.array([6.0, 1.0]), -8.0
#: Fine enough for 1e-10 of forces.
KSPACE = (
    "kspace_style pppm/dplr 1e-5\nkspace_modify gewald 0.4 diff {diff} mesh 32 32 32 order 12\n"
)

write_data = runpy.run_path(str(Path(__file__).parents[2] / "examples/water/dplr/lammps_data.py"))[
    "write_data"
]


def molecules(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates of eight molecules, some across the faces of the cell, and their types."""
    rng = np.random.default_rng(seed)
    corners = np.stack(np.meshgrid(*[[0.02, 0.52]] * 3, indexing="ij"), -1).reshape(-1, 1, 3)
    coord = np.repeat(corners @ CELL, 3, axis=1)
    coord[:, 1:] += rng.normal(size=(8, 2, 3)) * 0.1 + [[0.9, 0.3, 0.0], [-0.3, 0.9, 0.2]]
    coord[:, :1] += rng.normal(size=(8, 1, 3)) * 0.1
    return coord.reshape(-1, 3), np.tile([0, 1, 1], 8)


@pytest.fixture(scope="module")
def model_file(plugin, tmp_path_factory):
    """A DPLR model with random networks, which evaluates without a framework."""
    folder = tmp_path_factory.mktemp("dplr")
    dipole = section("dipole", folder)
    dipole["fitting_net"]["sel_type"] = [0]
    model = build_model(section("se_e2_a", folder))
    model.modifier = DipoleChargeModifier(
        model_name="dipole.dp",
        model_charge_map=[ELECTRONS],
        sys_charge_map=IONS.tolist(),
        ewald_h=0.4,
        ewald_beta=0.4,
    )
    model.modifier.dipole = build_model(dipole)
    model.modifier.adopt(model.get_type_map())
    save_model(folder / "dplr.dp", {"model": model.serialize()})
    return folder / "dplr.dp"


@pytest.fixture
def start(tmp_path, model_file):
    """The beginning of an input, with a place for the kspace style."""
    coord, types = molecules()
    write_data(tmp_path / "dplr.data", coord, CELL, types, IONS, {0: ELECTRONS})
    return (
        "units metal\natom_style full\nspecial_bonds lj/coul 1 1 1 angle no\nneighbor 0.5 bin\n"
        "read_data dplr.data\n"
        f"pair_style deepmd {model_file}\npair_coeff * * O H NULL\n"
        "bond_style zero\nbond_coeff *\n"
        "group real type 1 2\n"
        "{kspace}"
        f"fix 0 all dplr model {model_file} type_associate 1 3 bond_type 1 {{more}}\n"
        "thermo_style custom step pe elong pxx pyy pzz pxy pxz pyz {columns}\n"
        "thermo_modify format float %.16g\n"
        "dump 1 real custom 1 f.dump id fx fy fz\n"
        "dump_modify 1 sort id format float %.16g\n"
    )


def stress(run, k: int = 0, at: int = 0) -> np.ndarray:
    """Virial [eV] from the pressures of a row, of atoms that do not move."""
    row = {name: value[at] for name, value in run.thermo(k).items()}
    names = [["Pxx", "Pxy", "Pxz"], ["Pxy", "Pyy", "Pyz"], ["Pxz", "Pyz", "Pzz"]]
    pressure = np.array([[row[name] for name in line] for line in names])
    return pressure * np.linalg.det(CELL) / 1.6021765e6


def close(found, want, tolerance: float = 1e-8):
    np.testing.assert_allclose(found, want, rtol=0, atol=tolerance * np.abs(want).max())


@pytest.mark.parametrize(("ranks", "diff"), [(1, "ik"), (2, "ad")])
def test_energy_forces_and_virial(lammps, start, model_file, ranks, diff):
    """Those of DeepPot, which sums directly."""
    from deepmd.infer import DeepPot

    coord, types = molecules()
    energy, force, virial = DeepPot(model_file).eval(coord[None], CELL.reshape(1, 9), types)
    text = start.format(kspace=KSPACE.format(diff=diff), more="", columns="")
    # Where centroids stand does not matter; then not all of them are on the ranks of their atoms.
    text += "group centroids type 3\ndisplace_atoms centroids move 3.1 2.2 3.3 units box\n"
    if ranks > 1:
        text = text.replace("special_bonds", "newton off\nspecial_bonds")
    run = lammps(text + "run 0\n", ranks=ranks)
    assert run.thermo()["PotEng"][0] == pytest.approx(energy[0, 0], rel=1e-8)
    assert abs(run.thermo()["E_long"][0]) > 1e-2 * abs(energy[0, 0])
    close(run.dump("f.dump")[0][:, 1:], force[0])
    close(stress(run), virial.reshape(3, 3))


@pytest.mark.parametrize("ranks", [1, 2])
def test_electrostatics_alone(lammps, tmp_path, ranks):
    """Energy, its shares of atoms and virial in a skewed cell; a mesh for the accuracy."""
    rng = np.random.default_rng(1)
    coord, charge = rng.uniform(size=(20, 3)) @ CELL, rng.normal(size=20).round(3)
    charge[-1] -= charge.sum()
    write_data(tmp_path / "ions.data", coord, CELL, np.arange(20), charge, {})
    energy, _, virial = EwaldRecp(0.4, 0.4).eval(coord.reshape(1, -1), charge[None], CELL[None])
    run = lammps(
        "units metal\natom_style full\nread_data ions.data\n"
        "pair_style zero 3.0\npair_coeff * *\n" + KSPACE.format(diff="ik") + "\n"
        "compute a all pe/atom kspace\ncompute s all reduce sum c_a\n"
        "thermo_style custom step elong pxx pyy pzz pxy pxz pyz c_s\n"
        "thermo_modify format float %.16g\nrun 0\n"
        "kspace_modify mesh 0 0 0 order 5\nrun 0\n",
        ranks=ranks,
    )
    for name in ("E_long", "c_s"):
        assert run.thermo()[name][0] == pytest.approx(energy[0, 0], rel=1e-10)
    close(stress(run), virial.reshape(3, 3), 1e-7)  # LAMMPS' constant of pressures
    coarse = run.thermo(1)["E_long"][0]
    assert coarse != run.thermo()["E_long"][0]
    assert coarse == pytest.approx(energy[0, 0], rel=1e-4)


def test_units_and_hybrid(lammps, start):
    """Other units of energy, and elements named by one of two potentials; in a field."""
    more = "efield 0.3 -0.2 0.1\nfix_modify 0 energy yes"
    text = start.format(kspace=KSPACE.format(diff="ad"), more=more, columns="f_0 f_0[2]")
    metal = lammps(text + "run 0\n")
    forces = metal.dump("f.dump")[0][:, 1:]
    found = text.replace("units metal", "units real").replace("pair_style", "pair_style hybrid")
    found = found.replace("hybrid deepmd", "hybrid/overlay zero 4.0 deepmd")
    found = found.replace("* * O H NULL", "* * deepmd O H NULL\npair_coeff * * zero")
    real = lammps(found + "run 0\n")
    calories = 0.0019872067 / 8.617343e-5  # in an eV, by LAMMPS' Boltzmann constants
    for name, tolerance in (("PotEng", 1e-7), ("E_long", 1e-12), ("f_0", 1e-7)):
        want = calories * metal.thermo()[name][0]
        assert real.thermo()[name][0] == pytest.approx(want, rel=tolerance)
    close(real.dump("f.dump")[0][:, 1:], calories * forces, 1e-7)  # qe2f has 8 digits


def field_energy(model_file, coord, cell, field) -> tuple[float, np.ndarray]:
    """Energy of charges in a field, and forces on atoms, by the dipole model of the file."""
    dipole = Model.deserialize(load_model(model_file)["model"]).modifier.dipole
    types = molecules()[1]
    batch = Batch.from_arrays(coord[None], cell[None], types)
    batch.edges, batch.reach = batch_edges(batch, dipole.get_rcut()), dipole.get_rcut()
    values, pullback = respond(dipole, batch)
    has = (types == 0)[:, None]
    own = (IONS[types][:, None] + ELECTRONS * has) * field  # of a molecule that moves as a whole
    energy = -np.sum(own * coord) - np.sum(ELECTRONS * has * field * values["dipole"])
    g = pullback({"dipole": ELECTRONS * has * field})
    np.add.at(own, batch.edges.j, g)
    np.add.at(own, batch.edges.i, -g)
    return float(energy), own


@pytest.mark.parametrize("ranks", [1, 2])
def test_electric_field(lammps, start, model_file, ranks):
    """Constants, and variables that change; energy, sum of forces, virial."""
    coord, field = molecules()[0], np.array([0.3, -0.2, 0.1])
    zero = start.format(kspace=KSPACE.format(diff="ad"), more="", columns="")
    more = "efield 0.3 v_ey v_ez\nfix_modify 0 energy yes"
    text = "variable ey equal -0.2\nvariable ez equal 0.1*(1+step)\n" + start.format(
        kspace=KSPACE.format(diff="ad"), more=more, columns="f_0 f_0[1] f_0[3]"
    )
    without = lammps(zero + "run 0\n", ranks=ranks)
    force_without = without.dump("f.dump")[0][:, 1:]
    run = lammps(text + "run 1\n", ranks=ranks)
    energy, force = field_energy(model_file, coord, CELL, field)
    # Positions of the data file, not wrapped; images are counted from there.
    assert run.thermo()["f_0"][0] == pytest.approx(energy, rel=1e-8)
    assert run.thermo()["PotEng"][0] == pytest.approx(without.thermo()["PotEng"][0] + energy)
    close(run.dump("f.dump")[0][:, 1:] - force_without, force, 1e-7)
    np.testing.assert_allclose(run.thermo()["f_0[1]"], 0.0, atol=1e-9)  # neutral
    later, _ = field_energy(model_file, coord, CELL, field * [1, 1, 2])
    assert run.thermo()["f_0"][1] == pytest.approx(later, rel=1e-8)
    step = 1e-4
    strained = np.zeros((3, 3))
    for a, b in np.ndindex(3, 3):
        for sign in (1.0, -1.0):
            strain = np.eye(3)
            strain[a, b] += sign * step
            there, _ = field_energy(model_file, coord @ strain.T, CELL @ strain.T, field)
            strained[a, b] -= sign * there / (2.0 * step)
    found = stress(run) - stress(without)
    close(found, np.triu(strained.T) + np.triu(strained.T, 1).T, 1e-5)


MOVE = (
    "neigh_modify every 2 delay 0 check no\nvelocity real create 600 7\nvelocity real zero linear\n"
    "compute t real temp\nthermo_modify temp t\nfix 1 real nve\ntimestep 0.0002\nthermo 10\n"
)


def test_dynamics(lammps, start, model_file, tmp_path):
    """Energy is conserved; two ranks and a restart on two go the same way."""
    columns = "etotal"
    one = start.format(kspace=KSPACE.format(diff="ad"), more="", columns=columns) + MOVE
    text = one + "run 20\nwrite_restart half.restart\nrun 40\n"
    run = lammps(text)
    total = np.concatenate([run.thermo(k)["TotEng"] for k in range(2)])
    potential = np.concatenate([run.thermo(k)["PotEng"] for k in range(2)])
    assert np.ptp(potential) > 1e-2
    assert np.ptp(total) < 2e-3 * np.ptp(potential)
    two = lammps(text.replace("half", "other"), ranks=2)
    np.testing.assert_allclose(two.thermo(1)["PotEng"], run.thermo(1)["PotEng"], rtol=1e-9)
    again = one.replace("read_data dplr.data", "read_restart half.restart")
    again = again.replace("velocity real create 600 7\nvelocity real zero linear\n", "")
    resumed = lammps(again + "run 40\n", ranks=2)
    np.testing.assert_allclose(resumed.thermo()["PotEng"], run.thermo(1)["PotEng"], rtol=1e-9)


def test_minimization(lammps, start):
    """The energy that the minimizer sees goes down along these forces; no name for centroids."""
    text = start.format(kspace=KSPACE.format(diff="ad"), more="", columns="")
    text = text.replace("O H NULL", "O H")
    found = lammps(text + "thermo 1\nminimize 0 0 5 20\n").thermo()["PotEng"]
    assert len(found) > 2
    assert np.all(np.diff(found) < 0.0)


def test_wrong_use(messages, start, model_file):
    """One line that names the keyword and the remedy."""
    right = start.format(kspace=KSPACE.format(diff="ik"), more="", columns="").splitlines()
    fix = next(line for line in right if line.startswith("fix 0"))

    def changed(**lines):
        """The commands with those replaced that begin with a word, then a run."""
        out = [lines.get(line.split()[0], line) for line in right]
        return [line for part in out for line in part.split("\n") if line] + ["run 0"]

    cases = {
        "kspace_modify gewald": changed(kspace_modify=""),
        "the box must be periodic": changed(units="units metal\nboundary p p f"),
        "the group must be all": changed(fix=fix.replace("all", "real")),
        "unknown keyword": changed(fix=fix.replace("model", "modell", 1)),
        "bond_type is missing": changed(fix=fix.replace("bond_type 1", "")),
        "pairs of types": changed(fix=fix.replace("1 3", "1 3 2")),
        "has no dipole in the model": changed(fix=fix.replace("1 3", "2 3")),
        "write NULL for it": changed(pair_coeff="pair_coeff * * O H H"),
        "bond types up to 1": changed(fix=fix.replace("bond_type 1", "bond_type 2")),
        "no equal-style variable": changed(fix=fix + " efield 0 0 v_no"),
        "three numbers": changed(fix=fix + " efield 0 0"),
        "charge 6": changed(fix=fix + "\nset type 1 charge 5.9"),
        "charge -8": changed(fix=fix + "\nset type 3 charge -7.9"),
        "use kspace_modify gewald 0.4": changed(kspace_modify="kspace_modify gewald 0.41"),
        "has 0 bonds": changed(bond_coeff="bond_coeff *\ndelete_bonds all bond 1 remove"),
    }
    found = messages(list(cases.values()))
    for message, text in zip(cases, found, strict=True):
        assert message in text, (message, text)
