# SPDX-License-Identifier: LGPL-3.0-or-later
"""Components that a package writes for PyTorch train, restart, freeze and are evaluated."""

from pathlib import Path

import numpy as np
import pytest
from train.helpers import Workspace

pytest.importorskip("torch")

from deepmd.base.errors import InputError
from deepmd.infer import DeepPot
from deepmd.main import main
from tests.plugins.conftest import on_path

DESCRIPTOR = {"type": "some", "rcut": 3.5}
MODELS = {
    "descriptor": {"descriptor": DESCRIPTOR, "fitting_net": {"neuron": [4, 4], "seed": 1}},
    "energy": {
        "descriptor": DESCRIPTOR,
        "fitting_net": {"type": "some_energy", "neuron": [4], "seed": 1},
    },
    "fitting": {
        "descriptor": DESCRIPTOR,
        "fitting_net": {"type": "some_fitting", "width": 3, "seed": 1},
    },
    "model": {"type": "some_model", "rcut": 3.5, "sel": 60},
}


@pytest.fixture(params=MODELS, scope="module")
def trained(request, toy: Path, tmp_path_factory: pytest.TempPathFactory):
    """Folder with a training of four steps, its second half once more after a restart, frozen."""
    work = Workspace(tmp_path_factory.mktemp("run"))
    config = work.config(numb_steps=4, save_freq=2, validation_data=None)
    config["model"] = {"type_map": ["A", "B"], **MODELS[request.param]}
    with on_path(toy), pytest.MonkeyPatch.context() as patch:
        patch.chdir(work.path)
        main(["--pt", "train", work.write(config)])
        Path("model.ckpt-4.pt").rename("whole.pt")
        main(["--pt", "train", "input.json", "--restart", "model.ckpt-2.pt"])
        main(["--pt", "freeze", "-o", "model.pth"])
        yield


def test_files_give_what_was_trained(trained):
    """Checkpoint, ``.pth`` and ``.dp`` agree; ``dp test`` and ASE take the file."""
    main(["convert-backend", "model.pth", "model.dp"])
    coord, atype = np.random.default_rng(1).uniform(0, 4, (6, 3)), [0, 1, 0, 1, 1, 0]
    names = ("model.ckpt-4.pt", "model.pth", "model.dp")
    results = [DeepPot(name).eval(coord, 8.0 * np.eye(3), atype, atomic=True) for name in names]
    assert np.abs(results[0][1]).max() > 1e-6
    for other in results[1:]:
        for a, b in zip(other, results[0], strict=True):
            np.testing.assert_allclose(a, b, rtol=0, atol=1e-10)
    main(["test", "-m", "model.pth", "-s", "a", "-n", "2"])
    ase = pytest.importorskip("ase")
    from deepmd.calculator import DP

    atoms = ase.Atoms("H6", coord, cell=8.0 * np.eye(3), pbc=True)
    atoms.calc = DP("model.pth", type_dict={"H": 0})
    assert np.isfinite(atoms.get_forces()).all()


def test_files_name_the_plugin(trained):
    """Without it they say what to install."""
    with on_path(), pytest.raises(InputError, match=r"deepmd-toy 1\.2: pip install deepmd-toy"):
        DeepPot("model.pth")


def test_a_restart_is_exact(trained):
    """Two steps and two more are four steps, bit for bit."""
    whole, halves = (DeepPot(name).model.serialize() for name in ("whole.pt", "model.ckpt-4.pt"))
    np.testing.assert_equal(halves, whole)
