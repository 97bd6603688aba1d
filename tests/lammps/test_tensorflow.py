# SPDX-License-Identifier: LGPL-3.0-or-later
"""Models of TensorFlow beside those of PyTorch in one run, and crystals with a full ``sel``."""

import numpy as np
import pytest
from conftest import REFERENCE
from crystal import rock_salt
from golden.make_ours import OURS

from deepmd.base.native import library
from deepmd.infer import DeepPot, calc_model_devi

COMMANDS = """
units metal
atom_style atomic
atom_modify map yes
neighbor 1.0 bin
read_data crystal.data
pair_style deepmd {models} {more}
pair_coeff * * O H
{after}
compute pea all pe/atom
thermo_style custom step pe press
thermo_modify line one format float %.15g
dump 1 all custom 1 {dump} id type x y z fx fy fz c_pea
dump_modify 1 sort id format float %.15g
run {steps}
"""


def write_data(folder, coord, cell, atype):
    """Write a data file of an orthogonal cell."""
    edges = "".join(
        f"0 {length!r} {a}lo {a}hi\n"
        for length, a in zip(np.diag(cell).tolist(), "xyz", strict=True)
    )
    rows = "".join(
        f"{k + 1} {t + 1} {x!r} {y!r} {z!r}\n"
        for k, (t, (x, y, z)) in enumerate(zip(atype.tolist(), coord.tolist(), strict=True))
    )
    (folder / "crystal.data").write_text(
        f"rock salt\n\n{len(coord)} atoms\n2 atom types\n{edges}\nMasses\n\n1 16\n2 2\n\nAtoms\n\n{rows}"
    )


@pytest.fixture
def file(random_model, tmp_path):
    """Path without suffix of a small model whose ``sel`` cuts shells of rock salt."""
    random_model(tmp_path / "model.pth", fitting={}, sel=[7, 8])
    return tmp_path / "model"


@pytest.mark.parametrize("ranks", [1, 2])
def test_ties_in_a_crystal(ranks, lammps, file, tmp_path):
    """Of neighbors that are equally far LAMMPS and Python keep the same, on any number of ranks."""
    coord, cell, atype = rock_salt((3, 2, 2))
    write_data(tmp_path, coord, cell, atype)
    text = COMMANDS.format(models="model.pth", more="", after="", dump="a.dump", steps=0)
    dump = lammps(text, ranks=ranks).dump("a.dump")[0]
    out = DeepPot(str(file.with_suffix(".dp"))).eval(
        coord[None], cell.reshape(1, 9), atype, atomic=True
    )
    np.testing.assert_allclose(dump[:, 8], out[3].ravel(), rtol=1e-11)
    np.testing.assert_allclose(dump[:, 5:8], out[1][0], atol=1e-10)


needs_tensorflow = pytest.mark.skipif(
    library("deepmd_backend_tensorflow") is None, reason="the TensorFlow backend is not built"
)


@needs_tensorflow
@pytest.mark.parametrize(
    "ranks", [pytest.param(1, marks=pytest.mark.slow), 2]
)  # seconds of XLA each
def test_three_kinds_in_one_run(ranks, lammps, tmp_path, monkeypatch):
    """Forces of the first model, and the deviation of a .pb, a .pth and a .savedmodel."""
    # Programs of XLA that are compiled sooner, and run longer.
    monkeypatch.setenv("XLA_FLAGS", "--xla_backend_optimization_level=0")
    folder = OURS / "v2" / "models"
    models = [folder / name for name in ("se_e2_a.pb", "se_atten.pth", "se_e2_a.savedmodel")]
    neutral = [DeepPot(str(f.with_suffix(".dp"))) for f in models]
    coord, cell, atype = rock_salt((2, 2, 2))
    coord += np.random.default_rng(0).normal(scale=0.1, size=coord.shape)
    write_data(tmp_path, coord, cell, atype)
    text = COMMANDS.format(
        models=" ".join(map(str, models)),
        more="out_freq 1 out_file d.out",
        after="velocity all create 300 1\nfix 1 all nve\ntimestep 0.0005",
        dump="a.dump",
        steps=2,
    )
    rows = lammps(text, ranks=ranks).dump("a.dump")
    coords, types = rows[..., 2:5], rows[0, :, 1].astype(int) - 1
    _, force, _, energy, _ = neutral[0].eval(coords, cell, types, atomic=True)
    np.testing.assert_allclose(rows[..., 5:8], force, rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(rows[..., 8], energy[..., 0], rtol=1e-10, atol=1e-10)
    found = np.loadtxt(tmp_path / "d.out")
    want = calc_model_devi(coords, np.tile(cell.reshape(1, 9), (len(coords), 1)), types, neutral)
    np.testing.assert_allclose(found[:, 1:7], want[:, 1:7], rtol=1e-6)  # digits of the file


@needs_tensorflow
@pytest.mark.slow  # XLA compiles for every size
def test_a_saved_model_of_deepmd_kit(lammps, tmp_path):
    """A SavedModel of DeePMD-kit beside the same model as .pth."""
    pytest.importorskip("tensorflow")
    path = REFERENCE / "models" / "se_e2_a_oneside.savedmodel"
    if not path.is_dir():
        pytest.skip("the reference data are not here")
    coord, cell, atype = rock_salt((2, 2, 2))
    coord += np.random.default_rng(0).normal(scale=0.1, size=coord.shape)
    write_data(tmp_path, coord, cell, atype)
    models = f"{path} {path.with_suffix('.pth')}"
    text = COMMANDS.format(
        models=models, more="out_freq 1 out_file d.out", after="", dump="a.dump", steps=0
    ).replace("O H", "Ni O")
    lammps(text)
    assert np.abs(np.loadtxt(tmp_path / "d.out")[1:]).max() < 1e-10
