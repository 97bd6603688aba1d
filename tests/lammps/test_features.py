# SPDX-License-Identifier: LGPL-3.0-or-later
"""What pair_style deepmd does beside energies and forces of one model in one box."""

import numpy as np
import pytest

START = """
units metal
{before}
atom_style atomic
atom_modify map yes
neighbor 1.0 bin
read_data water.data {read}
"""
END = """
compute pea all pe/atom
compute vir all centroid/stress/atom NULL virial
thermo_style custom step pe press pxx pyy pzz pxy pxz pyz
thermo_modify line one format float %.15g
dump 1 all custom 1 {dump} id type x y z fx fy fz c_pea c_vir[*]
dump_modify 1 sort id format float %.15g
run {steps}
"""


def block(pair, *, dump="a.dump", before="", read="", after="", steps=0):
    """Return the commands of one run; ``clear`` goes between two of them."""
    return (
        START.format(before=before, read=read)
        + pair
        + "\n"
        + after
        + END.format(dump=dump, steps=steps)
    )


def pair(*models, more=""):
    return f"pair_style deepmd {' '.join(models)} {more}\npair_coeff * * O H"


def same(a, b, tolerance=1e-12):
    assert np.abs(a - b).max() <= tolerance * np.abs(b).max()


def same_runs(run, first=0, second=1, dumps=("a.dump", "b.dump")):
    a, b = run.thermo(first), run.thermo(second)
    for name in a:
        same(a[name], b[name])
    a, b = (run.dump(d) for d in dumps)
    for columns in (slice(2, 5), slice(5, 8), slice(8, 9), slice(9, 18)):
        same(a[..., columns], b[..., columns])


@pytest.mark.parametrize("ranks", [1, 2])
def test_newton(ranks, lammps, model):
    """Without Newton's third law across ranks the numbers are the same."""
    style = pair(model("water_se_e2_a"))
    text = block(style, dump="a.dump", before="newton on")
    text += "clear\n" + block(style, dump="b.dump", before="newton off")
    same_runs(lammps(text, ranks=ranks))


def test_hybrid(lammps, model):
    """hybrid/overlay with another style, atoms the model does not know, scale and units."""
    path = model("water_se_e2_a")
    over = (
        f"pair_style hybrid/overlay deepmd {path} zero 5.0\n"
        "pair_coeff * * zero\npair_coeff * * deepmd O H"
    )
    text = block(pair(path), dump="a.dump")
    text += "clear\n" + block(over, dump="b.dump")
    # A strange atom in the middle of the others.
    strange = "mass 3 4.0\ncreate_atoms 3 single 5.1 5.2 5.3\n"
    text += "clear\n" + block(
        strange + over + " NULL", dump="strange.dump", read="extra/atom/types 1"
    )
    half = "fix half all adapt 0 pair deepmd scale * * v_half\nvariable half equal 0.5\n"
    text += "clear\n" + block(pair(path), dump="half.dump", after=half)
    text += "clear\n" + block(pair(path), dump="real.dump").replace("units metal", "units real")
    run = lammps(text)
    same_runs(run)
    full, others = run.dump("a.dump")[0], run.dump("strange.dump")[0]
    same(others[:-1, 5:], full[:, 5:])
    assert np.all(others[-1, 5:] == 0.0)
    halved, scaled = run.thermo(3), run.thermo(0)
    for name in ("PotEng", "Press", "Pxy"):
        same(2.0 * halved[name], scaled[name])
    same(2.0 * run.dump("half.dump")[0][:, 5:], full[:, 5:])
    kcal = 0.0019872067 / 8.617343e-5  # Boltzmann's constants of LAMMPS
    same(run.thermo(4)["PotEng"], kcal * scaled["PotEng"])
    same(run.dump("real.dump")[0][:, 5:9], kcal * full[:, 5:9])


def test_empty_rank(lammps, model):
    """A rank may have no atoms."""
    half = "region r block 6.2 INF INF INF INF INF\ndelete_atoms region r compress no\n"
    style = pair(model("water_se_e2_a"))
    text = block(half + style, before="processors * 1 1")
    one = lammps(text)
    dump = one.dump("a.dump")
    two = lammps(text, ranks=2)
    assert "2 by 1 by 1 MPI processor grid" in two.text
    same(two.dump("a.dump")[..., 5:], dump[..., 5:])
    same(two.thermo()["PotEng"], one.thermo()["PotEng"])


def test_deviation(lammps, model):
    """The file is the same on one rank and two, and a restart continues it."""
    style = pair(
        model("water_se_e2_a"), model("water_se_e2_a_2"), more="out_freq 2 out_file d.out atomic"
    )
    nve = "velocity all create 300 1\nfix 1 all nve\ntimestep 0.0005\n"
    text = block(style, after=nve, steps=4) + "write_restart half.restart\n"
    one = lammps(text)
    rows = (one.folder / "d.out").read_text()
    assert [line.split()[0] for line in rows.splitlines()[1:]] == ["0", "2", "4"]
    two = lammps(text, ranks=2)
    table, other = (
        np.array([line.split() for line in t.splitlines()[1:]], dtype=float)
        for t in (rows, (two.folder / "d.out").read_text())
    )
    np.testing.assert_allclose(other, table, rtol=2e-6)
    assert table.shape[1] == 1 + 6 + 192
    again = f"read_restart half.restart\n{style}\n{nve.splitlines()[1]}\ntimestep 0.0005\nrun 2\n"
    run = lammps(again)
    steps = [line.split()[0] for line in (run.folder / "d.out").read_text().splitlines()[1:]]
    assert steps == ["0", "2", "4", "4", "6"]


def test_restart_needs_the_models_again(lammps, model):
    style = pair(model("water_se_e2_a"))
    lammps(block(style) + "write_restart a.restart\n")
    run = lammps("read_restart a.restart\nrun 0\n", fails=True)
    assert "restart files do not hold models" in run.error


def test_sources_of_parameters(lammps, model):
    """Numbers, computes and fixes give the same parameters."""
    path = model("water_fparam_aparam")
    sources = """
variable one atom 0.3/192
variable two atom -0.7/192
compute fp all reduce sum v_one v_two
variable a equal 0.3
variable b equal -0.7
fix fp all ave/time 1 1 1 v_a v_b
fix ap all property/atom d_ap ghost yes
set atom * d_ap 0.25
compute ap all property/atom d_ap
"""
    text = block(pair(path, more="fparam 0.3 -0.7 aparam 0.25"), dump="a.dump")
    text += "clear\n" + block(
        sources + pair(path, more="fparam_from_compute fp aparam_from_compute ap"), dump="b.dump"
    )
    # The fix knows its values after the first run only.
    text += "clear\n" + block(
        sources + pair(path, more="fparam_from_fix fp 1 aparam_from_compute ap"), dump="c.dump"
    )
    text += "run 0\n"
    run = lammps(text)
    same_runs(run)
    same(run.thermo(3)["PotEng"], run.thermo(0)["PotEng"])
    assert abs(run.thermo(2)["PotEng"] - run.thermo(0)["PotEng"])[0] > 1e-6


@pytest.mark.parametrize("ranks", [1, 2])
def test_electron_temperatures(ranks, lammps, model, tmp_path):
    """Of a fix ttm every atom takes the temperature of its cell."""
    cells = [(x, y, z) for x in range(2) for y in range(3) for z in range(4)]
    rows = [f"{x + 1} {y + 1} {z + 1} {0.1 + x + 0.3 * y + 0.07 * z}" for x, y, z in cells]
    (tmp_path / "electrons").write_text("# temperatures UNITS: metal\n" + "\n".join(rows) + "\n")
    electrons = "fix t all ttm 7 1.0 1.0 0.0 1e-40 0.0 1.0 2 3 4 infile electrons\n"
    by_hand = """
fix ap all property/atom d_ap ghost yes
variable t atom 0.1+floor(2*x/lx)+0.3*floor(3*y/ly)+0.07*floor(4*z/lz)
set atom * d_ap v_t
compute ap all property/atom d_ap
"""
    style = pair(model("water_fparam_aparam"), more="fparam 0.3 -0.7 {}")
    text = block(electrons + style.format("ttm t"), dump="a.dump")
    text += "clear\n" + block(by_hand + style.format("aparam_from_compute ap"), dump="b.dump")
    run = lammps(text, ranks=ranks)
    same_runs(run)
    assert np.ptp(run.dump("a.dump")[0][:64, 8]) > 1e-3


def test_messages_on_two_ranks(lammps, reference):
    """Of files of DeePMD-kit, models that pass messages refuse several ranks, and say what to do."""
    run = lammps(block(pair(str(reference / "lammps/water_dpa2.pth"))), ranks=2, fails=True)
    assert "weighted sums" in run.error and "dp convert-backend" in run.error


def test_engines(lammps, model):
    """The native engine and the framework of the file give the same; the log names them."""
    path = model("water_se_e2_a")
    text = block(pair(path, more="engine native"), dump="a.dump")
    text += "clear\n" + block(pair(path, more="engine framework"), dump="b.dump")
    run = lammps(text)
    same_runs(run)
    assert f"{path}: native (" in run.text and f"{path}: PyTorch " in run.text
    run = lammps(pair("none.pth", more="engine fast"), fails=True)
    assert "engine" in run.text
