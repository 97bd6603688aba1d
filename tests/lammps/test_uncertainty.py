# SPDX-License-Identifier: LGPL-3.0-or-later
"""Standard deviations in LAMMPS: of atoms and of the system, and what stops a run or chooses frames."""

import re
from pathlib import Path

import numpy as np
import pytest
from uncertain import add_uncertainty

from deepmd.dpmodel.uncertainty import SECTION
from deepmd.infer import DeepPot
from deepmd.infer.uncertainty import Estimator
from deepmd.io import load_model, save_model
from deepmd.runtime.operations import with_program

DOCS = Path(__file__).parents[2] / "docs/lammps.md"
TYPES = np.array([1, 2, 2] * 16)
BOX = 11.0


def write_data(path, seed=0):
    """Write 48 atoms near the places of a lattice; return the coordinates."""
    rng = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(*[np.arange(4)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    coord = (grid[:48] + 0.5) * BOX / 4 + rng.uniform(-0.5, 0.5, (48, 3))
    rows = [f"{k + 1} {t} {x!r} {y!r} {z!r}" for k, (t, (x, y, z)) in enumerate(
        zip(TYPES.tolist(), coord.tolist(), strict=True))]  # fmt: skip
    sides = "\n".join(f"0 {BOX} {a}lo {a}hi" for a in "xyz")
    path.write_text(
        f"water\n\n48 atoms\n2 atom types\n{sides}\n\nMasses\n\n1 16\n2 2\n\nAtoms\n\n"
        + "\n".join(rows)
        + "\n"
    )
    return coord


@pytest.fixture
def files(random_model, tmp_path):
    """A model with an uncertainty, and atoms, under the names of the documented example."""
    random_model(tmp_path / "random.pth", fitting={}, sel=[20, 40])
    save_model(tmp_path / "model_u.dp", add_uncertainty(load_model(tmp_path / "random.dp")))
    write_data(tmp_path / "water.data")
    return tmp_path


def estimate(path, frames):
    """Evaluate dumped frames (n_frames, n_atoms, columns), whose coordinates are columns 2 to 4."""
    types = (frames[0, :, 1] - 1).astype(int)
    potential = DeepPot(path, engine="framework")  # NumPy: nothing of the engine of LAMMPS
    return Estimator(potential, forces="atoms").evaluate(
        frames[:, :, 2:5], np.tile(np.diag([BOX] * 3), (len(frames), 1, 1)), types
    )


def same(found, want):
    np.testing.assert_allclose(found, want, rtol=1e-8)


RUN = """
units {units}
atom_style atomic
neighbor 1.0 bin
read_data water.data
pair_style {pair}
pair_coeff * * {names}
compute dp all pair deepmd
fix std all pair 1 deepmd energy_std 0 force_std 0
thermo_style custom step c_dp[2] c_dp[3] c_dp[4]
thermo_modify format float %.15g
dump 1 all custom 1 a.dump id type x y z f_std[1] f_std[2]
dump_modify 1 sort id format float %.15g
velocity all create 900 8
fix md all nve
thermo 1
run 2
"""


def text(pair="deepmd model_u.dp uncertainty", units="metal", names="O H"):
    return RUN.format(pair=pair, units=units, names=names)


@pytest.mark.parametrize("ranks", [1, 2])
def test_columns_equal_python(files, lammps, ranks):
    run = lammps(text(), ranks=ranks)
    frames = run.dump("a.dump")
    want = estimate(files / "model_u.dp", frames)
    same(frames[:, :, 5], want["atom_energy_std"][..., 0])
    same(frames[:, :, 6], want["force_std"][..., 0])
    columns = run.thermo()
    same(columns["c_dp[2]"], want["energy_std"][:, 0])
    same(columns["c_dp[3]"], want["force_std"].max(axis=(1, 2)))
    same(columns["c_dp[4]"], want["force_std"].mean(axis=(1, 2)))
    assert np.ptp(columns["c_dp[3]"]) > 0  # the atoms move


def test_units_and_atoms_that_are_ignored(files, lammps):
    """In kcal/mol; hydrogen atoms are none of the model, and count nowhere."""
    style = "deepmd model_u.dp uncertainty"
    frames = lammps(text(style, "real", "O NULL")).dump("a.dump")
    hydrogen = frames[0, :, 1] == 2
    assert (frames[:, hydrogen, 5:] == 0).all()
    run = lammps(text(style, "real", "O NULL"))
    want = estimate(files / "model_u.dp", frames[:, ~hydrogen])
    kcal = 23.060549
    np.testing.assert_allclose(frames[:, ~hydrogen, 6], kcal * want["force_std"][..., 0], rtol=1e-6)
    found = run.thermo()["c_dp[4]"]
    np.testing.assert_allclose(found, kcal * want["force_std"].mean(axis=(1, 2)), rtol=1e-6)
    found = run.thermo()["c_dp[2]"]
    np.testing.assert_allclose(found, kcal * want["energy_std"][:, 0], rtol=1e-6)


@pytest.mark.parametrize("ranks", [1, 2])
def test_documented_example(files, lammps, ranks):
    """It writes the frames above one threshold, and stops at the other."""
    [example] = re.findall(r"```text\n(units[^`]*?uncertainty.*?)```", DOCS.read_text(), re.S)
    example = example.replace("run             1000", "run 300")
    more = "\ndump all all custom 10 all.dump id type x y z f_std[2]"
    more += "\ndump_modify all sort id format float %.15g"
    every = example.replace("fix             md", more + "\nfix             md")
    hot = every.replace("fix             md", "velocity all create 3000 8\nfix             md")
    free = hot.replace("> 0.5", "> 1e9").replace("< 0.2", "< -1")
    frames = lammps(free, ranks=ranks).dump("all.dump")
    assert len(frames) == 31
    worst = frames[:, :, 5].max(axis=1)
    low, high = (np.sort(worst)[[9, 26]] + np.sort(worst)[[10, 27]]) / 2
    limited = hot.replace("> 0.5", f"> {high}").replace("< 0.2", f"< {low}")
    run = lammps(limited, ranks=ranks)
    seen, kept = run.dump("all.dump"), run.dump("unsure.dump")
    stop = int(np.argmax(worst[1:] > high)) + 1  # fix halt does not look at step 0
    assert len(seen) in (stop, stop + 1)
    worst = worst[: len(seen)]
    np.testing.assert_allclose(kept[:, :, :5], seen[worst >= low][:, :, :5], rtol=1e-5)
    assert 0 < len(kept) < len(seen)


def without(files, change):
    tree = load_model(files / "model_u.dp")
    change(tree)
    save_model(files / "other.dp", tree)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda tree: tree.pop(SECTION), "holds no uncertainty; fit it with dp uncertainty"),
        (lambda tree: tree[SECTION].pop("atoms"), "of an earlier release; fit it again"),
        (lambda tree: tree[SECTION].update(kind="committee"), "of a committee"),
    ],
)
def test_files_without(files, lammps, change, message):
    without(files, change)
    found = lammps(text("deepmd other.dp uncertainty"), fails=True).error
    assert message in found
    assert "other.dp" in found
    assert len(found.splitlines()[0]) < 300


def test_models_that_run_as_a_program(files, lammps, random_model):
    """The native engine does not give their last layer: one line."""
    section = {
        "type": "dpa2", "repinit": {"rcut": 4.0, "rcut_smth": 1.0, "nsel": 30, "neuron": [4, 8],
        "axis_neuron": 2, "tebd_dim": 4}, "repformer": {"rcut": 3.0, "rcut_smth": 1.0, "nsel": 20,
        "nlayers": 1, "g1_dim": 8, "g2_dim": 4, "attn2_hidden": 4, "attn2_nhead": 1,
        "attn1_hidden": 4, "attn1_nhead": 1, "axis_neuron": 2},
    }  # fmt: skip
    random_model(files / "dpa2.pth", fitting={}, sel=[], descriptor=section)
    tree = with_program(add_uncertainty(load_model(files / "dpa2.dp")))
    save_model(files / "other.dp", tree)
    found = lammps(text("deepmd other.dp uncertainty"), fails=True).error
    assert "whose last layer the native engine does not give" in found
