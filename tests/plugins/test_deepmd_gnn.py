# SPDX-License-Identifier: LGPL-3.0-or-later
"""MACE and NequIP of deepmd-gnn, unmodified; skipped where it is not installed (docs/plugins.md)."""

import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from train.helpers import TYPES, Workspace

pytestmark = [
    pytest.mark.slow,  # every process imports mace, nequip and e3nn: 5 s of processor time
    pytest.mark.filterwarnings("ignore"),  # those of mace, nequip, e3nn
    pytest.mark.skipif(find_spec("deepmd_gnn") is None, reason="deepmd-gnn is not installed"),
]

MODELS = {
    "mace": {
        "hidden_irreps": "4x0e+4x1o",
        "num_radial_basis": 4,
        "correlation": 2,
        "max_ell": 2,
        "num_interactions": 2,
        "MLP_irreps": "4x0e",
        "radial_MLP": [8, 8],
    },
    "nequip": {
        "l_max": 1,
        "num_features": 4,
        "num_layers": 2,
        "invariant_layers": 1,
        "invariant_neurons": 8,
    },
}
TERMS = {f"{name}_pref_{x}": 1 for name in ("start", "limit") for x in "efv"}
BOX = 5.0 * np.eye(3)
IN_LAMMPS = """
units metal
atom_modify map yes
region b block 0 5 0 5 0 5
create_box 2 b
{atoms}
mass * 1.0
pair_style deepmd frozen.pth
pair_coeff * * A B
thermo_style custom step pe
thermo_modify format float %.17g
dump 1 all custom 1 a.dump id fx fy fz
dump_modify 1 sort id format float %.17g
fix 1 all nve
run 2
"""


def dp(*words: str, folder: Path) -> str:
    """Run a command with PyTorch; return its output."""
    command = [sys.executable, "-W", "ignore", "-m", "deepmd", "--pt", *words]
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def system() -> tuple[np.ndarray, np.ndarray, list[int]]:
    """Positions, cell and types of 8 atoms."""
    grid = np.stack(np.meshgrid(*[[0.0, 2.5]] * 3, indexing="ij"), axis=-1).reshape(8, 3)
    return grid + np.random.default_rng(5).uniform(0.1, 0.8, (8, 3)), BOX, list(TYPES)


@pytest.fixture(scope="module", params=MODELS)
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with a training of four steps, its second half once more after a restart, frozen."""
    work = Workspace(tmp_path_factory.mktemp(request.param))
    rng = np.random.default_rng(0)
    for name, frames in (("a", 6), ("b", 3)):
        np.save(work.path / name / "set.000" / "virial.npy", rng.normal(size=(frames, 9)))
    config = work.config(numb_steps=4, save_freq=2, disp_freq=1, validation_data=None)
    common = {"type_map": ["A", "B"], "type": request.param, "r_max": 4.0, "sel": "auto"}
    if request.param == "mace":  # its elements are numbers of the periodic table
        common["type_map"] = ["O", "H"]
        for name in "abc":
            (work.path / name / "type_map.raw").write_text("O\nH\n")
    config["model"] = {**common, **MODELS[request.param], "precision": "float64"}
    config["loss"] = {"type": "ener", **TERMS}
    work.write(config)
    dp("train", "input.json", folder=work.path)
    shutil.move(work.path / "model.ckpt-4.pt", work.path / "whole.pt")
    shutil.copy(work.path / "lcurve.out", work.path / "whole.out")
    dp("train", "input.json", "--restart", "model.ckpt-2.pt", folder=work.path)
    dp("freeze", "-o", "frozen.pth", folder=work.path)
    return work.path


def test_restart(trained: Path) -> None:
    """The second half after a restart is that of the whole, to the bit."""
    from deepmd.dpmodel.module import split
    from deepmd.infer import DeepPot

    names = ("whole.pt", "model.ckpt-4.pt", "model.ckpt-2.pt")
    whole, halves, begun = (split(DeepPot(trained / name).model)[0] for name in names)
    assert len(whole) > 10
    for name, value in whole.items():
        np.testing.assert_array_equal(halves[name], value, err_msg=name)
    assert max(np.abs(whole[name] - begun[name]).max() for name in whole) > 1e-4
    assert (trained / "lcurve.out").read_text() == (trained / "whole.out").read_text()


def test_it_learns_virials(trained: Path) -> None:
    """The learning curve has energies, forces and virials, and the model is frozen and tested."""
    head = (trained / "lcurve.out").read_text().splitlines()[0].split()
    assert {"rmse_e_trn", "rmse_f_trn", "rmse_v_trn"} <= set(head)
    said = dp("test", "-m", "frozen.pth", "-s", "a", "-n", "2", folder=trained)
    assert all(f"{name} RMSE" in said for name in ("Energy", "Virial"))
    assert "Force  RMSE" in said


@pytest.mark.parametrize("cell", [BOX, None], ids=["periodic", "open"])
def test_numbers_of_its_own(trained: Path, cell: np.ndarray | None) -> None:
    """Frozen model, checkpoint, and the ``forward`` of deepmd-gnn agree; forces are derivatives."""
    torch = pytest.importorskip("torch")
    from deepmd.infer import DeepPot

    coord, _, atype = system()
    frozen, trainable = DeepPot(trained / "frozen.pth"), DeepPot(trained / "model.ckpt-4.pt")
    found = frozen.eval(coord, cell, atype, atomic=True)
    for a, b in zip(found, trainable.eval(coord, cell, atype, atomic=True), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-12)
    module = trainable.model.atomic_model.module().eval()
    box = None if cell is None else torch.tensor(cell.reshape(1, 9))
    own = module(torch.tensor(coord[None]), torch.tensor([atype]), box)
    for name, value in zip(("energy", "force", "virial"), found, strict=False):
        want = own[name].detach().numpy().reshape(value.shape)
        np.testing.assert_allclose(value, want, rtol=0, atol=1e-12)
    moved = np.stack([coord, coord])
    moved[:, 1, 2] += (1e-4, -1e-4)
    energy = frozen.eval(moved, cell, atype)[0][:, 0]
    np.testing.assert_allclose(found[1][0, 1, 2], (energy[1] - energy[0]) / 2e-4, atol=1e-7)


def test_nequip_alone(trained: Path) -> None:
    """The network of NequIP, with neighbors and input of the package nequip itself."""
    torch = pytest.importorskip("torch")
    from deepmd.infer import DeepPot

    potential = DeepPot(trained / "model.ckpt-4.pt")
    module = potential.model.atomic_model.module().eval()
    if not hasattr(module, "e0"):
        pytest.skip("this is MACE")
    from nequip.data import AtomicData

    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        coord, cell, atype = system()
        data = AtomicData.from_points(
            pos=coord.copy(), r_max=4.0, cell=cell, pbc=True, atom_types=torch.tensor(atype)
        )
        given = AtomicData.to_AtomicDataDict(data)
        given["pos"].requires_grad_(True)
        out = module.model(given)
        energy = out["atomic_energy"].sum()
        (slope,) = torch.autograd.grad(energy, out["pos"])
    finally:
        torch.set_default_dtype(before)
    found = potential.eval(coord, cell, atype)
    want = energy.item() + module.e0.double()[torch.tensor(atype)].sum().item()
    np.testing.assert_allclose(found[0][0, 0], want, rtol=0, atol=1e-12)
    np.testing.assert_allclose(found[1][0], -slope.numpy(), rtol=0, atol=1e-12)


def test_ase(trained: Path) -> None:
    """The calculator with its default call has the numbers of DeepPot."""
    ase = pytest.importorskip("ase")
    from deepmd.calculator import DP
    from deepmd.infer import DeepPot

    coord, cell, atype = system()
    potential = DeepPot(trained / "frozen.pth")
    names = ["OH"[t] if potential.get_type_map()[0] == "O" else "HB"[t] for t in atype]
    more = {} if "O" in potential.get_type_map() else {"type_dict": {"H": 0, "B": 1}}
    atoms = ase.Atoms(names, coord, cell=cell, pbc=True)
    atoms.calc = DP(trained / "frozen.pth", **more)
    energy, force, virial = potential.eval(coord, cell, atype)
    np.testing.assert_allclose(atoms.get_potential_energy(), energy[0, 0], rtol=0, atol=1e-12)
    np.testing.assert_allclose(atoms.get_forces(), force[0], rtol=0, atol=1e-12)
    stress = -virial.reshape(3, 3) / 125
    np.testing.assert_allclose(atoms.get_stress(voigt=False), stress, rtol=0, atol=1e-12)


def test_lammps(trained: Path) -> None:
    """LAMMPS with the operators of deepmd-gnn, on one rank."""
    import deepmd_gnn

    from deepmd.infer import DeepPot
    from deepmd.lmp import get_op_dir

    program, plugin = shutil.which("lmp"), get_op_dir()
    if program is None or not plugin:
        pytest.skip("no LAMMPS on the path, or its plugin was not built")
    coord, cell, atype = system()
    potential = DeepPot(trained / "frozen.pth")
    lines = "\n".join(
        f"create_atoms {t + 1} single {x:.17g} {y:.17g} {z:.17g}"
        for t, (x, y, z) in zip(atype, coord, strict=True)
    )
    text = IN_LAMMPS.format(atoms=lines).replace("A B", " ".join(potential.get_type_map()))
    (trained / "in.lammps").write_text(text)
    library = Path(deepmd_gnn.__path__[0]) / "lib" / "libdeepmd_gnn.so"
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "LAMMPS_PLUGIN_PATH": plugin,
        "DP_PLUGIN_PATH": str(library),
    }
    command = [program, "-in", "in.lammps", "-log", "none"]
    done = subprocess.run(
        command,
        cwd=trained,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    rows = [line.split() for line in done.stdout.splitlines()]
    first = next(k for k, row in enumerate(rows) if row[:1] == ["Step"]) + 1
    energy, force, _ = potential.eval(coord, cell, atype)
    np.testing.assert_allclose(float(rows[first][1]), energy[0, 0], rtol=0, atol=1e-11)
    frame = (trained / "a.dump").read_text().split("ITEM: ATOMS")[1].splitlines()[1:9]
    got = np.array([line.split() for line in frame], dtype=float)[:, 1:]
    np.testing.assert_allclose(got, force[0], rtol=0, atol=1e-11)
    assert len(rows) > first + 1 and rows[first + 1][0] == "2"
