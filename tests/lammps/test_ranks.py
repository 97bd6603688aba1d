# SPDX-License-Identifier: LGPL-3.0-or-later
"""Models that pass messages, on several ranks: the numbers of one rank, which are those of Python."""

import os
import re
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from deepmd.infer import DeepPot

pytest.importorskip("torch")

#: Ghosts whose neighbors matter: two layers above the first one, or above the initial descriptor.
DESCRIPTORS = {
    "dpa2": {
        "type": "dpa2",
        "repinit": {"rcut": 3.5, "rcut_smth": 1.0, "nsel": 30, "neuron": [4, 8], "axis_neuron": 4},
        "repformer": {
            **{"rcut": 2.8, "rcut_smth": 1.0, "nsel": 20, "nlayers": 2, "g1_dim": 8, "g2_dim": 4},
            **{"attn2_nhead": 1, "attn1_nhead": 1, "attn2_hidden": 4, "attn1_hidden": 4},
        },
    },
    "dpa3": {
        "type": "dpa3",
        "repflow": {
            **{"n_dim": 6, "e_dim": 4, "a_dim": 4, "nlayers": 3, "axis_neuron": 2},
            **{"e_rcut": 3.0, "e_rcut_smth": 1.0, "e_sel": 30},
            **{"a_rcut": 2.5, "a_rcut_smth": 1.0, "a_sel": 20},
        },
    },
}
WIDE = {**DESCRIPTORS["dpa3"], "repflow": {**DESCRIPTORS["dpa3"]["repflow"], "n_dim": 200}}
BOX = """
units metal
atom_style atomic
{before}
neighbor 0.5 bin
read_data {data}
mass 1 16.0
mass 2 1.0
mass 3 4.0
pair_style deepmd {path} messages {messages}
pair_coeff * * O H NULL
"""
END = """
compute pea all pe/atom
compute vir all centroid/stress/atom NULL virial
thermo_style custom step pe press pxx pyy pzz pxy pxz pyz
thermo_modify line one format float %.15g
thermo {steps}
dump 1 all custom {steps} {dump} id type x y z fx fy fz c_pea c_vir[*]
dump_modify 1 sort id format float %.17g
velocity all create 600.0 5
fix 1 all nve
timestep 0.0005
run {steps}
"""


#: Cell of 45 atoms [Å].
CELL = np.array([[11.0, 0.0, 0.0], [0.7, 6.0, 0.0], [-0.4, 0.5, 6.5]])


def write_data(path):
    """Write a disturbed lattice in a tilted box; every ninth atom is not the model's."""
    rng = np.random.default_rng(4)
    grid = np.stack(np.meshgrid(range(5), range(3), range(3), indexing="ij"), -1).reshape(-1, 3)
    coord = (grid + rng.uniform(0.3, 0.7, grid.shape)) / [5, 3, 3] @ CELL
    lines = ["a disturbed lattice", "", "45 atoms", "3 atom types"]
    lines += [f"0 {CELL[k, k]} {a}lo {a}hi" for k, a in enumerate("xyz")]
    lines += ["0.7 -0.4 0.5 xy xz yz", "", "Atoms # atomic", ""]
    for k, (x, y, z) in enumerate(coord):
        lines.append(f"{k + 1} {3 if k % 9 == 8 else k % 2 + 1} {x:.15g} {y:.15g} {z:.15g}")
    path.write_text("\n".join(lines) + "\n")


def block(path, *, before="", after="", dump="a.dump", steps=20, messages="auto"):
    """Return the commands of a run."""
    data = Path(path).with_name("lattice.data")
    if not data.exists():
        write_data(data)
    text = BOX.format(path=path, before=before, data=data, messages=messages)
    return text + after + END.format(dump=dump, steps=steps)


def same(a, b, tolerance=1e-10):
    assert a.shape == b.shape
    assert np.abs(a - b).max() <= tolerance * max(np.abs(b).max(), 0.01)


def same_runs(run, one, *, k=0, dump="a.dump"):
    """Compare energy, pressure, positions, forces, energies and virials of atoms."""
    first, second = run.thermo(k), one.thermo()
    for name in second:
        same(first[name], second[name])
    one, two = one.dump("one.dump"), run.dump(dump)
    for columns in (slice(2, 5), slice(5, 8), slice(8, 9), slice(9, 18)):
        same(one[..., columns], two[..., columns])


@pytest.fixture(scope="module")
def path(tmp_path_factory, random_model):
    """File of a model, written once."""
    made = {}

    def of(name):
        if name not in made:
            target = tmp_path_factory.mktemp("messages") / f"{name}.pth"
            made[name] = random_model(
                target, fitting={}, sel=[], descriptor=(DESCRIPTORS | {"wide": WIDE})[name]
            )
        return made[name]

    return of


def python(path, dump):
    """Energy and forces of the real atoms of a frame of a dump."""
    real = dump[:, 1] < 3
    coord = dump[real, 2:5].reshape(1, -1)
    types = dump[real, 1].astype(int) - 1
    energy, force, _ = DeepPot(path).eval(coord, CELL.reshape(1, 9), types)
    return energy.ravel(), force[0], real


@pytest.mark.parametrize("name", DESCRIPTORS)
def test_dynamics(name, lammps, path):
    """Two ranks in a tilted box, with atoms that are not the model's, without an atom map."""
    one = lammps(block(path(name), dump="one.dump"))
    assert "ghosts are kept" not in one.text and "exchange" not in one.text
    for messages, says in (("auto", "bytes of ghosts in all"), ("halo", "ghosts are kept up to")):
        two = lammps(block(path(name), messages=messages), ranks=2)
        assert "2 by 1 by 1 MPI processor grid" in two.text and says in two.text
        same_runs(two, one)
        last = two.dump("a.dump")[-1]
        energy, force, real = python(path(name), last)
        same(two.thermo()["PotEng"][-1:], energy)
        same(last[real, 5:8], force)
        assert np.all(last[~real, 5:9] == 0.0)


@pytest.mark.slow
@pytest.mark.parametrize("messages", ["layer", "halo"])
@pytest.mark.parametrize("name", DESCRIPTORS)
def test_four_ranks(name, messages, lammps, path):
    """Domains that are narrower than the ghosts reach, over 100 steps."""
    one = lammps(block(path(name), steps=100, dump="one.dump"))
    four = lammps(block(path(name), steps=100, messages=messages), ranks=4)
    same_runs(four, one)
    last = four.dump("a.dump")[-1]
    energy, force, real = python(path(name), last)
    same(four.thermo()["PotEng"][-1:], energy)
    same(last[real, 5:8], force)


def test_one_rank_without_identities(lammps, path):
    """Nothing but communication says whose images ghosts are; results are those with identities."""
    one = lammps(block(path("dpa3"), steps=2, dump="one.dump"))
    run = lammps(block(path("dpa3"), steps=2, messages="layer"))
    assert "ranks exchange messages" in run.text
    same_runs(run, one)


@pytest.mark.parametrize("messages", ["layer", "halo"])
def test_empty_rank_and_newton(messages, lammps, path):
    """A rank without atoms; forces of ghosts without Newton's third law."""
    half = "region r block 5.0 INF INF INF INF INF\ndelete_atoms region r compress no\n"
    before, steps = "processors * 1 1\n", 2
    one = lammps(block(path("dpa3"), after=half, before=before, steps=steps, dump="one.dump"))
    given = {"after": half, "steps": steps, "messages": messages}
    text = block(path("dpa3"), before=before, **given)
    before += "newton off\n"
    text += "clear\n" + block(path("dpa3"), before=before, dump="b.dump", **given)
    run = lammps(text, ranks=2)
    same_runs(run, one)
    same_runs(run, one, k=1, dump="b.dump")


@pytest.mark.parametrize("name", DESCRIPTORS)
def test_heat_flux(name, lammps, path):
    """Virials of atoms, on one rank and on two, and with them compute heat/flux."""
    text = block(path(name), steps=1, messages="auto atom_virial unfolded")
    text = text.replace(
        "thermo_style custom",
        "compute ke all ke/atom\ncompute j all heat/flux ke pea vir\n"
        "dump 2 all custom 1 v.dump id vx vy vz c_ke\ndump_modify 2 sort id format float %.17g\n"
        "thermo_style custom step c_j[1] c_j[2] c_j[3]",
    )
    runs = [lammps(text), lammps(text, ranks=2)]
    for run in runs:
        last, moving = run.dump("a.dump")[-1], run.dump("v.dump")[-1]
        real = last[:, 1] < 3
        coord, types = last[real, 2:5], last[real, 1].astype(int) - 1
        given = coord[None], CELL.reshape(1, 9), types
        energy, virial = (x[0] for x in DeepPot(path(name)).eval_unfolded_virial(*given))
        same(last[real, 8:9], energy)
        of_lammps = virial[:, [0, 4, 8, 3, 6, 7, 1, 2, 5]]  # position and force, xx yy zz xy …
        same(last[real, 9:18] / -1.6021765e6, of_lammps, 1e-9)
        flux = np.einsum("iab,ia->b", virial.reshape(-1, 3, 3), moving[real, 1:4])
        flux += moving[:, 4] @ moving[:, 1:4] + energy[:, 0] @ moving[real, 1:4]
        found = np.array([run.thermo()[f"c_j[{k}]"][-1] for k in (1, 2, 3)])
        same(found, flux, 1e-8)
        assert "is not unique" not in run.text
    edges = lammps(block(path(name), steps=1)).dump("a.dump")[-1]
    assert np.abs(edges[:, 9:18] - last[:, 9:18]).max() > 1e-5 * np.abs(edges[:, 9:18]).max()


@pytest.mark.parametrize("messages", ["layer", "halo"])
@pytest.mark.parametrize("way", ["tiles", "grid"])
def test_domains_that_change(way, messages, lammps, path):
    """Tiles of atoms in the place of a grid, and domains that are balanced during the run."""
    # LAMMPS wants a box beyond the reach of ghosts for tiles, and says so.
    more = "replicate 1 2 2\nneigh_modify every 5 delay 0 check no\n"
    more += "region r block INF 3.0 INF 4.0 INF 4.0\ndelete_atoms region r compress no\n"

    def text(**given):
        # Some IDs are missing, and LAMMPS wants all of them where it draws velocities.
        own = "variable v atom 5.0*sin(7.0*id)\nvelocity all set v_v v_v NULL"
        return block(path("dpa3"), steps=10, **given).replace("velocity all create 600.0 5", own)

    one = lammps(text(after=more, dump="one.dump"))
    balance = {
        "tiles": "comm_style tiled\nbalance 1.0 rcb\nfix b all balance 5 1.0 rcb\n",
        "grid": "fix b all balance 5 1.0 shift x 10 1.0\n",
    }
    given = text(messages=messages, after=more + balance[way])
    run = lammps(given.replace("custom step", "custom step f_b[3]"), ranks=2)
    assert run.thermo()["f_b[3]"][-1] > 1.0  # what was balanced last
    same_runs(run, one)


@pytest.mark.parametrize("messages", ["layer", "halo"])
def test_beside_another_style(messages, lammps, path):
    """A wide exchange under hybrid/overlay, in the buffers that LAMMPS has for the other style."""
    style = "pair_style hybrid/overlay zero 3.0 deepmd"
    one = lammps(block(path("wide"), dump="one.dump"))
    text = block(path("wide"), messages=messages).replace("pair_style deepmd", style)
    text = text.replace("* * O H NULL", "* * deepmd O H NULL\npair_coeff * * zero")
    same_runs(lammps(text, ranks=2), one)


def test_what_a_halo_cannot_do(lammps, path):
    """Pairs that LAMMPS leaves out, and ghosts that depend on the type; an exchange takes both."""
    exclude = "neigh_modify exclude type 1 2\n"
    mode = "neighbor 0.5 multi\ncomm_modify mode multi\n"
    for after, says in ((exclude, "neigh_modify exclude"), (mode, "comm_modify mode single")):
        given = {"after": after, "steps": 1}
        run = lammps(block(path("dpa3"), messages="halo", **given), ranks=2, fails=True)
        assert says in run.error
        one = lammps(block(path("dpa3"), dump="one.dump", **given))
        same_runs(lammps(block(path("dpa3"), **given), ranks=2), one)


def test_refused(lammps, path):
    """An exchange for the heat flux, which needs the neighbors of ghosts."""
    text = block(path("dpa3"), steps=1, messages="layer atom_virial unfolded")
    assert "needs messages halo" in lammps(text, fails=True).error


def ranks_of(folder):
    """Processes that run LAMMPS in a folder: their IDs."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            here = Path(process / "cwd").resolve() == folder.resolve()
            program = (process / "cmdline").read_bytes().split(b"\0")[0]
        except OSError:  # it has ended meanwhile
            continue
        if here and program.endswith(b"lammps/lmp"):
            found.append(int(process.name))
    return found


@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="processes are found in /proc")
@pytest.mark.parametrize("messages", ["layer", "halo"])
def test_rank_that_is_killed(messages, started, path, tmp_path):
    """The others, which wait for its atoms, end with it, and mpirun says so by its status."""
    text = block(path("dpa3"), messages=messages, steps=10_000_000)
    job = started(text.replace("thermo 10000000", "thermo 1\nthermo_modify flush yes"), 2)
    log, begun = tmp_path / "lammps.log", time.monotonic()
    try:
        while not (log.exists() and re.search(r"^ +1 ", log.read_text(), re.M)):
            assert job.poll() is None and time.monotonic() < begun + 300.0
            time.sleep(0.1)
        ranks = ranks_of(tmp_path)
        assert len(ranks) == 2
        os.kill(ranks[1], signal.SIGKILL)
        assert job.wait(timeout=300) != 0
        while ranks_of(tmp_path):  # until the system has taken them away
            assert time.monotonic() < begun + 300.0
            time.sleep(0.1)
    finally:
        for rank in ranks_of(tmp_path):
            os.kill(rank, signal.SIGKILL)
        job.kill()
        job.wait()
