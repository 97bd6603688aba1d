# SPDX-License-Identifier: LGPL-3.0-or-later
"""Sums over fragments through the C interface: numbers of DeePMD-kit, programs, bad input."""

import numpy as np
import pytest
from cxx import backend_abi, c_api
from dpmodel.test_pairwise import DESCRIPTOR, FITTING, SECTION, TYPES, batch, section
from graphs.test_files import FILES

from deepmd.backend.detect import backend_of
from deepmd.dpmodel.model import build_model
from deepmd.graphs.files import read_pb
from deepmd.infer import DeepPot
from deepmd.np.evaluator import NumPyEvaluator
from deepmd.runtime.probes import model_file_dict

LIBRARY = backend_abi.find_library("libdeepmd_c.so")
pytestmark = pytest.mark.skipif(
    LIBRARY is None or not LIBRARY.with_name("libdeepmd_backend_native.so").is_file(),
    reason="libdeepmd_c and libdeepmd_backend_native are not built, or DEEPMD_TEST_LIB not set",
)
NAMES = ("energy", "force", "virial", "atom_energy", "atom_virial")


@pytest.fixture(scope="module")
def library():
    return c_api.load(LIBRARY)


def written(path, model, script=None):
    """Write a model into a file of the kind that its suffix names."""
    data = model_file_dict(model, script or SECTION, None, "NumPy")
    backend_of(str(path)).deserialize_hook(str(path), data)
    return path


@pytest.fixture(scope="module")
def golden(tmp_path_factory):
    tree = read_pb(FILES / "tf_pairwise.pb")
    path = tmp_path_factory.mktemp("golden") / "pairwise.dp"
    backend_of(str(path)).deserialize_hook(str(path), tree)
    return path


def compare(found, want, tolerance=1e-10):
    for name in NAMES:
        expected = np.asarray(want[name])
        allowed = tolerance * max(float(np.abs(expected).max()), 0.01)
        got = np.asarray(found[name]).reshape(expected.shape)
        assert np.abs(got - expected).max() <= allowed, name


def test_golden(library, golden):
    pot, stored = c_api.Handle(library, "DeepPot", golden), np.load(FILES / "tf_pairwise.npz")
    assert pot.get("GetDimAParam") == 1 and pot.get("GetCutoff") == 5.0
    for name in sorted({key.partition("/")[0] for key in stored}):
        found = pot.compute(
            stored[f"{name}/coord"],
            stored[f"{name}/box"],
            stored[f"{name}/atype"],
            aparam=stored[f"{name}/aparam"],
        )
        compare(found, {k: stored[f"{name}/out/{k}"] for k in NAMES})


def test_python_evaluates_with_it(golden):
    stored, pot = np.load(FILES / "tf_pairwise.npz"), DeepPot(golden, engine="native")
    found = pot.eval(
        *(stored[f"ignored/{k}"] for k in ("coord", "box", "atype")),
        aparam=stored["ignored/aparam"],
        atomic=True,
    )
    found = dict(
        zip(("energy", "force", "virial", "atom_energy", "atom_virial"), found, strict=True)
    )
    compare(found, {k: stored[f"ignored/out/{k}"] for k in NAMES})


@pytest.mark.parametrize("suffix", [".dp", ".pth"])
def test_a_part_with_a_program(library, tmp_path, suffix):
    """One of the models is not known to the engine by hand; the bias of the whole is not zero."""
    pytest.importorskip("torch")
    se = {k: v for k, v in DESCRIPTOR.items() if k != "attn_layer"} | {"type": "se_e2_a"}
    qm = {"descriptor": se | {"sel": [10, 10, 10]}, "fitting_net": FITTING}
    model = build_model(section(qm_model=qm))
    model.atomic_model.out_bias[0, :, 0] = [1.0, -2.0, 0.5]
    some = batch()
    want = NumPyEvaluator(model).evaluate(some, derivatives=("force", "virial", "atom_virial"))
    pot = c_api.Handle(library, "DeepPot", written(tmp_path / f"m{suffix}", model))
    n = len(TYPES)
    found = pot.compute(
        some.coord.reshape(2, -1),
        np.array(some.cell).reshape(2, 9),
        TYPES,
        aparam=some.aparam.reshape(2, n),
    )
    compare(found, want)
    with pytest.raises(c_api.CError, match=r"region \(aparam\) of atom 2 is 0.5"):
        pot.compute(
            some.coord[:n].reshape(1, -1),
            np.array(some.cell[:1]).reshape(1, 9),
            TYPES,
            aparam=np.where(np.arange(n) == 2, 0.5, 0.0)[None],
        )
