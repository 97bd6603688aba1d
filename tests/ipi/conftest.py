# SPDX-License-Identifier: LGPL-3.0-or-later
"""The driver, a model and atoms whose types are mixed up."""

import json
import subprocess
import uuid

import numpy as np
import pytest
from infer.models import make_section

from deepmd.base.native import bin_dir

#: The driver's Å per bohr and eV per Hartree.
BOHR, HARTREE = 0.52917721, 27.21138602
NAMES = ["H", "O", "H", "H", "O", "H"]
TYPES = [1, 0, 1, 1, 0, 1]
CELL = np.array([[6.0, 0.0, 0.0], [1.1, 5.7, 0.0], [0.4, -0.8, 6.3]])


@pytest.fixture(scope="session")
def program():
    folder = bin_dir()
    if folder is None or not (folder / "dp_ipi").is_file():
        pytest.skip("dp_ipi was not built (make native)")
    return folder / "dp_ipi"


@pytest.fixture(scope="session")
def model_file(tmp_path_factory):
    pytest.importorskip("torch")
    from deepmd.dpmodel.model import build_model
    from deepmd.pt.torchscript.export import write_pth
    from deepmd.runtime.probes import model_file_dict

    path = tmp_path_factory.mktemp("ipi") / "model.pth"
    section = make_section(sel=(40, 40))
    model = build_model(section)
    model.atomic_model.out_bias = np.random.default_rng(0).normal(
        size=model.atomic_model.out_bias.shape
    )
    write_pth(path, model_file_dict(model, section, 0.9, "PyTorch"))
    return path


@pytest.fixture
def coord():
    """(natoms, 3) [Å], one atom outside of the cell."""
    coord = np.random.default_rng(3).uniform(0.0, 5.0, (len(NAMES), 3))
    coord[2] += CELL[1]
    return coord


@pytest.fixture
def start(program, model_file, tmp_path, coord):
    """Start drivers with an input made of defaults and what is given; None leaves a key out."""
    from ase import Atoms

    Atoms(NAMES, coord).write(tmp_path / "start.xyz", format="xyz")
    defaults = {
        "use_unix": True,
        "host": f"deepmd_{uuid.uuid4().hex[:12]}",
        "graph_file": str(model_file),
        "coord_file": "start.xyz",
        "atom_type": {"O": 0, "H": 1},
    }
    started = []

    def run(**keys):
        settings = {k: v for k, v in {**defaults, **keys}.items() if v is not None}
        (tmp_path / "input.json").write_text(json.dumps(settings))
        process = subprocess.Popen(
            [program, "input.json"],
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        process.host = settings["host"]
        return process

    yield run
    for process in started:
        process.kill()
        process.communicate()
