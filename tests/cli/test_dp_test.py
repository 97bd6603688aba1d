# SPDX-License-Identifier: LGPL-3.0-or-later
"""``dp test``: errors against the reference's and against plain arithmetic, files, choices."""

import importlib
import json
import re

import numpy as np
import pytest
from infer.models import write as write_model

from deepmd.entrypoints.test import choose_frames, weighted_average
from deepmd.entrypoints.test import test as run_command


def numbers(log: str) -> list[dict[str, float]]:
    """Errors by name, per block of the log."""
    blocks: list[dict[str, float]] = []
    for line in log.splitlines():
        if line.startswith(("# testing system", "# ----------weighted")):
            blocks.append({})
        found = re.fullmatch(r"(.{19}): (\S+) (\S+)", line)
        if found:
            blocks[-1][found[1].strip()] = float(found[2])
    return blocks


def test_against_the_reference(dp, reference):
    """The model is the reference's; its own ``dp test`` gave these figures."""
    known = json.loads((reference / "train/water_se_e2_a/result.json").read_text())
    known = known["dp_test_on_valid_0"][0]
    model = reference / "lammps/water_se_e2_a.dp"
    result = dp("test", "-m", model, "-s", reference / "data/water/valid_0")
    assert result.code == 0
    system, average = numbers(result.log)
    assert system == average
    assert system["Energy RMSE"] == pytest.approx(known["energy_rmse"], rel=1e-6)
    assert system["Energy RMSE/Natoms"] == pytest.approx(known["energy_rmse_per_atom"], rel=1e-6)
    assert system["Energy MAE/Natoms"] == pytest.approx(known["energy_mae_per_atom"], rel=1e-6)
    assert system["Force  RMSE"] == pytest.approx(known["force_rmse"], rel=1e-6)
    assert system["Force  MAE"] == pytest.approx(known["force_mae"], rel=1e-6)
    assert not any(name.startswith("Virial") for name in system)


@pytest.fixture
def model(dp, write, good, write_system, tmp_path):
    """Write a model file and two more systems; return the file's name."""
    assert dp("--dp", "train", write("in.json", good)).code == 0
    write_system(tmp_path / "more/a", nframes=3, seed=1)
    write_system(tmp_path / "more/b", nframes=2, seed=2, virial=False)
    return "model.ckpt.dp"


def test_lines_and_detail_files_say_the_same(dp, model, tmp_path):
    result = dp("test", "-m", model, "-s", "data", "-d", "out/det")
    assert result.code == 0
    (errors, _) = numbers(result.log)
    files = {p.name: np.loadtxt(p, ndmin=2) for p in (tmp_path / "out").iterdir()}
    assert set(files) == {
        "det.e.out",
        "det.e_peratom.out",
        "det.f.out",
        "det.v.out",
        "det.v_peratom.out",
        "det.s.out",
    }
    shapes = {"e": (8, 2), "f": (48, 6), "v": (8, 18), "s": (8, 18), "e_peratom": (8, 2)}
    for name, shape in shapes.items():
        assert files[f"det.{name}.out"].shape == shape

    def both(name):
        values = files[f"det.{name}.out"]
        half = values.shape[1] // 2
        return values[:, half:] - values[:, :half]

    for text, error in (
        ("Energy ?", both("e")),
        ("Energy ?/Natoms", both("e") / 6),
        ("Force  ?", both("f")),
        ("Virial ?", both("v")),
        ("Virial ?/Natoms", both("v_peratom")),
        ("Stress ?", both("v") / 125.0),
        ("Stress ?", both("s")),
    ):
        assert errors[text.replace("?", "MAE")] == pytest.approx(np.abs(error).mean(), rel=1e-6)
        rmse = np.sqrt((error**2).mean())
        assert errors[text.replace("?", "RMSE")] == pytest.approx(rmse, rel=1e-6)
    # stress has the opposite sign of the virial
    np.testing.assert_allclose(files["det.s.out"], -files["det.v.out"] / 125.0, rtol=1e-12)
    header = (tmp_path / "out/det.f.out").read_text().splitlines()[0]
    assert header == "# data: data_fx data_fy data_fz pred_fx pred_fy pred_fz"
    header = (tmp_path / "out/det.s.out").read_text(encoding="utf-8").splitlines()[0]
    assert header.startswith("# data: data_sxx data_sxy")
    assert header.endswith("pred_szz (eV/Å³)")


def test_several_systems_are_averaged_and_appended(dp, model, tmp_path):
    result = dp("test", "-m", model, "-s", "more", "-d", "det")
    a, b, average = numbers(result.log)
    assert "# number of systems : 2" in result.log
    assert "Virial RMSE" not in b
    assert average["Virial RMSE"] == a["Virial RMSE"]
    assert average["Energy MAE"] == pytest.approx((3 * a["Energy MAE"] + 2 * b["Energy MAE"]) / 5)
    square = (3 * a["Force  RMSE"] ** 2 + 2 * b["Force  RMSE"] ** 2) / 5
    assert average["Force  RMSE"] == pytest.approx(square**0.5)
    text = (tmp_path / "det.e.out").read_text()
    assert re.findall(r"# (\S+):", text) == ["more/a", "more/b"]
    assert np.loadtxt(tmp_path / "det.e.out").shape == (5, 2)
    assert np.loadtxt(tmp_path / "det.v.out").shape == (3, 18)
    dp("test", "-m", model, "-s", "more", "-d", "det")
    assert (tmp_path / "det.e.out").read_text() == text, "a new run starts new files"


def test_prefixes_with_a_dot_have_files_of_their_own(dp, model, tmp_path):
    for prefix in ("run0.5", "run0.6", "out/det.txt"):
        assert dp("test", "-m", model, "-s", "more/a", "-d", prefix).code == 0
    names = {str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*.f.out")}
    assert names == {"run0.5.f.out", "run0.6.f.out", "out/det.txt.f.out"}


def test_small_chunks_change_nothing(dp, model, monkeypatch):
    whole = numbers(dp("test", "-m", model, "-s", "data", "-a").log)
    monkeypatch.setenv("DP_TEST_CHUNK_ATOMS", "13")
    parts = numbers(dp("test", "-m", model, "-s", "data", "-a").log)
    assert parts == [pytest.approx(w, rel=1e-6) for w in whole]
    monkeypatch.setenv("DP_TEST_CHUNK_ATOMS", "many")
    assert dp("test", "-m", model, "-s", "data").code == 1


def test_weighted_forces_and_atomic_energies(dp, model, tmp_path):
    rng = np.random.default_rng(3)
    pref, atom_ener = rng.uniform(0, 2, (8, 6)), rng.normal(size=(8, 6))
    np.save(tmp_path / "data/set.000/atom_pref.npy", pref)
    np.save(tmp_path / "data/set.000/atom_ener.npy", atom_ener)
    result = dp("test", "-m", model, "-s", "data", "-a", "-d", "det")
    system, average = numbers(result.log)
    values = np.loadtxt(tmp_path / "det.f.out")
    error = values[:, 3:] - values[:, :3]
    weight = pref.reshape(-1, 1)
    want = (np.abs(error) * weight).sum() / (3 * weight.sum())
    assert system["Force weighted MAE"] == pytest.approx(want, rel=1e-6)
    want = (error**2 * weight).sum() / (3 * weight.sum())
    assert system["Force weighted RMSE"] == pytest.approx(want**0.5, rel=1e-6)
    assert "Atomic ener RMSE" in system
    assert "Atomic ener RMSE" not in average


def test_mixed_types_with_padding(dp, model, tmp_path):
    """Frames of other order and size: the same frames one by one give the same errors."""
    folder = tmp_path / "data/set.000"
    mixed = tmp_path / "mixed/set.000"
    mixed.mkdir(parents=True)
    types = np.tile([0, 1, 1, 0, 1, 1], (8, 1))
    order = np.tile(np.arange(6), (8, 1))
    order[1::2] = [3, 1, 0, 2, 5, 4]
    rows = np.arange(8)[:, None]
    coord = np.load(folder / "coord.npy").reshape(8, 6, 3)[rows, order]
    force = np.load(folder / "force.npy").reshape(8, 6, 3)[rows, order]
    pad = ((0, 0), (0, 2), (0, 0))
    np.save(mixed / "coord.npy", np.pad(coord, pad).reshape(8, -1))
    np.save(mixed / "force.npy", np.pad(force, pad).reshape(8, -1))
    padded = np.pad(types[rows, order], ((0, 0), (0, 2)), constant_values=-1)
    np.save(mixed / "real_atom_types.npy", padded)
    for name in ("energy", "box", "virial"):
        np.save(mixed / f"{name}.npy", np.load(folder / f"{name}.npy"))
    (tmp_path / "mixed/type.raw").write_text("0\n" * 8)
    (tmp_path / "mixed/type_map.raw").write_text("O\nH\n")
    plain, _ = numbers(dp("test", "-m", model, "-s", "data").log)
    shuffled, _ = numbers(dp("test", "-m", model, "-s", "mixed", "-d", "det").log)
    assert shuffled == pytest.approx(plain, rel=1e-6)
    assert np.loadtxt(tmp_path / "det.f.out").shape == (48, 6)


def test_lists_of_systems(dp, model, write, tmp_path):
    whole = numbers(dp("test", "-m", model, "-s", "more").log)
    assert numbers(dp("test", "-m", model, "-f", write("list", "more/a\n\nmore/b\n")).log) == whole
    # paths of an input are relative to the input
    data = {"training": {"training_data": {"systems": ["a"]}, "validation_data": {"systems": "b"}}}
    (tmp_path / "more/in.json").write_text(json.dumps({"model": {}, **data}))
    assert numbers(dp("test", "-m", model, "--train-data", "more/in.json").log)[0] == whole[0]
    assert numbers(dp("test", "-m", model, "--valid-data", "more/in.json").log)[0] == whole[1]


def test_number_and_choice_of_frames(dp, model):
    result = dp("test", "-m", model, "-s", "data", "-n", "3")
    assert "# number of test data : 3 " in result.log
    result = dp("test", "-m", model, "-s", "data", "-n", "99")
    assert "# number of test data : 8 " in result.log
    assert choose_frames(8, 3, False, None).tolist() == [0, 1, 2]
    some = choose_frames(100, 5, True, 7)
    assert some.tolist() == choose_frames(100, 5, True, 7).tolist() != [0, 1, 2, 3, 4]
    assert sorted(choose_frames(9, 0, True, 1).tolist()) == list(range(9))


def test_system_without_labels(dp, model, tmp_path):
    for name in ("energy", "force", "virial"):
        (tmp_path / f"data/set.000/{name}.npy").unlink()
    result = dp("test", "-m", model, "-s", "data")
    assert result.code == 1
    assert result.errors == [
        "dp: data: has no label to compare with; add energy.npy, force.npy, virial.npy"
    ]


def test_open_system_has_no_virial(dp, model, tmp_path):
    (tmp_path / "data/nopbc").touch()
    system, _ = numbers(dp("test", "-m", model, "-s", "data").log)
    assert not any(name.startswith(("Virial", "Stress")) for name in system)
    assert "Energy RMSE" in system


def test_model_name_without_suffix(dp, model, tmp_path):
    (tmp_path / "frozen_model.dp").write_bytes((tmp_path / model).read_bytes())
    assert dp("test", "-s", "data").code == 0


def test_average_skips_what_is_absent():
    average = weighted_average([{"mae_a": (1.0, 1), "rmse_a": (3.0, 1)}, {"mae_a": (4.0, 2)}])
    assert average == {"mae_a": (3.0, 3), "rmse_a": (3.0, 1)}


def test_the_function_returns_the_average(dp, model):
    average = run_command(model=model, system="data", unheard_of=1)
    assert average["rmse_force"] > 0


def test_many_systems_get_a_summary(dp, tmp_path, write_system, monkeypatch):
    """The average and the worst ones; the errors of each with -v DEBUG."""
    module = importlib.import_module("deepmd.entrypoints.test")
    monkeypatch.setattr(module, "_LISTED", 3)
    write_model(tmp_path / "m.dp")
    for k in range(4):
        write_system(tmp_path / f"data/s{k}", nframes=1, seed=k)
    few = dp("test", "-m", "m.dp", "-s", "data", "-v", "DEBUG").log.splitlines()
    many = dp("test", "-m", "m.dp", "-s", "data").log.splitlines()
    assert sum("testing system" in line for line in few) == 4
    assert not any("testing system" in line for line in many)
    assert "# errors of every system: dp test -v DEBUG" in many
    at = many.index("# largest errors, Energy RMSE/Natoms [eV]")
    shown = [float(line.split()[1]) for line in many[at + 1 : at + 5]]
    each = [float(x.split(":")[1].split()[0]) for x in few if x.startswith("Energy RMSE/Natoms")]
    assert shown == sorted(each[:4], reverse=True)
    assert many[-9:] == few[-9:]


def test_json_hdf5_and_plot_say_the_same(dp, model, tmp_path):
    h5py, _ = pytest.importorskip("h5py"), pytest.importorskip("matplotlib", reason="not installed")
    words = ["--json", "e.json", "--detail-hdf5", "v.hdf5", "--plot", "p.png"]
    result = dp("test", "-m", model, "-s", "more", *words)
    assert result.code == 0
    found = json.loads((tmp_path / "e.json").read_text())
    assert [s["frames"] for s in found["systems"]] == [3, 2]
    *_, average = numbers(result.log)
    assert found["average"]["rmse_force"] == pytest.approx(average["Force  RMSE"], rel=1e-6)
    assert "rmse_virial" not in found["systems"][1]["errors"]
    with h5py.File(tmp_path / "v.hdf5") as file:
        for group, system in zip(file.values(), found["systems"], strict=True):
            assert group.attrs["path"] == system["system"]
            force = group["force"]
            error = force["pred"][()] - force["data"][()]
            rmse = np.sqrt(np.mean(error**2))
            assert rmse == pytest.approx(system["errors"]["rmse_force"], rel=1e-12)
            assert set(force["frame"][()]) == set(range(system["frames"]))
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")


def test_a_plot_needs_a_known_ending(fails, dp, model):
    assert "end it with .png, .pdf, .svg" in fails(
        "test", "-m", model, "-s", "data", "--plot", "p.txt"
    )
