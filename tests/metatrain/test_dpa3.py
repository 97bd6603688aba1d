# SPDX-License-Identifier: LGPL-3.0-or-later
"""metatrain's own architecture of DPA-3, unmodified, on this package; skipped without metatrain.

Its tests are run with structures of ours. Its checkpoints hold arrays by the names of DeePMD-kit.
"""

import copy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from ase.io import read
from metatomic.torch import load_atomistic_model
from metatomic_ase import MetatomicCalculator
from metatrain.experimental.dpa3.tests import MODEL_HYPERS, test_basic, test_pretrained
from metatrain.experimental.dpa3.tests.test_precision import *  # noqa: F403
from metatrain.experimental.dpa3.tests.test_pretrained import *  # noqa: F403
from metatrain.utils.io import load_model

from deepmd.dpmodel.model import Model
from deepmd.infer import DeepPot
from deepmd.np.evaluator import NumPyEvaluator
from tests.metatrain.conftest import write_molecules

pytestmark = [
    pytest.mark.slow,  # dozens of models, and graphs of some of them
    pytest.mark.filterwarnings("ignore"),  # those of metatrain
]


@pytest.fixture(autouse=True)
def _structures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of ours, where its tests read a file that is not installed with it."""
    path = write_molecules(tmp_path / "molecules.xyz", forces=False)
    monkeypatch.setattr(test_pretrained, "DATASET_PATH", str(path))


class Data:
    """Structures for its tests."""

    @pytest.fixture
    def dataset_path(self, tmp_path: Path) -> str:
        return str(write_molecules(tmp_path / "data.xyz", forces=False))

    @pytest.fixture
    def dataset_targets(self, dataset_path: str) -> dict:
        target = {"quantity": "energy", "read_from": dataset_path, "reader": "ase"}
        target |= {"key": "energy", "unit": "eV", "type": "scalar", "sample_kind": "system"}
        target |= {"num_subtargets": 1, "forces": False, "stress": False, "virial": False}
        return {"energy": {**target, "description": ""}}


class TestInput(Data, test_basic.TestInput):
    pass


class TestOutput(Data, test_basic.TestOutput):
    pass


class TestAutograd(Data, test_basic.TestAutograd):
    pass


class TestTorchscript(Data, test_basic.TestTorchscript):
    pass


class TestExported(Data, test_basic.TestExported):
    pass


class TestTraining(Data, test_basic.TestTraining):
    pass


class TestCheckpoints(Data, test_basic.TestCheckpoints):
    @pytest.fixture(autouse=True)
    def here(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Its checkpoints lie beside its tests."""
        monkeypatch.chdir(Path(test_basic.__file__).parent)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of ``mtt train`` with energies and forces."""
    folder = tmp_path_factory.mktemp("dpa3")
    write_molecules(folder / "data.xyz", forces=True)
    model = copy.deepcopy(MODEL_HYPERS)
    small = {"n_dim": 4, "e_dim": 3, "a_dim": 3, "nlayers": 2, "axis_neuron": 2}
    small |= {"e_rcut": 4.0, "e_rcut_smth": 1.0, "a_rcut": 3.0, "a_rcut_smth": 1.0}
    model["descriptor"]["repflow"] |= small
    model["descriptor"]["precision"] = model["fitting_net"]["precision"] = 64
    model["fitting_net"]["neuron"] = [4, 4]
    options = {
        "seed": 1,
        "base_precision": 64,
        "architecture": {
            "name": "experimental.dpa3",
            "model": model,
            "training": {"num_epochs": 2, "batch_size": 4},
        },
        "training_set": {
            "systems": {"read_from": "data.xyz", "length_unit": "angstrom"},
            "targets": {"energy": {"unit": "eV", "key": "energy", "forces": {"key": "forces"}}},
        },
        "validation_set": 0.2,
        "test_set": 0.0,
    }
    (folder / "options.yaml").write_text(yaml.safe_dump(options))
    (folder / "eval.yaml").write_text(yaml.safe_dump({"systems": {"read_from": "data.xyz"}}))
    for command in ("train options.yaml", "eval model.pt eval.yaml"):
        line = [sys.executable, "-m", "metatrain", *command.split()]
        done = subprocess.run(
            line, cwd=folder, capture_output=True, text=True, check=False, timeout=300
        )
        assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    return folder


def test_export_has_the_numbers_of_deep_pot(trained: Path) -> None:
    """The exported model in ASE: DeepPot times metatrain's scale, and its energies of the types."""
    model = load_model(str(trained / "model.ckpt"))
    neutral = Model.deserialize(model.model.serialize())
    potential = DeepPot.from_evaluator(NumPyEvaluator(neutral))
    calculator = MetatomicCalculator(load_atomistic_model(str(trained / "model.pt")))
    found, rows = [], []
    frames = read(trained / "data.xyz", ":4")
    for atoms in frames:
        atoms.set_cell(atoms.cell * 0.5, scale_atoms=False)  # images are neighbors, too
        index = [potential.get_type_map().index(s) for s in atoms.symbols]
        energy, force, _ = potential.eval(atoms.positions, atoms.cell[:], index)
        atoms.calc = calculator
        ratio = atoms.get_forces() / force[0]
        scale = ratio.mean()
        np.testing.assert_allclose(ratio, scale, rtol=1e-6)
        found.append(atoms.get_potential_energy() - scale * energy[0, 0])
        rows.append(np.bincount(index, minlength=3))
    offsets, *_ = np.linalg.lstsq(np.array(rows, dtype=float), np.array(found), rcond=None)
    np.testing.assert_allclose(np.array(rows) @ offsets, found, rtol=1e-10)
    evaluated = read(trained / "output.xyz", ":4")
    assert all(np.isfinite(atoms.get_potential_energy()) for atoms in evaluated)
