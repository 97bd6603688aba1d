# SPDX-License-Identifier: LGPL-3.0-or-later
"""dp doctor: what is there, what is not, and what was built and does not load."""

import sys

import pytest

from deepmd import __version__
from deepmd.base import native
from deepmd.entrypoints import doctor


@pytest.fixture
def nothing_built(monkeypatch, tmp_path):
    monkeypatch.setattr(native, "_PACKAGE", tmp_path)
    return tmp_path


def test_what_is_there(dp):
    done = dp("doctor")
    assert done.code == 0, done.out
    assert f"ok  DeePMD-kit         {__version__}" in done.out
    assert sys.executable in done.out
    for name in ("PyTorch", "JAX", "GPU", "C and C++ library", "LAMMPS plugin", "i-PI driver"):
        assert name in done.out


def test_what_is_missing_says_how_to_get_it(dp, nothing_built):
    done = dp("doctor")
    assert done.code == 0
    assert native.library_dir() is native.include_dir() is native.bin_dir() is None
    lines = done.out.splitlines()
    for name in ("C and C++ library", "LAMMPS plugin", "i-PI driver"):
        at = next(i for i, line in enumerate(lines) if line.startswith(f"--  {name}"))
        assert "not built" in lines[at]
        assert "to get it: " in lines[at + 1] and "pip install" in lines[at + 1]


def test_a_missing_package_says_how_to_get_it(dp, monkeypatch, nothing_built):
    monkeypatch.setattr(doctor, "_version", lambda package: None)
    done = dp("doctor")
    assert done.code == 0
    assert 'to get it: pip install "deepmd-kit[torch]"' in done.out
    assert "to get it: pip install vesin" in done.out


@pytest.mark.parametrize("name", ["deepmd_c", "deepmd_backend_torch"])
def test_what_does_not_load_is_an_error(dp, nothing_built, name):
    (nothing_built / "lib").mkdir()
    (nothing_built / "lib" / f"lib{name}.so").write_bytes(b"no library")
    done = dp("doctor")
    assert done.code == 1
    assert "!!  " in done.out and "does not load" in done.out
    assert done.errors[-1].startswith("dp: dp doctor: built, but not working: ")


def test_a_driver_that_does_not_start_is_an_error(dp, nothing_built):
    (nothing_built / "bin").mkdir()
    driver = nothing_built / "bin" / "dp_ipi"
    driver.write_text("#!/bin/sh\necho libxyz.so is missing >&2\nexit 127\n")
    driver.chmod(0o755)
    done = dp("doctor")
    assert done.code == 1
    assert "i-PI driver        does not start: libxyz.so is missing" in done.out


def test_folders_of_what_was_built(nothing_built):
    for file in ("lib/libdeepmd_c.so", "include/deepmd/c_api.h", "bin/dp_ipi"):
        (nothing_built / file).parent.mkdir(parents=True)
        (nothing_built / file).touch()
    assert native.library_dir() == nothing_built / "lib"
    assert native.include_dir() == nothing_built / "include"
    assert native.bin_dir() == nothing_built / "bin"
    assert native.library("deepmd_c") == nothing_built / "lib" / "libdeepmd_c.so"
    assert native.library("deepmd_cc") is None
