# SPDX-License-Identifier: LGPL-3.0-or-later
"""Programs with operators of a plugin in C++: its library is named by DP_PLUGIN_PATH."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from cxx import backend_abi as abi  # noqa: E402
from golden.make_ours import OURS  # noqa: E402

from deepmd.io.archive import packed, read_archive  # noqa: E402

HERE = Path(__file__).parent
LIBRARY = abi.find_library("libdeepmd_backend_torch.so")
pytestmark = pytest.mark.skipif(
    LIBRARY is None, reason="libdeepmd_backend_torch is not built, or DEEPMD_TEST_LIB not set"
)
SOURCE = OURS / "v2" / "models" / "se_e2_a.pth"
#: A process without PyTorch's Python: open a file, print what went wrong.
OPEN = """
import json, sys
from pathlib import Path
from cxx import c_api
library = c_api.load(Path(sys.argv[1]).with_name("libdeepmd_c.so"))
try:
    pot = c_api.Handle(library, "DeepPot", Path(sys.argv[2]))
    found = pot.compute(coords=[[0, 0, 0, 1, 0.1, 0]], cells=None, atom_types=[0, 1])
    print(json.dumps(found["force"].ravel().tolist()))
except c_api.CError as error:
    print(json.dumps(str(error)))
"""


def opened(path, plugins=None):
    """Forces of two atoms, or the message of the library."""
    env = {k: v for k, v in os.environ.items() if k != "DP_PLUGIN_PATH"}
    env["PYTHONPATH"] = os.pathsep.join([str(HERE.parent), env.get("PYTHONPATH", "")])
    if plugins is not None:
        env["DP_PLUGIN_PATH"] = str(plugins)
    command = [sys.executable, "-c", OPEN, str(LIBRARY), str(path)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    """A file whose program calls an operator of a plugin, which changes nothing."""
    records = dict(read_archive(SOURCE))
    entry = re.compile(rb"(def forward_edges\(self: .*?\) -> Dict\[str, Tensor\]:\n)", re.S)
    changed = 0
    for name, code in records.items():
        if name.endswith(".py"):
            records[name], n = entry.subn(rb"\1    vec = ops.deepmd_toy.same(vec)\n", code)
            changed += n
    assert changed >= 1
    path = tmp_path_factory.mktemp("pth") / "model.pth"
    path.write_bytes(packed(records, path).getvalue())
    return path


def test_operators_are_refused_without_their_library(program, tmp_path):
    """The line names the operator and the variable; so does one for a library that is not there."""
    assert re.search(r"model\.pth: .*deepmd_toy::same.*DP_PLUGIN_PATH", opened(program))
    missing = opened(program, tmp_path / "none.so")
    assert re.search(r"DP_PLUGIN_PATH: .*none\.so cannot be loaded .*; ", missing)


@pytest.mark.slow  # compiles with the headers of PyTorch
def test_operators_of_a_loaded_library(program, tmp_path):
    compiler = shutil.which("g++") or shutil.which("c++")
    if compiler is None:
        pytest.skip("there is no C++ compiler")
    root, target = Path(torch.__file__).parent, tmp_path / "libtoy.so"
    command = [compiler, "-std=c++17", "-shared", "-fPIC", str(HERE / "operators.cc")]
    command += ["-isystem", str(root / "include"), "-o", str(target), f"-L{root / 'lib'}"]
    command += ["-ltorch_cpu", "-lc10", f"-Wl,-rpath,{root / 'lib'}"]
    subprocess.run(command, check=True)
    found = opened(program, f"{target}:{target}")
    assert found == opened(SOURCE) and max(map(abs, found)) > 1e-3
