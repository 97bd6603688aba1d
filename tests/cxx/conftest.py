# SPDX-License-Identifier: LGPL-3.0-or-later
"""Parts of the C++ library as a small library of their own, built from the sources."""

import ctypes
import shutil
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).parent
SOURCE = HERE.parents[1] / "source"


@pytest.fixture(scope="session")
def shim(tmp_path_factory):
    compiler = shutil.which("g++") or shutil.which("c++")
    if compiler is None:
        pytest.skip("there is no C++ compiler")
    target = tmp_path_factory.mktemp("shim") / "libshim.so"
    core = (SOURCE / "core" / f"{name}.cc" for name in ("packing", "pairs", "pairs_c"))
    subprocess.run(
        [
            *(compiler, "-std=c++17", "-O1", "-shared", "-fPIC", "-Wall", "-Wextra", "-Werror"),
            *("-I", str(SOURCE), "-I", str(SOURCE / "api_cc" / "include")),
            *map(str, (HERE / "shim.cc", *core)),
            *("-o", str(target)),
        ],
        check=True,
    )
    return ctypes.CDLL(str(target))
