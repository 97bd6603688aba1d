# SPDX-License-Identifier: LGPL-3.0-or-later
"""Training with metatrain's data and command, and its exported model; skipped without metatrain."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from ase.io import read
from metatensor.torch import Labels, TensorBlock
from metatomic.torch import System, load_atomistic_model
from metatomic_ase import MetatomicCalculator
from metatrain.utils.data import DatasetInfo
from metatrain.utils.data.target_info import get_energy_target_info, get_generic_target_info
from metatrain.utils.io import model_from_checkpoint

from deepmd.base.errors import InputError
from deepmd.dpmodel.model import build_model
from deepmd.infer import DeepPot
from deepmd.metatrain import ARCHITECTURE
from deepmd.metatrain.energies import AtomEnergies
from deepmd.metatrain.hypers import default_hypers
from deepmd.metatrain.model import DeepMD
from deepmd.np.evaluator import NumPyEvaluator
from deepmd.pt.lift import convert
from deepmd.pt.torchscript.energies import LiftedCore
from tests.metatrain.conftest import write_molecules

pytestmark = [
    pytest.mark.slow,  # a process that imports PyTorch, and a graph of the model
    pytest.mark.filterwarnings("ignore"),  # those of metatrain
]
MODEL = {
    "descriptor": {
        **{"type": "se_e2_a", "rcut": 4.0, "rcut_smth": 1.0, "sel": [20, 20, 20]},
        **{"neuron": [3, 6], "axis_neuron": 2, "seed": 1},
    },
    "fitting_net": {"neuron": [6, 6], "seed": 1},
}
TWO_TYPES = {**MODEL, "descriptor": {**MODEL["descriptor"], "sel": [20, 20]}}
TRAINING = {
    "num_epochs": 4,
    "batch_size": 4,
    "checkpoint_interval": 2,
    "energy_loss": {"start_pref_v": 1.0, "limit_pref_v": 1.0},
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of ``mtt train`` on energies with offsets, forces and stress."""
    folder = tmp_path_factory.mktemp("metatrain")
    write_molecules(folder / "data.xyz", forces=True)
    energy = {"unit": "eV", "key": "energy", "forces": {"key": "forces"}}
    energy["stress"] = {"key": "stress"}
    options = {
        "seed": 1,
        "architecture": {"name": ARCHITECTURE, "model": MODEL, "training": TRAINING},
        "training_set": {
            "systems": {"read_from": "data.xyz", "length_unit": "angstrom"},
            "targets": {"energy": energy},
        },
        "validation_set": 0.2,
        "test_set": 0.0,
    }
    (folder / "options.yaml").write_text(yaml.safe_dump(options))
    command = [sys.executable, "-m", "metatrain", "train", "options.yaml"]
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    return folder


def our_potential(path: Path) -> DeepPot:
    """Open the model of a checkpoint with our own evaluation."""
    checkpoint = torch.load(path, weights_only=False)
    model = model_from_checkpoint(checkpoint, "export")
    return DeepPot.from_evaluator(NumPyEvaluator(model.neutral()))


def test_export_has_the_numbers_of_deep_pot(trained: Path) -> None:
    """ASE with the exported model: energy, forces, stress, energies of atoms."""
    potential = our_potential(trained / "model.ckpt")
    calculator = MetatomicCalculator(load_atomistic_model(str(trained / "model.pt")))
    for atoms in read(trained / "data.xyz", ":4"):
        atoms.set_cell(atoms.cell * 0.5, scale_atoms=False)  # images are neighbors, too
        index = [potential.get_type_map().index(s) for s in atoms.symbols]
        energy, force, virial = potential.eval(atoms.positions, atoms.cell[:], index)
        atoms.calc = calculator
        np.testing.assert_allclose(atoms.get_potential_energy(), energy[0, 0], rtol=1e-13)
        np.testing.assert_allclose(atoms.get_forces(), force[0], rtol=0, atol=1e-10)
        stress = -virial.reshape(3, 3) / atoms.cell.volume
        np.testing.assert_allclose(atoms.get_stress(voigt=False), stress, rtol=0, atol=1e-10)


def test_i_pi_has_the_numbers_of_deep_pot(trained: Path, tmp_path: Path) -> None:
    """The driver that i-PI has for exported models: energy, forces, virial in atomic units."""
    driver = pytest.importorskip("ipi.pes.metatomic")
    units = pytest.importorskip("ipi.utils.units")
    potential = our_potential(trained / "model.ckpt")
    atoms = read(trained / "data.xyz", "0")
    atoms.set_cell(atoms.cell * 0.5, scale_atoms=False)
    atoms.write(tmp_path / "template.xyz")
    index = [potential.get_type_map().index(s) for s in atoms.symbols]
    made = driver.MetatomicDriver(
        template=str(tmp_path / "template.xyz"), model=str(trained / "model.pt")
    )
    length = units.unit_to_internal("length", "angstrom", 1.0)
    energy = units.unit_to_internal("energy", "electronvolt", 1.0)
    found = made(atoms.cell[:].T * length, atoms.positions * length)
    want = potential.eval(atoms.positions, atoms.cell[:], index)
    # Its units are those of another year: 1e-7 of the Bohr radius and the hartree.
    np.testing.assert_allclose(found[0] / energy, want[0][0, 0], rtol=1e-8)
    np.testing.assert_allclose(found[1] / energy * length, want[1][0], rtol=3e-7, atol=1e-9)
    np.testing.assert_allclose(found[2] / energy, want[2].reshape(3, 3), rtol=3e-7, atol=1e-9)


def test_energies_have_offsets(trained: Path) -> None:
    """Energies of hundreds of eV are met at once, by the biases."""
    potential = our_potential(trained / "model.ckpt")
    for atoms in read(trained / "data.xyz", ":4"):
        index = [potential.get_type_map().index(s) for s in atoms.symbols]
        energy = potential.eval(atoms.positions, atoms.cell[:], index)[0]
        assert abs(energy[0, 0] - atoms.get_potential_energy()) < 2.0 < abs(energy[0, 0]) / 100


def _info(targets: dict) -> DatasetInfo:
    return DatasetInfo(length_unit="angstrom", atomic_types=[1, 8], targets=targets)


def _vector() -> object:
    target = {"quantity": "dipole", "unit": "", "type": {"cartesian": {"rank": 1}}}
    target |= {"num_subtargets": 1, "sample_kind": "system", "per_atom": False, "description": ""}
    return get_generic_target_info("mtt::dipole", target)


def _energy() -> object:
    return get_energy_target_info("energy", {"quantity": "energy", "unit": "eV"})


@pytest.mark.parametrize(
    ("make", "line"),
    [
        (lambda: {"mtt::dipole": _vector()}, 'the target "mtt::dipole" is no energy'),
        (lambda: {"energy": _energy(), "energy/b": _energy()}, "there are 2 energies"),
    ],
)
def test_other_targets_are_refused(make, line: str) -> None:
    with pytest.raises(InputError, match=line):
        DeepMD({**default_hypers()["model"], **MODEL}, _info(make()))


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"spin": {"use_spin": ["O"], "virtual_scale": [0.3]}}, "the model needs spin"),
        ({"fitting_net": {"neuron": [4], "numb_fparam": 1}}, "the model needs fparam"),
    ],
)
def test_models_that_need_more_than_structures_are_refused(changes: dict, line: str) -> None:
    with pytest.raises(InputError, match=line):
        DeepMD({**default_hypers()["model"], **TWO_TYPES, **changes}, _info({"energy": _energy()}))


def test_coincident_atoms_are_no_neighbors() -> None:
    """An engine may list them; energies and gradients are those without the pair."""
    model = build_model({"type_map": ["H", "O"], **TWO_TYPES})
    energies = AtomEnergies(LiftedCore(convert(model)), model.info(), [1, 8])
    coord = np.array([[0.0, 0.0, 0.0], [0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 1.3, 0.2]])
    positions = torch.tensor(coord, requires_grad=True)
    none = torch.zeros(3, 3, dtype=torch.float64)
    types = torch.tensor([8, 1, 1, 1], dtype=torch.int32)
    system = System(types, positions, none, torch.zeros(3, dtype=torch.bool))
    i, j = torch.where(~torch.eye(4, dtype=torch.bool))
    names = ["first_atom", "second_atom", "cell_shift_a", "cell_shift_b", "cell_shift_c"]
    samples = torch.stack([i, j, *(torch.zeros_like(i) for _ in range(3))], 1).to(torch.int32)
    vectors = (positions[j] - positions[i]).reshape(-1, 3, 1)
    block = TensorBlock(
        vectors,
        Labels(names, samples),
        [Labels.range("xyz", 3)],
        Labels.range("distance", 1),
    )
    system.add_neighbor_list(energies.options, block)
    found = energies([system])
    (gradient,) = torch.autograd.grad(found.sum(), positions)
    potential = DeepPot.from_evaluator(NumPyEvaluator(model))
    want = potential.eval(coord, None, [1, 0, 0, 0], atomic=True)
    np.testing.assert_allclose(found.detach().numpy(), want[3][0], rtol=0, atol=1e-12)
    np.testing.assert_allclose(-gradient.numpy(), want[1][0], rtol=0, atol=1e-12)


def test_wrong_keys_are_refused() -> None:
    """In the words of our own input."""
    hypers = {**default_hypers()["model"], "descriptor": {"type": "se_e2_a", "rcut_smt": 1.0}}
    with pytest.raises(InputError, match=r'model/descriptor/rcut_smt: .*did you mean "rcut_smth"'):
        DeepMD(hypers, _info({"energy": _energy()}))
