# SPDX-License-Identifier: LGPL-3.0-or-later
"""Processes that a launcher started refuse where they cannot train together, before anything is read."""

import shutil
import subprocess
import sys

import pytest

from deepmd.base.errors import NotAvailableError
from deepmd.base.launcher import LAUNCHERS, processes
from deepmd.entrypoints import train as command


@pytest.fixture(autouse=True)
def alone(monkeypatch):
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    for _, size, rank in LAUNCHERS:
        monkeypatch.delenv(size, raising=False)
        monkeypatch.delenv(rank, raising=False)
    monkeypatch.setattr(command, "_HEAD_START", 0.0)


@pytest.mark.parametrize(("launcher", "size", "rank"), LAUNCHERS)
def test_several_processes(monkeypatch, launcher, size, rank):
    monkeypatch.setenv(size, "2")
    monkeypatch.setenv(rank, "0")
    with pytest.raises(NotAvailableError, match=f"{size}=2: {launcher} started 2 .* unset {size}"):
        command.train(INPUT="nowhere.json", backend="numpy")
    monkeypatch.setenv(rank, "1")
    with pytest.raises(SystemExit) as info:
        command.train(INPUT="nowhere.json", backend="numpy")
    assert info.value.code == 1


ALONE = [
    {},
    {"WORLD_SIZE": "1", "RANK": "0"},
    {"OMPI_COMM_WORLD_SIZE": "1", "OMPI_COMM_WORLD_RANK": "0"},
    {"WORLD_SIZE": "4"},
    {"SLURM_NTASKS": "4", "SLURM_PROCID": "0"},  # of a batch script without srun
    {"SLURM_STEP_NUM_TASKS": "1", "SLURM_NTASKS": "4", "SLURM_PROCID": "0"},
    {"WORLD_SIZE": "many", "RANK": "first"},
]


@pytest.mark.parametrize("environment", ALONE)
def test_one_process(environment):
    assert processes(environment).size == 1


def test_a_launcher_within_another():
    environment = {
        "PMI_SIZE": "1",
        "PMI_RANK": "0",
        "SLURM_STEP_NUM_TASKS": "3",
        "SLURM_PROCID": "2",
    }
    assert processes(environment)[:3] == ("srun", 3, 2)


@pytest.mark.skipif(shutil.which("mpirun") is None, reason="no mpirun")
def test_mpirun(tmp_path):
    done = subprocess.run(
        ["mpirun", "-n", "2", sys.executable, "-m", "deepmd", "--dp", "train", "input.json"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.count("started 2 processes, but NumPy trains in one process only") == 1
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())
