# SPDX-License-Identifier: LGPL-3.0-or-later
"""``dp model-devi``, ``dp eval-desc`` and ``dp embed``."""

import h5py
import numpy as np
import pytest
from infer.models import write as write_model

from deepmd.entrypoints.eval_desc import names_of
from deepmd.infer import DeepPot, calc_model_devi

TYPES = [0, 1, 1, 0, 1, 1]
COLUMNS = "step max_devi_v min_devi_v avg_devi_v max_devi_f min_devi_f avg_devi_f devi_e".split()


@pytest.fixture
def models(dp, tmp_path, write_system):
    for k in (1, 2, 3):
        write_model(tmp_path / f"m{k}.dp", seed=k)
    write_system(tmp_path / "data/a", nframes=3)
    write_system(tmp_path / "data/b", nframes=2, seed=1, virial=False)
    return ["m1.dp", "m2.dp", "m3.dp"]


def arrays(folder, *names):
    return [np.load(folder / f"set.000/{n}.npy") for n in names]


def expected(tmp_path, name, models, **options):
    coord, box = arrays(tmp_path / "data" / name, "coord", "box")
    return calc_model_devi(coord, box, TYPES, [DeepPot(tmp_path / m) for m in models], **options)


def test_file(dp, models, tmp_path):
    result = dp("model-devi", "-m", *models, "-s", "data", "-o", "out", "-f", "10")
    assert result.code == 0, result.err
    text = (tmp_path / "out").read_text().splitlines()
    assert text[0] == "# data/a"
    assert text[1].split() == ["#", *COLUMNS]
    assert text[5] == "# data/b"
    rows = np.loadtxt(tmp_path / "out")
    want = [expected(tmp_path, n, models, frequency=10) for n in "ab"]
    np.testing.assert_allclose(rows, np.concatenate(want), rtol=1e-6)
    assert rows[:, 0].tolist() == [0, 10, 20, 0, 10]
    # a second run appends
    assert dp("model-devi", "-m", *models, "-s", "data", "-o", "out").code == 0
    assert len(np.loadtxt(tmp_path / "out")) == 10


def test_atomic_and_relative(dp, models, tmp_path):
    options = ["--atomic", "--relative", "0.3", "--relative_v", "0.1"]
    assert dp("model-devi", "-m", *models[:2], "-s", "data/a", *options).code == 0
    rows = np.loadtxt(tmp_path / "model_devi.out")
    want = expected(tmp_path, "a", models[:2], atomic=True, relative=0.3, relative_v=0.1)
    np.testing.assert_allclose(rows, want, rtol=1e-6)
    assert "atm_devi_f(6)" in (tmp_path / "model_devi.out").read_text()


def test_real_error(dp, models, tmp_path):
    result = dp("model-devi", "-m", models[0], "-s", "data", "--real_error")
    assert result.code == 0, result.err
    rows = np.loadtxt(tmp_path / "model_devi.out")
    names = ("energy", "force", "virial")
    real = dict(zip(names, arrays(tmp_path / "data/a", *names), strict=True))
    want = expected(tmp_path, "a", models[:1], real_data=real)
    np.testing.assert_allclose(rows[:3], want, rtol=1e-6)
    assert "data/b: no virial.npy, its columns are nan" in result.log
    assert np.isnan(rows[3:, 1:4]).all() and np.isfinite(rows[3:, 4:]).all()


def mixed_system(folder, source):
    """Write two frames of a system with their own types, the second with a virtual atom."""
    types = np.array([TYPES, [1, -1, 0, 0, 1, 1]])
    (folder / "set.000").mkdir(parents=True)
    for name in ("coord", "box"):
        np.save(folder / f"set.000/{name}.npy", np.load(source / f"set.000/{name}.npy")[:2])
    np.save(folder / "set.000/real_atom_types.npy", types)
    (folder / "type.raw").write_text("0\n" * 6)
    (folder / "type_map.raw").write_text("O\nH\n")
    return types


def test_mixed_types(dp, models, tmp_path):
    types = mixed_system(tmp_path / "mixed", tmp_path / "data/a")
    assert dp("model-devi", "-m", *models, "-s", "mixed").code == 0
    coord, box = arrays(tmp_path / "mixed", "coord", "box")
    opened = [DeepPot(tmp_path / m) for m in models]
    want = calc_model_devi(coord, box, types, opened, mixed_type=True)
    np.testing.assert_allclose(np.loadtxt(tmp_path / "model_devi.out"), want, rtol=1e-6)


def test_wrong_use_of_model_devi(fails, models, tmp_path):
    assert fails("--dp", "model-devi") == "dp: graph.000.dp: model file not found"
    text = fails("model-devi", "-m", "m1.dp", "-s", "data")
    assert text == "dp: models: 1 model given, 2 are needed; name more"
    write_model(tmp_path / "other.dp", type_map=("H", "O"))
    text = fails("model-devi", "-m", "m1.dp", "other.dp", "-s", "data")
    assert "other.dp: has the types ['H', 'O'], m1.dp has ['O', 'H']" in text
    text = fails("model-devi", "-m", *models, "-s", "data", "--relative", "-1")
    assert text == "dp: --relative: found -1.0, expected a number >= 0"
    for name in ("energy", "force", "virial"):
        (tmp_path / f"data/a/set.000/{name}.npy").unlink()
    text = fails("model-devi", "-m", "m1.dp", "-s", "data/a", "--real_error")
    assert text.startswith("dp: data/a: has no label to compare with")


# -- dp eval-desc ---------------------------------------------------------------------------------


def test_eval_desc(dp, models, tmp_path, write):
    result = dp("eval-desc", "-m", "m1.dp", "-s", "data", "-o", "out")
    assert result.code == 0, result.err
    for name, nframes in (("a", 3), ("b", 2)):
        coord, box = arrays(tmp_path / "data" / name, "coord", "box")
        want = DeepPot(tmp_path / "m1.dp").eval_descriptor(coord, box, TYPES)
        found = np.load(tmp_path / f"out/{name}.npy")
        assert found.dtype == np.float64 and found.shape[:2] == (nframes, 6)
        np.testing.assert_array_equal(found, want)
    listed = write("list", "data/a\n")
    assert dp("eval-desc", "-m", "m1.dp", "-f", listed, "--dtype", "fp32").code == 0
    assert np.load(tmp_path / "desc/a.npy").dtype == np.float32
    assert dp("eval-desc", "-m", "m1.dp", "-f", listed, "--dtype", "native").code == 0
    assert np.load(tmp_path / "desc/a.npy").dtype == np.float64


def test_embed(dp, models, tmp_path):
    """Groups of DeePMD-kit's names and shapes; features of virtual atoms are 0."""
    types = mixed_system(tmp_path / "data/c", tmp_path / "data/a")
    result = dp("embed", "-m", "m1.dp", "-s", "data", "-o", "e.hdf5", "--dtype", "fp64")
    assert result.code == 0, result.err
    model = DeepPot(tmp_path / "m1.dp")
    with h5py.File(tmp_path / "e.hdf5") as file:
        assert list(file.attrs["type_map"]) == model.get_type_map()
        assert set(file) == {"a", "b", "c"}
        for name, given in (("a", TYPES), ("c", types)):
            coord, box = arrays(tmp_path / "data" / name, "coord", "box")
            group, mixed = file[name], name == "c"
            assert group.attrs["nframes"] == len(coord)
            np.testing.assert_array_equal(
                group["atom_types"], np.broadcast_to(given, group["atom_types"].shape)
            )
            for key, evaluate in (
                ("descriptor", model.eval_descriptor),
                ("atomic_feature", model.eval_fitting_last_layer),
            ):
                want = evaluate(coord, box, given, mixed_type=mixed)
                np.testing.assert_allclose(group[key], want, rtol=1e-12, atol=1e-15)
            total = group["atomic_feature"][()].sum(axis=1)
            np.testing.assert_allclose(group["structural_feature"], total, rtol=1e-13)
    assert dp("embed", "-m", "m1.dp", "-s", "data/a", "-o", "e.hdf5").code == 0
    with h5py.File(tmp_path / "e.hdf5") as file:
        assert set(file) == {"a"}
        assert file["a/descriptor"].dtype == file["a/structural_feature"].dtype == np.float32


def test_eval_desc_keeps_places_of_virtual_atoms(dp, models, tmp_path, monkeypatch):
    monkeypatch.setenv("DP_TEST_CHUNK_ATOMS", "6")
    types = mixed_system(tmp_path / "mixed", tmp_path / "data/a")
    assert dp("eval-desc", "-m", "m1.dp", "-s", "mixed").code == 0
    coord, box = arrays(tmp_path / "mixed", "coord", "box")
    want = DeepPot(tmp_path / "m1.dp").eval_descriptor(coord, box, types, mixed_type=True)
    found = np.load(tmp_path / "desc/mixed.npy")
    np.testing.assert_allclose(found, want, rtol=1e-12, atol=1e-15)
    assert not found[1, 1].any()


def test_names_of_descriptor_files():
    paths = ["x/a", "y/a/", "z.hdf5#/a", "z.hdf5#/b"]
    assert names_of(paths) == ["a", "a.1", "a.2", "b"]
    # A name with the number of another one is nobody else's.
    assert names_of(["x/a", "y/a", "z/a.1"]) == ["a", "a.2", "a.1"]
    assert names_of(["z/a.1", "x/a", "y/a"]) == ["a.1", "a", "a.2"]
