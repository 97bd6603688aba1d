# SPDX-License-Identifier: LGPL-3.0-or-later
"""What pair_style deepspin does beside the forces of the stored run."""

import re

import numpy as np
import pytest
from conftest import REFERENCE

from deepmd.base.native import library
from deepmd.infer import DeepPot

START = """
clear
units metal
{before}
atom_style spin
atom_modify map yes
neighbor {skin} bin
box tilt large
read_data nio.data
"""
END = """
compute sp all property/atom sp spx spy spz fmx fmy fmz
compute pea all pe/atom
compute vir all centroid/stress/atom NULL virial
thermo_style custom step pe pxx pyy pzz pxy pxz pyz
thermo_modify line one format float %.15g
dump 1 all custom 1 {dump} id x y z fx fy fz c_sp[*] c_pea c_vir[*]
dump_modify 1 sort id format float %.15g
{more}
"""


def block(*models, dump="a.dump", before="", skin=1.0, keywords="", after="", more="run 0"):
    """Return the commands of one run."""
    style = f"pair_style deepspin {' '.join(models)} {keywords}\npair_coeff * * Ni O\n"
    text = START.format(before=before, skin=skin) + style + after
    return text + END.format(dump=dump, more=more)


def same(a, b, tolerance=1e-11):
    assert np.abs(a - b).max() <= tolerance * np.abs(b).max()


def same_dumps(a, b):
    for columns in (slice(4, 7), slice(11, 14), slice(14, 15), slice(15, 24)):
        same(a[..., columns], b[..., columns])


def test_ranks_newton_and_skin(lammps, model):
    """Ranks and Newton's third law do not matter; without a skin the list reaches far enough."""
    path = model("nio_spin")
    text = block(path, dump="a.dump") + block(path, dump="b.dump", before="newton off")
    text += block(path, dump="c.dump", skin=0.0)
    one, two = lammps(text), lammps(text, ranks=2)
    first = one.dump("a.dump")
    assert np.abs(first[..., 11:14]).max() > 1.0
    for run in (one, two):
        for k, name in enumerate(("a.dump", "b.dump", "c.dump")):
            same_dumps(run.dump(name), first)
            same(run.thermo(k)["PotEng"], one.thermo()["PotEng"])
            same(run.thermo(k)["Pxy"], one.thermo()["Pxy"])


def test_derivatives(lammps, model):
    """Forces on spins and the pressure are derivatives of the energy."""
    path, h = model("nio_spin"), 1e-4
    length, theta = 1.2737, 0.7
    step = (np.sin(theta + h), np.cos(theta + h), np.sin(theta - h), np.cos(theta - h))
    middle = f"set atom 3 spin/atom {length} {np.sin(theta)} {np.cos(theta)} 0.0\n"
    runs = [block(path, after=middle)]
    for k in (0, 2):
        runs.append(block(path, after=f"set atom 3 spin/atom {length} {step[k]} {step[k + 1]} 0\n"))
    strained = "change_box all z scale {} remap\n"
    for scale in (1 + h, 1 - h):
        runs.append(block(path, after=middle + strained.format(scale)))
    run = lammps("".join(runs).replace("format float %.15g", "format float %.17g"))
    energies = [run.thermo(k)["PotEng"][0] for k in range(5)]
    volume = float(np.prod([10.2461410116, 5.6688967603, 5.0501779252]))
    slope = -(energies[3] - energies[4]) / (2 * h) / volume * 1.6021765e6
    assert run.thermo()["Pzz"][0] == pytest.approx(slope, rel=1e-5)
    # The dump is that of the last run: ask for the torque of the first one alone.
    only = lammps(block(path, after=middle))
    fm = only.dump("a.dump")[0][2, 11:14]
    torque = 6.5821191e-4 * (fm[0] * np.cos(theta) - fm[1] * np.sin(theta))
    assert torque == pytest.approx(-(energies[1] - energies[2]) / (2 * h), rel=1e-5)


def test_minimum(lammps, model):
    """LAMMPS turns spins to lower the energy."""
    more = "min_style spin\nmin_modify alpha_damp 1.0 discrete_factor 10.0\nminimize 0 0 50 100"
    energy = lammps(block(model("nio_spin"), more=more + "\n")).thermo()["PotEng"]
    assert energy[-1] < energy[0] - 1e-6


def test_deviation(lammps, model, reference):
    """Columns of forces on atoms and on spins; equal models do not differ."""
    ours, theirs = model("nio_spin"), str(reference / "lammps/nio_spin.pth")
    run = lammps(block(ours, theirs, keywords="out_file d.out out_freq 1 atomic"), ranks=2)
    header, row = (run.folder / "d.out").read_text().splitlines()
    names = [f"{how}_devi_{what}" for what in ("v", "fr", "fm") for how in ("max", "min", "avg")]
    assert header.split() == ["#", "step", *names, "atm_devi_f(N)"]
    assert re.match(r" {11}0( {7,8}-?\d\.\d{6}e[+-]\d\d)+$", row)
    values = np.array(row.split(), dtype=float)
    assert len(values) == 1 + 9 + 32
    assert np.abs(values).max() < 1e-10


def same_as_python(run, path, tolerance, frame=0):
    """Energy, forces and forces on spins of a frame are those of Python."""
    dump = run.dump("a.dump")[frame]
    cell = [10.2461410116, 0, 0, 8.5348426486, 5.6688967603, 0]
    cell += [8.5348976887, 2.5754540013, 5.0501779252]
    atoms = (run.folder / "nio.data").read_text().split("# spin\n\n")[1]
    types = np.array([int(line.split()[1]) - 1 for line in atoms.splitlines()[:32]])
    spin = dump[:, 7:8] * dump[:, 8:11]
    energy, force, _, mag, *_ = DeepPot(path).eval(
        dump[:, 1:4].reshape(1, -1), np.array([cell]), types, spin=spin.reshape(1, -1)
    )
    same(run.thermo()["PotEng"][frame : frame + 1 or None], energy.ravel(), 1e-10)
    same(dump[:, 4:7], force[0], tolerance)
    # LAMMPS has eight digits of hbar.
    same(dump[:, 11:14] * 6.5821191e-4, mag[0] * dump[:, 7:8], 1e-8)


def test_messages_among_spins(lammps, converted):
    """A model that passes messages, as Python evaluates it, on one rank and on two."""
    path = converted(REFERENCE / "models/spin_dpa3.dp", ".pth")
    run = lammps(block(str(path)))
    dump = run.dump("a.dump")[0]
    text = block(str(path), dump="b.dump")
    text += block(str(path), dump="c.dump", before="newton off", more="run 0")
    text += block(str(path), dump="d.dump", keywords="messages halo")
    two = lammps(text, ranks=2)
    assert two.text.count("bytes of ghosts in all") == 2
    for k, name in enumerate(("b.dump", "c.dump", "d.dump")):
        same_dumps(two.dump(name)[0], dump)
        for column, value in run.thermo().items():
            same(two.thermo(k)[column], value)
    same_as_python(run, path, 1e-8)


@pytest.fixture(scope="module")
def passing(converted, tmp_path_factory, random_model):
    """Files of models with spins that pass messages."""
    repinit = {"rcut": 3.5, "rcut_smth": 1.0, "nsel": 60, "neuron": [4, 8], "axis_neuron": 4}
    sizes = {"g1_dim": 8, "g2_dim": 4, "attn1_hidden": 4, "attn2_hidden": 4}
    repformer = {"rcut": 2.8, "rcut_smth": 1.0, "nsel": 40, "nlayers": 2, **sizes}
    dpa2 = {"type": "dpa2", "repinit": repinit, "repformer": repformer}
    spin = {"use_spin": [True, False], "virtual_scale": [0.3140]}
    made = {
        "dpa2": lambda: random_model(
            tmp_path_factory.mktemp("spin") / "dpa2.pth",
            fitting={},
            sel=[],
            descriptor=dpa2,
            model={"type_map": ["Ni", "O"], "spin": spin},
        ),
        "dpa3": lambda: str(converted(REFERENCE / "models/spin_dpa3.dp", ".pth")),
    }
    return lambda name: made[name]()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["dpa2", "dpa3"])
def test_four_ranks(name, lammps, passing):
    """Atoms move for 100 steps in domains that are narrower than the ghosts reach."""
    path = passing(name)
    more = "velocity all create 300.0 5\nfix 1 all nve\ntimestep 0.0005\nthermo 100\nrun 100\n"

    def text(keywords=""):
        return block(path, keywords=keywords, more=more).replace("custom 1 ", "custom 100 ")

    one = lammps(text())
    dump = one.dump("a.dump")
    assert len(dump) == 2 and np.abs(dump[1][:, 1:4] - dump[0][:, 1:4]).max() > 0.05
    for messages, says in (("layer", "bytes of ghosts in all"), ("halo", "ghosts are kept up to")):
        four = lammps(text(f"messages {messages}"), ranks=4)
        assert says in four.text
        moved = four.dump("a.dump")
        columns = [slice(1, 4), slice(4, 7), slice(11, 14), slice(14, 15), slice(15, 24)]
        for part in columns:
            same(moved[..., part], dump[..., part], 1e-10)
        for column, value in one.thermo().items():
            same(four.thermo()[column], value, 1e-10)
        same_as_python(four, path, 1e-8, frame=1)


def test_rank_that_fails_while_others_exchange(lammps, converted):
    """The line of the rank whose spin has grown ends the others, which wait for its messages."""
    path = converted(REFERENCE / "models/spin_dpa3.dp", ".pth")
    longer = "set atom 3 spin/atom 9.0 0.0 0.0 1.0\nrun 1 pre no post no"
    run = lammps(block(str(path), more="fix 1 all nve\nrun 0\n" + longer), ranks=2, fails=True)
    assert "a spin has become longer" in run.error


@pytest.mark.parametrize("suffix", ["pb", pytest.param("savedmodeltf", marks=pytest.mark.slow)])
def test_programs_by_edges(lammps, converted, suffix):
    """Files of TensorFlow, whose programs know atoms and partners, on one and two ranks."""
    if library("deepmd_backend_tensorflow") is None:
        pytest.skip("libdeepmd_backend_tensorflow is not built")
    source = REFERENCE / "lammps/nio_spin.dp"
    path = str(converted(source, f".{suffix}"))
    one, two = lammps(block(path)), lammps(block(path), ranks=2)
    same_as_python(one, source, 1e-10)
    same_dumps(two.dump("a.dump"), one.dump("a.dump"))
    same(two.thermo()["PotEng"], one.thermo()["PotEng"])
