# SPDX-License-Identifier: LGPL-3.0-or-later
"""Files that earlier versions wrote open as they did, and trainings go on from them."""

import re

import pytest
from cxx import backend_abi, c_api
from golden.make_ours import OURS, TOLERANCE, TRAININGS, check_checkpoint, check_model, make

VERSIONS = sorted(p for p in OURS.iterdir() if re.fullmatch(r"v\d+", p.name))
FILES = [f for v in VERSIONS for f in sorted((v / "models").iterdir())]
PACKAGES = {
    **dict.fromkeys((".pth", "--pt"), ("torch",)),
    **dict.fromkeys((".hlo", "--jax"), ("jax", "optax", "flatbuffers")),
}


def need(kind):
    """Skip the test where a package that a format or backend takes is missing."""
    for package in PACKAGES.get(kind, ()):
        pytest.importorskip(package)


def of_version(path):
    return "/".join(path.relative_to(OURS).parts[::2])


@pytest.mark.parametrize("file", FILES, ids=of_version)
def test_model_file(file, request):
    need(file.suffix)
    if file.suffix == ".hlo":
        request.getfixturevalue("quick_programs")
    assert check_model(file.parents[1], file) <= TOLERANCE


@pytest.mark.parametrize("file", [f for f in FILES if f.suffix == ".pth"], ids=of_version)
def test_model_file_in_cxx(file):
    """Opening compares the results with the probes in the file."""
    library = backend_abi.find_library("libdeepmd_c.so")
    if library is None or not library.with_name("libdeepmd_backend_torch.so").is_file():
        pytest.skip("libdeepmd_c and libdeepmd_backend_torch are not built")
    kind = {"spin": "DeepSpin", "dipole": "DeepTensor"}.get(file.stem, "DeepPot")
    c_api.Handle(c_api.load(library), kind, file).close()


@pytest.mark.parametrize("flag", TRAININGS)
@pytest.mark.parametrize("version", VERSIONS, ids=lambda p: p.name)
def test_checkpoint(version, flag, request):
    """One more step from a stored checkpoint ends where it ended then."""
    need(flag)
    if flag == "--jax":
        request.getfixturevalue("quick_programs")
    assert check_checkpoint(version / "training", flag) <= TOLERANCE


@pytest.mark.parametrize("version", VERSIONS, ids=lambda p: p.name)
def test_there_is_a_file_of_each_kind(version):
    kinds = {f.suffix for f in (version / "models").iterdir()}
    assert kinds >= {".dp", ".yaml", ".pth", ".hlo"}
    assert {f.suffix for f in (version / "training").glob("model.ckpt-*")} >= {".dp", ".pt", ".jax"}


@pytest.mark.slow  # writes a whole version: three trainings and two compiled files
def test_a_new_version_is_made(tmp_path):
    for kind in ("--pt", "--jax"):
        need(kind)
    make(tmp_path / "v0", names=("se_e2_a", "dipole"))
    assert (tmp_path / "v0" / "values.npz").is_file()
    with pytest.raises(SystemExit, match="golden files are kept"):
        make(tmp_path / "v0")
