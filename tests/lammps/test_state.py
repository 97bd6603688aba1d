# SPDX-License-Identifier: LGPL-3.0-or-later
"""What LAMMPS keeps or sets from outside: restarts, fix adapt, and the file of the deviation."""

import numpy as np
import pytest

START = """
units metal
atom_style atomic
atom_modify map yes
region b block 0 8 0 8 0 8
create_box 2 b
lattice sc 2.5
create_atoms 1 box basis 1 1
set group all type/ratio 2 0.6 11
mass 1 16
mass 2 1
"""
NVE = """
velocity all create 50 7
fix 1 all nve
timestep 0.0001
"""


@pytest.fixture(scope="module")
def paths(tmp_path_factory, random_model):
    folder = tmp_path_factory.mktemp("state")
    return [random_model(folder / f"{k}.pth", fitting={}, sel=[20, 40], seed=k) for k in (1, 5)]


def plain(paths, keywords=""):
    return f"pair_style deepmd {' '.join(paths)} {keywords}\npair_coeff * * O H\n"


def hybrid(paths, keywords=""):
    style = f"pair_style hybrid/overlay deepmd {' '.join(paths)} {keywords} zero 4.0\n"
    return style + "pair_coeff * * deepmd O H\npair_coeff * * zero\n"


def steps(path):
    return [line.split()[0] for line in path.read_text().splitlines()]


@pytest.mark.parametrize("first", [plain, hybrid])
@pytest.mark.parametrize("second", [plain, hybrid])
def test_deviation_after_restart(lammps, paths, first, second):
    """The file is continued after read_restart, whatever style the restart file names."""
    keywords = "out_freq 1 out_file d.out"
    text = START + first(paths, keywords) + NVE + "run 2\nwrite_restart r\nclear\n"
    text += "read_restart r\n" + second(paths, keywords) + NVE + "run 2\n"
    run = lammps(text)
    assert steps(run.folder / "d.out") == ["#", "0", "1", "2", "2", "3", "4"]
    # Without read_restart the file is written anew; also where a restart was read before "clear".
    text += "clear\n" + START + second(paths, keywords) + NVE + "run 1\n"
    assert steps(lammps(text).folder / "d.out") == ["#", "0", "1"]


def test_header_after_restart(lammps, paths):
    """A file that is not there when a run continues begins with its header."""
    text = START + plain(paths, "out_freq 1 out_file a.out") + "run 0\nwrite_restart r\nclear\n"
    run = lammps(text + "read_restart r\n" + plain(paths, "out_freq 1 out_file b.out") + "run 0\n")
    assert steps(run.folder / "b.out") == ["#", "0"]


def scaled(path, which, style=plain):
    adapt = f"variable half equal 0.5\nfix a all adapt 0 pair deepmd scale {which} v_half\n"
    more = "thermo_style custom step pe\nthermo_modify norm no format float %.15g\nrun 0\n"
    return START + style([path]) + (adapt if which else "") + more


def test_scale(lammps, messages, paths):
    """Factors of all pairs of types are one factor; factors that differ are an error."""
    path = paths[0]
    one_by_one = "1 * v_half\nfix b all adapt 0 pair deepmd scale 2 2"
    cases = ["", "* *", "1*2 1*2", one_by_one]
    text = "clear\n".join(scaled(path, which) for which in cases)
    text += "clear\n" + scaled(path, "* *", hybrid)
    # Pairs with a type that is not the model's have no say.
    text += "clear\n" + scaled(path, "").replace("* * O H", "* * O NULL")
    text += "clear\n" + scaled(path, "1 1").replace("* * O H", "* * O NULL")
    run = lammps(text)
    full, *halves, alone, half = [run.thermo(k)["PotEng"][0] for k in range(len(cases) + 3)]
    np.testing.assert_allclose(halves, full / 2, rtol=1e-12)
    assert half == pytest.approx(alone / 2, rel=1e-12)
    wrong = [scaled(path, which).splitlines() for which in ("1 1", "2 2", "1 2")]
    assert all("scale differs between pairs of types" in m for m in messages(wrong))


def test_full_disk(lammps, paths):
    """Rows that do not arrive end the run with an error that names the file, on all ranks."""
    for ranks in (1, 2):
        text = START + plain(paths, "out_freq 1 out_file /dev/full") + "run 0\n"
        run = lammps(text, ranks=ranks, fails=True)
        assert "out_file: cannot write /dev/full: No space left on device" in run.error
    text = START + plain(paths, "out_freq 1 out_file no/d.out") + "run 0\n"
    assert "cannot open no/d.out: No such file or directory" in lammps(text, fails=True).error
    text = START + plain(paths, "out_freq 1 out_file /proc/version") + "run 0\n"
    assert "out_file: cannot" in lammps(text, fails=True).error


def test_virials_of_messages(lammps, tmp_path, random_model):
    """Of a model that passes messages, virials of atoms come with a line that says so, once."""
    repinit = {"rcut": 4.0, "rcut_smth": 1.0, "nsel": 30, "neuron": [4, 8], "axis_neuron": 4}
    repformer = {"rcut": 3.0, "rcut_smth": 1.0, "nsel": 20, "nlayers": 2, "g1_dim": 8, "g2_dim": 4}
    dpa2 = {"type": "dpa2", "repinit": repinit, "repformer": repformer}
    messages = random_model(tmp_path / "dpa2.pth", fitting={}, sel=[], descriptor=dpa2)
    local = random_model(tmp_path / "local.pth", fitting={}, sel=[20, 40])
    virial = "compute v all centroid/stress/atom NULL virial\ndump 1 all custom 1 d.dump c_v[*]\n"
    for path, after, count in ((messages, virial, 1), (messages, "", 0), (local, virial, 0)):
        run = lammps(START + plain([path]) + after + NVE + "run 3\nrun 3\n")
        assert run.text.count("the virial of an atom is not unique") == count
