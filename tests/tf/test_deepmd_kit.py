# SPDX-License-Identifier: LGPL-3.0-or-later
"""SavedModels of ours in DeePMD-kit itself.

``DEEPMD_TEST_DEEPMD_KIT`` names the Python of an environment with DeePMD-kit, its JAX and TensorFlow.
"""

import json
import os
import subprocess

import numpy as np
import pytest
from golden.cases import inputs, named, path

from deepmd.entrypoints.convert_backend import convert_backend

PEER = os.environ.get("DEEPMD_TEST_DEEPMD_KIT")
SCRIPT = """
import json, sys
import numpy as np
from deepmd.infer import DeepPot
given = np.load(sys.argv[2])
out = DeepPot(sys.argv[1]).eval(given["coord"], given["box"], given["atype"], atomic=True)
np.savez(sys.argv[3], *out)
"""


@pytest.mark.slow
@pytest.mark.skipif(PEER is None, reason="DEEPMD_TEST_DEEPMD_KIT names no Python")
@pytest.mark.parametrize("suffix", ["savedmodel", "savedmodeltf"])
@pytest.mark.parametrize("name", ["se_e2_a_oneside", "dpa3_basic"])
def test_its_python_gives_our_numbers(name, suffix, tmp_path):
    from golden.cases import _arrays

    case, model = named(name), tmp_path / f"model.{suffix}"
    convert_backend(INPUT=str(path(case, "dp")), OUTPUT=str(model))
    given, stored = inputs(case, "pbc"), _arrays(case["npz"])
    np.savez(
        tmp_path / "in.npz",
        coord=given["coords"],
        box=given["cells"],
        atype=given["atom_types"],
    )
    files = [str(model), str(tmp_path / "in.npz"), str(tmp_path / "out.npz")]
    clean = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    subprocess.run([str(PEER), "-c", SCRIPT, *files], check=True, cwd=tmp_path, env=clean)
    found = np.load(files[-1])
    for key, got in zip(("energy", "force", "virial", "atom_energy"), found.values(), strict=False):
        want = stored[f"pbc/out/{key}"]
        scale = max(float(np.abs(want).max()), 0.01)
        assert float(np.abs(got.reshape(want.shape) - want).max()) <= 1e-10 * scale, key
    assert (
        json.loads((model / "assets.extra" / "metadata.json").read_text())["rcut"] == case["rcut"]
    )
