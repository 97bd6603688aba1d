# SPDX-License-Identifier: LGPL-3.0-or-later
"""LAMMPS runs the files of a backend library that somebody else built, and that is on the path."""

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

import deepmd
from deepmd.dpmodel.batch import Batch
from deepmd.dpmodel.neighbors import batch_edges

RCUT = 4.0
EDGE = 9.0
INPUT = """
units metal
atom_modify map yes
region b block 0 9 0 9 0 9
create_box 2 b
{atoms}
mass * 1.0
pair_style deepmd {model}
pair_coeff * *
thermo_style custom step pe
thermo_modify format float %.17g
dump 1 all custom 1 forces.dump id fx fy fz
dump_modify 1 format float %.15e sort id
run 0
"""


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The library, built with the installed header, in a folder that is searched."""
    compiler, include = shutil.which("cc"), Path(deepmd.__path__[0]) / "include"
    if compiler is None or not (include / "deepmd" / "backend.h").is_file():
        pytest.skip("no C compiler, or the headers were not installed")
    folder = tmp_path / "libraries"
    folder.mkdir()
    target = folder / "libdeepmd_backend_third.so"
    source = Path(__file__).with_name("third_backend.c")
    command = [compiler, "-std=c11", "-O1", "-shared", "-fPIC", f"-I{include}", str(source)]
    subprocess.run([*command, "-o", str(target)], check=True)
    monkeypatch.setenv("DP_BACKEND_PLUGIN_PATH", str(folder))


def system() -> tuple[np.ndarray, np.ndarray, str]:
    """Positions, types, and the lines of LAMMPS that make them."""
    grid = np.stack(np.meshgrid(*[[1.0, 4.0, 7.0]] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    coord = grid + np.random.default_rng(0).uniform(-0.6, 0.6, grid.shape)
    types = np.arange(len(coord)) % 2
    lines = [
        f"create_atoms {t + 1} single {x:.17g} {y:.17g} {z:.17g}"
        for t, (x, y, z) in zip(types, coord, strict=True)
    ]
    return coord, types, "\n".join(lines)


def reference(coord: np.ndarray, types: np.ndarray) -> tuple[float, np.ndarray]:
    """Energy, and forces on atoms."""
    batch = Batch.from_arrays(coord[None], EDGE * np.eye(3)[None], types)
    edges = batch.edges = batch_edges(batch, RCUT)
    vec = batch.vectors()
    x = 1.0 - (vec**2).sum(axis=1) / RCUT**2
    strength = 1.0 + 0.3 * (types[edges.i] + types[edges.j])
    slope = -6.0 * (strength * x * x)[:, None] * vec / RCUT**2  # of both edges of the pair
    force = np.zeros_like(coord)
    np.add.at(force, edges.i, slope)
    return float(0.5 * (strength * x**3).sum()), force


@pytest.mark.parametrize("ranks", [1, 2])
def test_energy_and_forces(library, lammps, tmp_path: Path, ranks: int):
    (tmp_path / "model.third").write_text(f"{RCUT}\n")
    coord, types, atoms = system()
    energy, force = reference(coord, types)
    run = lammps(INPUT.format(atoms=atoms, model="model.third"), ranks=ranks)
    np.testing.assert_allclose(run.thermo()["PotEng"][0], energy, rtol=1e-13)
    np.testing.assert_allclose(run.dump("forces.dump")[0][:, 1:], force, rtol=0, atol=1e-12)


def test_its_errors_are_shown(library, lammps, tmp_path: Path):
    (tmp_path / "model.third").write_text("none\n")
    text = INPUT.format(atoms=system()[2], model="model.third")
    run = lammps(text, fails=True)
    assert "model.third: there is no cutoff in the file; write one" in run.error
