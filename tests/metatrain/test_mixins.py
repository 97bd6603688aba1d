# SPDX-License-Identifier: LGPL-3.0-or-later
"""Tests that metatrain has for every architecture; skipped where it is not installed."""

from pathlib import Path

import pytest
import torch
from metatrain.utils.testing import (
    ArchitectureTests,
    AutogradTests,
    CheckpointTests,
    ExportedTests,
    InputTests,
    OutputTests,
    TorchscriptTests,
    TrainingTests,
)

from deepmd.metatrain import ARCHITECTURE
from tests.metatrain.conftest import write_molecules

pytestmark = [
    pytest.mark.slow,  # dozens of small models, and graphs of some of them
    pytest.mark.filterwarnings("ignore"),  # those of metatrain
]
SMALL = {
    "descriptor": {
        **{"type": "se_atten_v2", "rcut": 4.0, "rcut_smth": 1.0, "sel": 400},
        **{"neuron": [2, 4], "axis_neuron": 2, "attn_layer": 0, "seed": 1},
    },
    "fitting_net": {"neuron": [4], "seed": 1},
}


class Base(ArchitectureTests):
    """Small models, and data of our own."""

    architecture = ARCHITECTURE

    @pytest.fixture
    def minimal_model_hypers(self, default_hypers):
        return {**default_hypers["model"], **SMALL}

    @pytest.fixture
    def model_hypers(self, minimal_model_hypers):
        return minimal_model_hypers

    @pytest.fixture
    def dataset_path(self, tmp_path: Path):
        return str(write_molecules(tmp_path / "data.xyz", forces=False))

    @pytest.fixture
    def dataset_targets(self, dataset_path):
        target = {"quantity": "energy", "read_from": dataset_path, "reader": "ase"}
        target |= {"key": "energy", "unit": "eV", "type": "scalar", "sample_kind": "system"}
        target |= {"num_subtargets": 1, "forces": False, "stress": False, "virial": False}
        return {"energy": {**target, "description": ""}}


class TestInput(Base, InputTests):
    pass


class TestOutput(Base, OutputTests):
    supports_multiscalar_outputs = False
    supports_scalar_outputs = False
    supports_vector_outputs = False
    supports_spherical_outputs = False
    supports_features = False
    supports_last_layer_features = False


class TestAutograd(Base, AutogradTests):
    pass


class TestTorchscript(Base, TorchscriptTests):
    supports_spherical_outputs = False

    def jit_compile(self, model):
        return torch.jit.script(model.scriptable())

    def test_torchscript_dtypechange(self):
        pytest.skip("a compiled model keeps the number formats of its section")


class TestExported(Base, ExportedTests):
    pass


class TestTraining(Base, TrainingTests):
    check_gradients = False
    supports_atomic_basis = False


class TestCheckpoints(Base, CheckpointTests):
    """Checkpoints of all versions are in the folder ``checkpoints`` beside this file."""

    @pytest.fixture(autouse=True)
    def here(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.chdir(Path(__file__).parent)
