# SPDX-License-Identifier: LGPL-3.0-or-later
"""LAMMPS runs models of components that a plugin writes for PyTorch; it knows nothing of plugins."""

import importlib
from pathlib import Path

import numpy as np
import pytest
from plugins.conftest import HERE, on_path

from deepmd.dpmodel.model import build_model
from deepmd.infer import DeepPot
from deepmd.pt.torchscript.export import write_pth
from deepmd.runtime.probes import model_file_dict
from deepmd.testing.systems import randomize, small_system

MODELS = {
    "parts": {
        "descriptor": {"type": "some_descrpt", "rcut": 4.0, "sel": 60},
        "fitting_net": {"type": "some_energy", "neuron": [6], "seed": 1},
    },
    "whole": {"type": "some_model", "rcut": 4.0, "sel": 60},
}
INPUT = """
units metal
atom_style atomic
read_data start.data
pair_style deepmd model.pth
pair_coeff * *
mass * 1.0
thermo_style custom step pe pxx pxy
dump 1 all custom 1 forces.dump id fx fy fz
dump_modify 1 format float %.15e sort id
run 0
"""


@pytest.mark.parametrize("name", MODELS)
def test_forces(lammps, tmp_path: Path, name: str):
    ase_data = pytest.importorskip("ase.io.lammpsdata")
    from ase import Atoms
    from ase.calculators.lammps import Prism

    coord, cell, atype = small_system(2, 4.0, n=12)
    with on_path(HERE / "toy"):
        for part in ("fitting", "model"):
            importlib.import_module(f"deepmd_toy.{part}")
        section = {"type_map": ["A", "B"], **MODELS[name]}
        model = randomize(build_model({**section}))
        write_pth(tmp_path / "model.pth", model_file_dict(model, section, None, "PyTorch"))
        atoms = Atoms("HO" * 6, coord, cell=cell, pbc=True)
        atoms.numbers = np.where(np.array(atype) == 0, 1, 8)
        ase_data.write_lammps_data(tmp_path / "start.data", atoms, specorder=["H", "O"])
        prism = Prism(atoms.cell)
        want = DeepPot(tmp_path / "model.pth").eval(coord, cell, atype)
    run = lammps(INPUT)
    forces = prism.vector_to_ase(run.dump("forces.dump")[0][:, 1:])
    np.testing.assert_allclose(run.thermo()["PotEng"][0], want[0][0, 0], rtol=1e-7)
    np.testing.assert_allclose(forces, want[1][0], rtol=0, atol=1e-9)
