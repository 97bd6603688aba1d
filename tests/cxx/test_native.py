# SPDX-License-Identifier: LGPL-3.0-or-later
"""The native engine: golden results of model files through the C interface, without a framework."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from cxx import backend_abi, c_api
from golden import cases

LIBRARY = backend_abi.find_library("libdeepmd_c.so")
pytestmark = pytest.mark.skipif(
    LIBRARY is None or not LIBRARY.with_name("libdeepmd_backend_native.so").is_file(),
    reason="libdeepmd_c and libdeepmd_backend_native are not built, or DEEPMD_TEST_LIB not set",
)

KINDS = {"dipole", "polar", "dos", "property"}
#: Parts that the engine evaluates by the program in a file.
TRACED = {"dpa2", "dpa3", "econf", "loc_frame"}
CASES = [c for c in cases.manifest()["cases"] if "dp" in c["files"]]


@pytest.fixture(scope="module")
def library():
    return c_api.load(LIBRARY)


def close(found, expected, tolerance=1e-10):
    """The rule of the golden cases."""
    found, expected = np.asarray(found), np.asarray(expected)
    assert found.size == expected.size
    scale = max(float(np.abs(expected).max(initial=0.0)), 0.01)
    assert float(np.abs(found.ravel() - expected.ravel()).max(initial=0.0)) <= tolerance * scale


def opened(library, part, path):
    """Open a file, or skip the test if the engine says that it does not know a part of it."""
    try:
        return c_api.Handle(library, part, path)
    except c_api.CError as error:
        if "not known to the native engine" not in str(error):
            raise
        pytest.skip(str(error).partition(": ")[2])


def parts_of(case):
    """Types of descriptors and models of a case."""
    with h5py.File(cases.path(case, "dp")) as handle:
        model = json.loads(handle.attrs["json"])["model"]
    found = {"spin"} if "spin" in str(model.get("type")) else set()
    for one in [model, model.get("backbone_model", {}), *model.get("models", [])]:
        descriptor = one.get("descriptor", {})
        for part in (descriptor, *descriptor.get("list", [])):
            found |= {part.get("type")}
            found |= {"econf"} if part.get("use_econf_tebd") else set()
    return found


@pytest.mark.parametrize("case", [pytest.param(c, id=c["name"]) for c in CASES])
def test_golden(library, case, converted):
    tensor, spin = case["kind"] in KINDS, "spin" in parts_of(case)
    part = "DeepTensor" if tensor else "DeepSpin" if spin else "DeepPot"
    path = cases.path(case, "dp")
    if parts_of(case) & TRACED:
        with pytest.raises(c_api.CError, match="not known to the native engine"):
            c_api.Handle(library, part, path)
        path = converted(path, ".dp")  # with a program
    pot = c_api.Handle(library, part, path)
    assert pot.text("GetTypeMap").split() == case["type_map"]
    assert pot.get("GetCutoff") == case.get("rcut", pot.get("GetCutoff"))
    stored = cases._arrays(case["npz"])
    for name, facts in case["sets"].items():
        if not tensor:
            found = pot.compute(**cases.inputs(case, name))
            for key in set(found) & set(facts["outputs"]) - set(facts["not_unique"]):
                close(found[key], stored[f"{name}/out/{key}"], case["tolerance"])
        elif name in ("pbc", "nopbc"):
            check_tensor(pot, case, name, stored)
    pot.close()


def check_tensor(pot, case, name, stored):
    """Compare atomic values, and the derivatives of dipoles."""
    given, kind = cases.inputs(case, name), case["kind"]
    if given.get("fparam") is not None or given.get("aparam") is not None:
        return  # DeepTensor takes no parameters
    if kind != "dipole":
        with pytest.raises(c_api.CError, match="no derivatives"):
            pot.tensor(given["coords"][0], None, given["atom_types"])
        return
    for k, coord in enumerate(given["coords"]):
        cell = None if given["cells"] is None else given["cells"][k]
        found = pot.tensor(coord, cell, given["atom_types"])
        close(found["values"], stored[f"{name}/out/atom_{kind}"][k])
        close(found["global"], stored[f"{name}/out/{kind}"][k])
        close(found["force"].swapaxes(0, 1), stored[f"{name}/out/force"][k])
        close(found["virial"], stored[f"{name}/out/virial"][k])


def compressed():
    """Cases with compressed files of DeePMD-kit, where the full reference is."""
    return [c for c in CASES if (cases.REFERENCE / "compressed" / f"{c['name']}.dp").is_file()]


@pytest.mark.parametrize("case", [pytest.param(c, id=c["name"]) for c in compressed()])
def test_compressed(library, case):
    path = cases.REFERENCE / "compressed" / f"{case['name']}.dp"
    pot = opened(library, "DeepPot", path)
    with np.load(path.with_suffix(".npz")) as stored:
        for name in case["sets"]:
            found = pot.compute(**cases.inputs(case, name))
            for key in found:
                if f"{name}/out/{key}" in stored.files:
                    close(found[key], stored[f"{name}/out/{key}"])
    pot.close()


#: Model files of this project.
OURS = Path(__file__).parents[1] / "golden" / "ours" / "v2" / "models"
#: Files of the same model as the .dp of their name.
KINDS_OF_FILES = ["se_e2_a.hlo", "se_e2_a.pb", "se_e2_a.pth", "se_e2_a.savedmodel"]
KINDS_OF_FILES += ["se_atten.pth", "se_atten.pb", "parameters.pth", "parameters.savedmodeltf"]
KINDS_OF_FILES += ["linear_ener.pth", "compressed.pb"]


def frame(pot):
    """A small frame, and parameters where the model takes some."""
    rng = np.random.default_rng(0)
    given = {"coords": rng.uniform(0.0, 5.0, (1, 30)), "cells": 5.0 * np.eye(3).reshape(1, 9)}
    for name, rows in (("fparam", 1), ("aparam", 10)):
        size = pot.get(f"GetDim{name[0].upper()}Param")
        if size:
            given[name] = rng.normal(size=(1, rows * size))
    return {**given, "atom_types": np.array([0, 1] * 5)}


@pytest.mark.parametrize("name", KINDS_OF_FILES)
def test_all_kinds_of_files(library, name, tmp_path):
    """What is in a file is evaluated as a .dp is; the engine does so by itself on a processor."""
    path = OURS / name
    neutral = c_api.Handle(library, "DeepPot", path.with_suffix(".dp"), engine="native")
    found = c_api.Handle(library, "DeepPot", path, engine="native")
    first = c_api.Handle(library, "DeepPot", path, engine=None)
    given = frame(neutral)
    want = neutral.compute(**given)
    for pot in (found, first):
        assert pot.engine().startswith("native")
        for key, value in pot.compute(**given).items():
            np.testing.assert_array_equal(value, want[key])
        pot.close()
    neutral.close()


@pytest.mark.parametrize("name", ["se_e2_a.hlo", "se_e2_a.pb", "se_e2_a.pth"])
def test_damage_in_all_kinds(library, name, tmp_path):
    """A changed byte in the model is noticed wherever it is."""
    data = bytearray((OURS / name).read_bytes())
    key = b"array_0005" if name != "se_e2_a.hlo" else b"variable_0005"
    at = data.rindex(key) if name == "se_e2_a.hlo" else data.index(key) + 200
    data[at] ^= 1
    path = tmp_path / name
    path.write_bytes(bytes(data))
    with pytest.raises(c_api.CError, match=rf"{name}: .*(checksum|damaged|JSON|read)"):
        c_api.Handle(library, "DeepPot", path, engine="native")


def test_program_of_another_model(library, tmp_path):
    """A neutral model beside a program that it was not written with is refused."""
    path = tmp_path / "m.savedmodel"
    shutil.copytree(OURS / "se_e2_a.savedmodel", path)
    with (path / "saved_model.pb").open("ab") as program:
        program.write(b"\0")
    with pytest.raises(c_api.CError, match="does not belong to the model"):
        c_api.Handle(library, "DeepPot", path, engine="native")


def test_choice_of_the_engine(library):
    refused = {
        ("se_e2_a.dp", "framework"): "no framework opens files of this kind",
        ("dpa3.pth", "native"): "not known to the native engine",
        ("se_e2_a.yaml", "framework"): "no framework opens files of this kind",
        ("se_e2_a.dp", "fast"): "give auto, native or framework",
    }
    for (name, engine), message in refused.items():
        with pytest.raises(c_api.CError, match=message):
            c_api.Handle(library, "DeepPot", OURS / name, engine=engine)
    tensor = c_api.Handle(library, "DeepTensor", OURS / "dipole.pth", engine="native")
    tensor.close()


@pytest.mark.skipif(
    LIBRARY is None or not LIBRARY.with_name("libdeepmd_backend_torch.so").is_file(),
    reason="libdeepmd_backend_torch is not built",
)
def test_frameworks_take_the_rest(library):
    """Models with parts that the engine does not know, and those it is told to leave."""
    pots = [
        c_api.Handle(library, "DeepPot", OURS / "dpa3.pth", engine=None),
        c_api.Handle(library, "DeepPot", OURS / "se_e2_a.pth", engine="framework"),
    ]
    for pot in pots:
        assert pot.engine().startswith("PyTorch")
        pot.close()


def test_damage_is_noticed(library, tmp_path):
    """A file that is cut off, or no model, is named with what is wrong."""
    source = cases.path(cases.named("se_e2_a_oneside"), "dp")
    data = source.read_bytes()
    for name, content in (("cut", data[: len(data) // 2]), ("text", b"x" * 200), ("none", b"")):
        path = tmp_path / f"{name}.dp"
        path.write_bytes(content)
        with pytest.raises(c_api.CError, match=f"{name}.dp: .*HDF5"):
            c_api.Handle(library, "DeepPot", path)
    edited = tmp_path / "edited.dp"
    shutil.copy(source, edited)
    with h5py.File(edited, "r+") as handle:
        handle.attrs["digest"] = "sha256:0"
    with pytest.raises(c_api.CError, match="checksum differs"):
        c_api.Handle(library, "DeepPot", edited)


def test_not_a_number(library):
    case = cases.named("se_e2_a_oneside")
    given = cases.inputs(case, "nopbc")
    given["coords"] = np.where(np.arange(given["coords"].shape[1]) == 4, np.nan, given["coords"])
    pot = c_api.Handle(library, "DeepPot", cases.path(case, "dp"))
    with pytest.raises(c_api.CError, match="finite"):
        pot.compute(**given)
    pot.close()


DAMAGE = """
import sys
from pathlib import Path

import numpy as np

sys.path[:0] = sys.argv[3:]
from cxx import c_api

library = c_api.load(Path(sys.argv[1]))
data = np.frombuffer(Path(sys.argv[2]).read_bytes(), np.uint8)
opened = 0
for seed in range(200):
    rng = np.random.default_rng(seed)
    damaged = data.copy()
    # Half of the damage lies where the structure of the file is, half of it anywhere.
    places = np.concatenate([rng.integers(0, 4096, 3), rng.integers(0, len(data), 3)])
    damaged[places] = rng.integers(0, 256, 6)
    path = Path(sys.argv[2]).with_name("damaged.dp")
    path.write_bytes(damaged.tobytes())
    try:
        pot = c_api.Handle(library, "DeepPot", path)
        pot.compute(np.ones((1, 9)) * np.arange(9), None, np.zeros(3, np.int32))
        pot.close()
        opened += 1
    except c_api.CError as error:
        assert "damaged.dp" in str(error) or "frame" in str(error), error
print("opened", opened)
"""


def test_damaged_bytes(tmp_path):
    """Files with random bytes are refused or opened; the process goes on."""
    source = tmp_path / "model.dp"
    shutil.copy(cases.path(cases.named("se_e2_a_twoside"), "dp"), source)
    folders = [str(Path(__file__).parents[1]), *sys.path]
    command = [sys.executable, "-c", DAMAGE, str(LIBRARY), str(source), *folders]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-1000:]
    assert "opened" in done.stdout
