# SPDX-License-Identifier: LGPL-3.0-or-later
"""A backend that somebody else built: a library on the path, chosen by the suffix of the file."""

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

SOURCE = Path(__file__).resolve().parents[2] / "source"
BOX = 8.0
COMMANDS = f"""
units metal
atom_modify map yes
neighbor 1.0 bin
region b block 0 {BOX} 0 {BOX} 0 {BOX}
create_box 2 b
{{atoms}}
mass * 1.0
pair_style deepmd model.short
pair_coeff * * T0 T1
thermo_style custom step pe
thermo_modify norm no format float %.15g
dump 1 all custom 1 a.dump id fx fy fz
dump_modify 1 sort id format float %.15g
run 0
"""


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Folder with the library of a backend in C, on the path where backends are looked for."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("there is no C compiler")
    folder = tmp_path / "package"
    folder.mkdir()
    code = SOURCE / "tests/fake_backend/short_backend.c"
    target = folder / "libdeepmd_backend_short.so"
    command = [compiler, "-shared", "-fPIC", "-I", SOURCE, code, "-o", target]
    subprocess.run([str(word) for word in command], check=True)
    monkeypatch.setenv("DP_BACKEND_PLUGIN_PATH", str(folder))


def expected(coord, atype):
    """Energy and forces of the backend in C, whose file says what they are."""
    d = coord[None] - coord[:, None]
    d -= BOX * np.round(d / BOX)
    r2 = (d * d).sum(-1)
    c = np.where((r2 > 0) & (r2 <= 16), 1 + 0.3 * (atype[:, None] + atype), 0.0)
    x = 1 - r2 / 16
    force = 2 * (-3.0 * c * x * x / 16)[..., None] * d
    return 0.5 * (c * x**3).sum(), force.sum(1)


def test_a_suffix_of_its_own(lammps, package, tmp_path):
    """LAMMPS evaluates its files, on one and two ranks; nothing else was told anywhere."""
    rng = np.random.default_rng(3)
    grid = np.stack(np.meshgrid(*[np.arange(3)] * 3, indexing="ij"), -1).reshape(-1, 3)
    coord, atype = 2.6 * grid + 0.5 * rng.random((27, 3)), np.arange(27) % 2
    (tmp_path / "model.short").write_text("anything")
    atoms = "\n".join(
        f"create_atoms {t + 1} single {x:.17g} {y:.17g} {z:.17g}"
        for t, (x, y, z) in zip(atype, coord, strict=True)
    )
    energy, force = expected(coord, atype)
    for ranks in (1, 2):
        run = lammps(COMMANDS.format(atoms=atoms), ranks=ranks)
        np.testing.assert_allclose(run.thermo()["PotEng"], [energy], rtol=1e-12)
        np.testing.assert_allclose(run.dump("a.dump")[0][:, 1:], force, atol=1e-11)
