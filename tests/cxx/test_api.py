# SPDX-License-Identifier: LGPL-3.0-or-later
"""The C++ and C interfaces: their symbols, programs that use them, and golden results."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from cxx import backend_abi, c_api  # noqa: E402
from golden import cases  # noqa: E402
from pt.models import model, section  # noqa: E402

from deepmd.dpmodel.model import build_model  # noqa: E402
from deepmd.infer import DeepPot  # noqa: E402
from deepmd.pt.torchscript.export import write_pth  # noqa: E402
from deepmd.runtime.probes import model_file_dict  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
LIBRARY = backend_abi.find_library("libdeepmd_c.so")
pytestmark = pytest.mark.skipif(
    LIBRARY is None or not LIBRARY.with_name("libdeepmd_backend_torch.so").is_file(),
    reason="libdeepmd_c and libdeepmd_backend_torch are not built, or DEEPMD_TEST_LIB not set",
)

KINDS = {"dipole", "polar", "dos", "property"}
#: Golden cases whose file is opened by the PyTorch backend.
GOLDEN = [c for c in cases.manifest()["cases"] if "pth" in c["files"] and c["kind"] != "spin"]
SPINS = [c for c in cases.manifest()["cases"] if c["kind"] == "spin"]
FAST = {"se_e2_a_twoside", "dpa1_l2_smooth", "dpa3_chg_spin", "ener_fparam_aparam_default"}


def parameters(kind):
    """Golden cases of a kind; all but a few are slow."""
    chosen = [c for c in GOLDEN if (c["kind"] in KINDS) == (kind == "tensor")]
    slow = pytest.mark.slow
    quick = FAST if kind == "energy" else {c["name"] for c in chosen}
    return [pytest.param(c, id=c["name"], marks=() if c["name"] in quick else slow) for c in chosen]


@pytest.fixture(scope="module")
def library():
    return c_api.load(LIBRARY)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A small model of our own, and its file."""
    path = tmp_path_factory.mktemp("pth") / "small.pth"
    built = model(numb_fparam=2, numb_aparam=1)
    write_pth(path, model_file_dict(built, section(), 0.5, "PyTorch"))
    return path


def close(found, expected, tolerance=1e-10):
    """The rule of the golden cases."""
    found, expected = np.asarray(found), np.asarray(expected)
    assert found.size == expected.size
    scale = max(float(np.abs(expected).max(initial=0.0)), 0.01)
    assert float(np.abs(found.ravel() - expected.ravel()).max(initial=0.0)) <= tolerance * scale


# -- symbols --------------------------------------------------------------------------------------


def exported(path):
    """Names that a library defines."""
    nm = shutil.which("nm")
    if nm is None:
        pytest.skip("there is no nm")
    lines = subprocess.run([nm, "-D", "--defined-only", path], capture_output=True, text=True)
    return {line.split()[-1] for line in lines.stdout.splitlines()}


def test_c_symbols():
    """All that the header declares is there, and nothing else."""
    text = (ROOT / "source/api_c/include/deepmd/c_api.h").read_text()
    declared = set(re.findall(r"\b(DP_\w+)\(", re.sub(r"/\*.*?\*/", "", text, flags=re.S)))
    assert len(declared) > 160
    assert exported(LIBRARY) == declared


def test_published_symbols():
    """Programs that were linked with the published libraries find every name."""
    names = (Path(__file__).parent / "symbols.txt").read_text().split()
    c = {n for n in names if n.startswith("DP_")}
    cxx = set(names) - c
    assert len(c) == 166
    assert len(cxx) > 150
    assert sorted(c - exported(LIBRARY)) == []
    assert sorted(cxx - exported(LIBRARY.with_name("libdeepmd_cc.so"))) == []


# -- results --------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", parameters("energy"))
def test_energies(library, case):
    pot = c_api.Handle(library, "DeepPot", cases.path(case, "pth"))
    assert pot.text("GetTypeMap").split() == case["type_map"]
    assert pot.get("GetCutoff") == case["rcut"]
    stored = cases._arrays(case["npz"])
    for name, facts in case["sets"].items():
        found = pot.compute(**cases.inputs(case, name))
        single = pot.compute(**cases.inputs(case, name), dtype=np.float32)
        for key in set(found) & set(facts["outputs"]) - set(facts["not_unique"]):
            want = stored[f"{name}/out/{key}"]
            close(found[key], want)
            if facts["min_distance"] > 0.8:  # rounded coordinates matter where forces are steep
                close(single[key], want, 1e-4)
    pot.close()


@pytest.mark.parametrize("name", ["hybrid_short_attention_two"])
def test_lists_longer_than_the_cutoff_of_a_component(library, name, converted):
    """Neighbors between the cutoffs of a hybrid reach the component that needs them."""
    found = cases.select(name=name)
    if not found:
        pytest.skip("the reference data are not here")
    path = converted(cases.path(found[0], "dp"), ".pth")
    pot, stored = c_api.Handle(library, "DeepPot", path), cases._arrays(found[0]["npz"])
    for set_, facts in found[0]["sets"].items():
        results = pot.compute(**cases.inputs(found[0], set_))
        assert {"energy", "force", "virial"} <= set(results)
        for key in set(results) & set(facts["outputs"]):
            close(results[key], stored[f"{set_}/out/{key}"])
    pot.close()


@pytest.fixture(scope="module")
def spin_file(converted, reference):
    """Path of a golden model with spins: of DeePMD-kit, or our own file of it."""

    def find(case, kind):
        if kind == "theirs":
            return cases.path(case, "pth")
        if kind != "ours" and not LIBRARY.with_name("libdeepmd_backend_tensorflow.so").is_file():
            pytest.skip("libdeepmd_backend_tensorflow is not built")
        return converted(cases.path(case, "dp"), ".pth" if kind == "ours" else f".{kind}")

    return find


def spin_parameters():
    """Golden models with spins as files of both kinds."""
    both = [(c, k) for c in SPINS for k in ("ours", "theirs") if k == "ours" or "pth" in c["files"]]
    found = [pytest.param(c, k, id=f"{c['name']}-{k}") for c, k in both]
    # By edges of atoms and partners; tracing takes seconds, compiling more.
    for c, kind in ((c, k) for c in SPINS for k in ("pb", "savedmodeltf", "savedmodel")):
        quick = (c["name"], kind) == ("spin_se_e2_a", "pb")
        marks = () if quick else pytest.mark.slow
        found.append(pytest.param(c, kind, id=f"{c['name']}-{kind}", marks=marks))
    return found


@pytest.mark.parametrize(("case", "kind"), spin_parameters())
def test_spins(library, spin_file, case, kind):
    pot = c_api.Handle(library, "DeepSpin", spin_file(case, kind))
    stored = cases._arrays(case["npz"])
    assert pot.text("GetTypeMap").split() == case["type_map"]
    for name, facts in case["sets"].items():
        given = cases.inputs(case, name)
        found, single = (pot.compute(**given, dtype=d) for d in (np.float64, np.float32))
        assert "force_mag" in found
        # An atom without spin and its partner are at one place: which is left out where a list of
        # all types is full, DeePMD-kit's files leave to chance.
        if kind == "theirs" and facts["exceeds_sel"] and case["descriptor"] == "dpa1":
            continue
        for key in set(found) & set(facts["outputs"]) - set(facts["not_unique"]):
            want = stored[f"{name}/out/{key}"]
            close(found[key], want)
            close(single[key], want, 1e-4)
        magnetic = stored[f"{name}/out/mask_mag"].any((0, 2))
        carriers = {t for t, m in zip(given["atom_types"], magnetic, strict=True) if m}
        assert carriers <= set(range(pot.get("GetNumbTypes")))
        assert pot.get("GetNumbTypesSpin") >= len(carriers) > 0
    with pytest.raises(c_api.CError, match="spins of the atoms"):
        pot.compute(**{**given, "spin": None})
    pot.close()
    with pytest.raises(c_api.CError, match="DeepSpin"):
        c_api.Handle(library, "DeepPot", spin_file(case, kind))


@pytest.mark.parametrize("kind", ["ours", "theirs"])
def test_spins_of_many_atoms(library, spin_file, kind):
    """A supercell is evaluated in parts; it has the energy and forces of its cells."""
    case = cases.named("spin_se_e2_a")
    given = {
        k: v[:1] if v is not None and k != "atom_types" else v
        for k, v in cases.inputs(case, "pbc").items()
        if k != "mixed_type"
    }
    cell = given["cells"].reshape(3, 3)
    shifts = np.array(list(np.ndindex(4, 4, 4))) @ cell
    coord = given["coords"].reshape(1, -1, 3)
    large = {
        "coords": (shifts[:, None] + coord).reshape(1, -1),
        "cells": 4 * given["cells"],
        "atom_types": np.tile(given["atom_types"], 64),
        "spin": np.tile(given["spin"].reshape(1, -1), 64),
    }
    pot = c_api.Handle(library, "DeepSpin", spin_file(case, kind))
    want, found = pot.compute(**given), pot.compute(**large)
    close(found["energy"], 64 * want["energy"])
    close(found["virial"], 64 * want["virial"])
    for key in ("force", "force_mag", "atom_energy"):
        width = want[key].shape[-1]
        close(found[key].reshape(64, -1, width), np.tile(want[key], (64, 1, 1)))
    pot.close()


def test_spin_deviation(library, spin_file):
    case = cases.named("spin_se_e2_a")
    files = [spin_file(case, kind) for kind in ("ours", "theirs")]
    given = {
        k: v[:1] if k in ("coords", "cells", "spin") else v
        for k, v in cases.inputs(case, "pbc").items()
    }
    both = c_api.Handle(library, "DeepSpinModelDevi", *files)
    found = both.compute(**given)
    for key, value in found.items():
        want = cases._arrays(case["npz"])[f"pbc/out/{key}"][:1]
        close(value, np.concatenate([want, want]))
    both.close()


@pytest.mark.parametrize("case", parameters("tensor"))
def test_tensors(library, case):
    kind = case["kind"]
    tensor = c_api.Handle(library, "DeepTensor", cases.path(case, "pth"))
    stored = cases._arrays(case["npz"])
    for name in ("pbc", "nopbc"):
        given = cases.inputs(case, name)
        if kind != "dipole":  # no derivatives in the files of DeePMD-kit
            with pytest.raises(c_api.CError, match="no derivatives"):
                tensor.tensor(given["coords"][0], None, given["atom_types"])
            continue
        for k, coord in enumerate(given["coords"]):
            cell = None if given["cells"] is None else given["cells"][k]
            found = tensor.tensor(coord, cell, given["atom_types"])
            close(found["values"], stored[f"{name}/out/atom_{kind}"][k])
            close(found["atomic"], found["values"], 0.0)
            close(found["global"], stored[f"{name}/out/{kind}"][k])
            # In memory the stored forces of dipoles are (atoms, components, 3).
            close(found["force"].swapaxes(0, 1), stored[f"{name}/out/force"][k])
            close(found["virial"], stored[f"{name}/out/virial"][k])
            close(found["atom_virial"].sum(1), found["virial"])
    tensor.close()


def test_a_mean_leaves_out_excluded_types(library, tmp_path):
    fitting = {"type": "property", "property_name": "gap", "intensive": True, "neuron": [4]}
    given = section() | {"fitting_net": fitting, "atom_exclude_types": [1]}
    write_pth(tmp_path / "gap.pth", model_file_dict(build_model(given), given, 0.5, "PyTorch"))
    # Opening compares the means of the frames in the file.
    c_api.Handle(library, "DeepTensor", tmp_path / "gap.pth").close()


def test_own_file_agrees_with_python(library, small):
    rng = np.random.default_rng(3)
    cells = np.stack([np.array([[7.0, 0, 0.5], [0.2, 8, 0], [0, -0.3, 7.5]]).ravel()] * 2)
    given = {
        "coords": rng.uniform(0, 7, (2, 24)),
        "cells": cells,
        "atom_types": np.array([0, 1, 1, 0, 1, 1, -1, 0]),
        "fparam": rng.normal(size=(2, 2)),
        "aparam": rng.normal(size=(2, 8)),
    }
    want = DeepPot(small).eval(**given, atomic=True)
    pot = c_api.Handle(library, "DeepPot", small)
    found, single = (pot.compute(**given, dtype=d) for d in (np.float64, np.float32))
    for key, value in zip(found, want, strict=True):
        close(found[key], value)
        close(single[key], value, 1e-4 if "virial" in key else 1e-5)
    with pytest.raises(c_api.CError, match="fparam"):
        pot.compute(given["coords"], cells, given["atom_types"])
    pot.close()


def test_deviation(library, reference, converted):
    """The two water models of the LAMMPS runs, as Python evaluates them."""
    files = [reference / "lammps" / f"water_se_e2_a{k}.pth" for k in ("", "_2")]
    if not files[0].is_file():  # too large for the compact set: our files of the same models
        files = [converted(f.with_suffix(".dp"), ".pth") for f in files]
    coord = np.load(reference / "lammps" / "water_se_e2_a_pth.npz")["dump"][0][:, 2:5]
    types = np.load(reference / "lammps" / "water_se_e2_a_pth.npz")["dump"][0][:, 1].astype(int) - 1
    cell = np.eye(3).reshape(1, 9) * 12.444661
    both = c_api.Handle(library, "DeepPotModelDevi", *files)
    found = both.compute(coord.reshape(1, -1), cell, types)
    for k, file in enumerate(files):
        alone = c_api.Handle(library, "DeepPot", file)
        want = alone.compute(coord.reshape(1, -1), cell, types)
        for key in want:
            close(found[key][k], want[key], 1e-13)
        alone.close()
    row = (reference / "lammps" / "model_devi.out").read_text().splitlines()[1].split()
    spread = np.linalg.norm(found["force"].std(axis=0), axis=1)
    np.testing.assert_allclose(
        [spread.max(), spread.min(), spread.mean()], [float(x) for x in row[4:7]], rtol=2e-6
    )
    both.close()


# -- programs -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """Folder with include/ and lib/, where find_package finds DeePMD."""
    if (LIBRARY.parent / "cmake" / "DeePMD").is_dir():
        return LIBRARY.parents[1]
    build = LIBRARY.parents[1]
    if shutil.which("cmake") is None or not (build / "CMakeCache.txt").is_file():
        pytest.skip("the libraries are not installed, and not in a build folder of CMake")
    prefix = tmp_path_factory.mktemp("prefix")
    command = ["cmake", "--install", build, "--prefix", prefix]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"the build folder is not complete: {done.stderr[-200:]}")
    return prefix


def test_programs(installed, tmp_path):
    """The programs of examples/cxx find the package, and agree with Python."""
    if shutil.which("cmake") is None or shutil.which("cc") is None:
        pytest.skip("there is no cmake, or no compiler")
    path = tmp_path / "water.pth"
    write_pth(path, model_file_dict(model(), section(), 0.5, "PyTorch"))
    source = ROOT / "examples" / "cxx"
    configure = ["cmake", "-S", source, "-B", tmp_path / "b", f"-DCMAKE_PREFIX_PATH={installed}"]
    for command in (configure, ["cmake", "--build", tmp_path / "b"]):
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
    text = (source / "water.c").read_text().split("coord[18]")[1]
    coord = np.array(re.findall(r"-?\d+\.\d+", text)[:18], dtype=float).reshape(1, -1)
    energy, force, virial = DeepPot(path).eval(coord, np.eye(3).reshape(1, 9) * 9, [0, 1, 1] * 2)
    for program in ("water_cc", "water_c"):
        run = [tmp_path / "b" / program]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        done = subprocess.run([*run, path], capture_output=True, text=True, env=environment)
        assert done.returncode == 0, done.stderr
        found = np.array(re.findall(r"-?\d+\.\d+", done.stdout), dtype=float)
        np.testing.assert_allclose(
            found, np.concatenate([energy.ravel(), force.ravel(), virial.ravel()]), atol=2e-11
        )
        failed = subprocess.run([*run, tmp_path / "no.pth"], capture_output=True, text=True)
        assert failed.returncode == 1
        assert "no.pth" in failed.stderr


@pytest.mark.parametrize("standard", ["c++11", "c++17"])
def test_headers_alone(standard, tmp_path):
    """deepmd.hpp needs C++11 and no other header of this project than its own."""
    compiler = shutil.which("g++") or shutil.which("c++")
    if compiler is None:
        pytest.skip("there is no C++ compiler")
    source = tmp_path / "one.cc"
    source.write_text("#include <deepmd/deepmd.hpp>\nint main() { deepmd::hpp::DeepPot dp; }\n")
    flags = [f"-std={standard}", "-Wall", "-Wextra", "-pedantic", "-Werror", "-fsyntax-only"]
    include = ["-I", ROOT / "source" / "api_c" / "include"]
    subprocess.run([compiler, *flags, *include, source], check=True)
