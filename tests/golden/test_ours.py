# SPDX-License-Identifier: LGPL-3.0-or-later
"""Files that earlier versions wrote open as they did, and trainings go on from them."""

import re

import pytest
from cxx import backend_abi, c_api
from golden.make_ours import (
    KINDS,
    OURS,
    STEPS,
    TOLERANCE,
    TRAININGS,
    check_checkpoint,
    check_model,
    checkpoint_name,
    make,
    tolerance,
    training_name,
)

VERSIONS = sorted(p for p in OURS.iterdir() if re.fullmatch(r"v\d+", p.name))
FILES = [f for v in VERSIONS for f in sorted((v / "models").iterdir())]
PACKAGES = {
    **dict.fromkeys((".pth", "--pt"), ("torch",)),
    **dict.fromkeys((".hlo", "--jax"), ("jax", "optax", "flatbuffers")),
    ".savedmodel": ("jax", "optax"),
    **dict.fromkeys((".pb", ".savedmodeltf", "--tf"), ("tensorflow",)),
}
#: Backends of the C++ library by the suffixes that they open.
NATIVE = {".pth": "torch", **dict.fromkeys((".pb", ".savedmodel", ".savedmodeltf"), "tensorflow")}
#: What is compiled for the sizes of the frames.
COMPILED = (".hlo", ".savedmodel")


def need(kind):
    """Skip the test where a package that a format or backend takes is missing."""
    for package in PACKAGES.get(kind, ()):
        pytest.importorskip(package)


def of_version(path):
    return "/".join(path.relative_to(OURS).parts[::2])


@pytest.mark.parametrize("file", FILES, ids=of_version)
def test_model_file(file, request):
    need(file.suffix)
    if file.suffix in COMPILED:
        request.getfixturevalue("quick_programs")
    if file.suffix == ".savedmodeltf":  # evaluated by its dictionary; C++ runs its program
        request.getfixturevalue("eager_functions")
    assert check_model(file.parents[1], file) <= tolerance(file.stem)


def native_files():
    """Files whose programs the C++ library runs: not graphs of spins, populations, nor fragments."""
    without = ("population", "pairwise_dprc")
    found = [f for f in FILES if f.suffix in NATIVE and f.stem not in without]
    return [f for f in found if f.suffix == ".pth" or f.stem != "spin"]


@pytest.mark.parametrize("file", native_files(), ids=of_version)
def test_model_file_in_cxx(file):
    """Opening compares the results with the probes in the file."""
    library = backend_abi.find_library("libdeepmd_c.so")
    name = f"libdeepmd_backend_{NATIVE[file.suffix]}.so"
    if library is None or not library.with_name(name).is_file():
        pytest.skip(f"libdeepmd_c and {name} are not built")
    kind = {"spin": "DeepSpin", "dipole": "DeepTensor"}.get(file.stem, "DeepPot")
    c_api.Handle(c_api.load(library), kind, file).close()


OTHER_STATE = ("lora", "average")
CHECKPOINTS = [
    pytest.param(
        v / training_name(kind),
        flag,
        id=f"{v.name}-{kind}{flag}",
        # What is stored besides is the same on every backend; these two compile for seconds.
        marks=[pytest.mark.slow] if kind in OTHER_STATE and flag in ("--jax", "--tf") else [],
    )
    for v in VERSIONS
    for kind in KINDS
    for flag in TRAININGS
    if (v / training_name(kind) / checkpoint_name(STEPS - 1, flag)).exists()
]


@pytest.mark.parametrize(("folder", "flag"), CHECKPOINTS)
def test_checkpoint(folder, flag, request):
    """One more step from a stored checkpoint ends where it ended then."""
    need(flag)
    if flag == "--jax":
        request.getfixturevalue("quick_programs")
    assert check_checkpoint(folder, flag) <= TOLERANCE


#: Versions with files of everything, not of what was new.
WHOLE = [v for v in VERSIONS if (v / "training").is_dir()]


@pytest.mark.parametrize("version", WHOLE, ids=lambda p: p.name)
def test_there_is_a_file_of_each_kind(version):
    kinds = {".dp", ".yaml", ".pth", ".hlo"}
    checkpoints = {".dp", ".pt", ".jax"}
    if version.name != "v1":
        kinds |= {".pb", ".savedmodel", ".savedmodeltf"}
        checkpoints |= {s for suffixes in TRAININGS.values() for s in suffixes}
    assert {f.suffix for f in (version / "models").iterdir()} >= kinds
    assert {f.suffix for f in (version / "training").glob("model.ckpt-*")} >= checkpoints


@pytest.mark.slow  # writes a whole version: four trainings and all kinds of files
def test_a_new_version_is_made(tmp_path):
    for kind in ("--pt", "--jax", "--tf"):
        need(kind)
    make(tmp_path / "v0", names=("se_e2_a", "dipole"), trainings=("",))
    assert (tmp_path / "v0" / "values.npz").is_file()
    with pytest.raises(SystemExit, match="golden files are kept"):
        make(tmp_path / "v0")
