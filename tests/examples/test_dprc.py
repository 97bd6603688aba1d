# SPDX-License-Identifier: LGPL-3.0-or-later
"""The example of a quantum region in water: data, training, what the exclusions promise."""

import json
import runpy
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from cxx import backend_abi
from examples.test_examples_run import EXAMPLES, shortened, train

from deepmd.backend.detect import backend_of
from deepmd.infer import DeepPot
from deepmd.schema import load_input

ROOT = EXAMPLES.parent
FOLDER = EXAMPLES / "dprc"
TYPES = np.array([0, 1, 1] + 7 * [2, 3, 3])
REGIONS = np.repeat(np.arange(8.0), 3)
LIBRARY = backend_abi.find_library("libdeepmd_cc.so")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A copy of the example with its data."""
    root = tmp_path_factory.mktemp("dprc")
    (root / "water").symlink_to(EXAMPLES / "water")
    shutil.copytree(FOLDER, root / "dprc", ignore=shutil.ignore_patterns("data", "model*", "#*"))
    runpy.run_path(str(root / "dprc" / "make_data.py"), run_name="__main__")
    return root / "dprc"


@pytest.fixture(scope="module", params=["qmmm", "embedding", "pairwise"])
def model_file(request, folder):
    """The model of an input after two steps."""
    given = shortened(load_input(folder / f"{request.param}.json"), steps=2)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        curve = train("dpmodel", given)
        assert np.isfinite(curve).all()
        header = Path("lcurve.out").read_text().split("\n")[0].split()
        assert "rmse_gf_val" in header
        tree = backend_of("model.ckpt-2.dp").serialize_hook("model.ckpt-2.dp")
        backend_of("x.dp").deserialize_hook(f"{request.param}.dp", tree)
        for path in [*Path.cwd().glob("model.ckpt*"), *Path.cwd().glob("#*")]:
            path.unlink()
    return folder / f"{request.param}.dp"


def parameters(model, some=slice(None)):
    """What a model takes beside positions: regions of the atoms, or nothing."""
    return {"aparam": REGIONS[some]} if model.get_dim_aparam() else {}


def frames(folder, n=1):
    """Coordinates (n, 24, 3) of the validation."""
    return np.load(folder / "data/valid_0/set.000/coord.npy")[:n].reshape(n, -1, 3)


def test_labels_are_consistent(folder):
    """Forces are minus the slopes; displacements change one bond each, by one Å per Å."""
    made = runpy.run_path(str(folder / "make_data.py"))
    coord = frames(folder, 3)
    _, force = made["correction"](coord)
    step = 1e-5
    for atom, axis in ((0, 0), (1, 2), (5, 1)):
        moved = np.zeros_like(coord)
        moved[:, atom, axis] = step
        slope = (
            (made["correction"](coord + moved)[0] - made["correction"](coord - moved)[0]) / step / 2
        )
        np.testing.assert_allclose(force[:, atom, axis], -slope, rtol=0, atol=1e-8)
    drdq = np.load(folder / "data/valid_0/set.000/drdq.npy")[:3].reshape(*coord.shape, 2)
    for q in range(2):
        ends = coord + step * drdq[..., q]
        change = [np.linalg.norm(x[:, 1:3] - x[:, :1], axis=-1) for x in (coord, ends)]
        wanted = np.eye(2)[[q] * 3]
        np.testing.assert_allclose((change[1] - change[0]) / step, wanted, atol=1e-4)


def test_water_does_not_act_on_itself(folder, model_file):
    """Water alone has the same energy everywhere, zero without type embeddings, and no forces."""
    model, coord = DeepPot(model_file), frames(folder)
    water = slice(3, None)
    given = parameters(model, water)
    energy, force, _ = model.eval(coord[:, water], None, TYPES[water], **given)
    apart = model.eval(2.0 * coord[:, water], None, TYPES[water], **given)[0]
    np.testing.assert_allclose(energy, apart, rtol=0, atol=1e-12)
    if model_file.stem != "embedding":
        np.testing.assert_allclose(energy, 0.0, atol=1e-12)
    np.testing.assert_allclose(force, 0.0, atol=1e-12)
    whole = model.eval(coord, None, TYPES, atomic=True, **parameters(model))
    assert np.abs(whole[1][:, 3:]).max() > 1e-6
    # Alone with the quantum region, a molecule of water has the same energies of its atoms.
    pair = [0, 1, 2, 6, 7, 8]
    few = model.eval(coord[:, pair], None, TYPES[pair], atomic=True, **parameters(model, pair))
    np.testing.assert_allclose(few[3][:, 3:], whole[3][:, 6:9], rtol=0, atol=1e-13)


@pytest.mark.skipif(LIBRARY is None, reason="libdeepmd_cc is not built, or DEEPMD_TEST_LIB not set")
def test_calls_of_sander(folder, model_file, tmp_path):
    """A program with the calls of AMBER's sander: names, cutoff, list without pairs of water."""
    compiler = shutil.which("g++") or shutil.which("c++")
    if compiler is None:
        pytest.skip("there is no C++ compiler")
    if not LIBRARY.with_name("libdeepmd_backend_native.so").is_file():
        pytest.skip("libdeepmd_backend_native is not built")
    program = tmp_path / "sander"
    command = [compiler, "-std=c++17", "-O1", "-Wall", "-Werror", ROOT / "examples/dprc/sander.cc"]
    command += ["-I", ROOT / "source/api_cc/include", "-I", ROOT / "source/api_c/include"]
    command += ["-o", program, LIBRARY, f"-Wl,-rpath,{LIBRARY.parent}"]
    subprocess.run(command, check=True, timeout=300)
    coord = frames(folder)
    rows = [" ".join(f"{x:.17g}" for x in r) for r in coord[0]]
    names = [["O", "H", "OW", "HW"][t] for t in TYPES]
    text = "\n".join(f"{a} {r}" for a, r in zip(names, rows, strict=True))
    (tmp_path / "atoms").write_text(f"{len(names)}\n{text}\n")
    run = subprocess.run(
        [program, tmp_path / "atoms", model_file, model_file],
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    found = json.loads(run.stdout)
    model = DeepPot(model_file)
    energy, force, virial = model.eval(coord, None, TYPES, **parameters(model))
    assert found["cutoff"] == pytest.approx(model.get_rcut())
    for kind in ("plain", "list", "local"):
        assert found[kind]["energy"] == pytest.approx(energy.item(), rel=1e-10, abs=1e-12)
        np.testing.assert_allclose(
            np.reshape(found[kind]["force"], (-1, 3)), force[0], rtol=0, atol=1e-12
        )
    np.testing.assert_allclose(found["plain"]["virial"], virial[0], rtol=0, atol=1e-11)
    assert found["deviation"] < 1e-12
    wrong = subprocess.run(
        [program, tmp_path / "atoms", tmp_path / "no.dp"],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert wrong.returncode == 1 and "no.dp" in wrong.stderr
