# SPDX-License-Identifier: LGPL-3.0-or-later
"""Programs that start a command several times (torchrun, mpirun, srun), by the variables they set."""

import os
from collections.abc import Mapping
from typing import NamedTuple

#: Name, variable with the number of processes, variable with the number of this one. Both must be
#: there: ``WORLD_SIZE`` alone is no launcher, and neither is the ``SLURM_NTASKS`` of a batch script.
LAUNCHERS = (
    ("torchrun", "WORLD_SIZE", "RANK"),
    ("mpirun", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK"),
    ("mpirun", "MV2_COMM_WORLD_SIZE", "MV2_COMM_WORLD_RANK"),
    ("mpirun", "PMI_SIZE", "PMI_RANK"),
    ("horovodrun", "HOROVOD_SIZE", "HOROVOD_RANK"),
    ("jsrun", "JSM_NAMESPACE_SIZE", "JSM_NAMESPACE_RANK"),
    ("srun", "SLURM_STEP_NUM_TASKS", "SLURM_PROCID"),
)
#: Variables with the number of this process among those of its computer.
_LOCAL = (
    "LOCAL_RANK",
    "OMPI_COMM_WORLD_LOCAL_RANK",
    "MV2_COMM_WORLD_LOCAL_RANK",
    "MPI_LOCALRANKID",
    "JSM_NAMESPACE_LOCAL_RANK",
    "SLURM_LOCALID",
)


class Processes(NamedTuple):
    """Processes that were started together.

    Attributes
    ----------
    launcher : str
        Program that started them.
    size, rank : int
        Their number, and the number of this one.
    variables : (str, str)
        Where that is written.
    local_rank : int
        Number of this one among those of its computer.
    """

    launcher: str = ""
    size: int = 1
    rank: int = 0
    variables: tuple[str, str] = ("", "")
    local_rank: int = 0


def processes(environment: Mapping[str, str] | None = None) -> Processes:
    """Return the processes that this one was started with; it is alone where no launcher says so."""
    known = os.environ if environment is None else environment
    for launcher, size, rank in LAUNCHERS:
        numbers = [known.get(name, "") for name in (size, rank)]
        if all(n.isdecimal() for n in numbers) and int(numbers[0]) > 1:
            local = next((int(known[v]) for v in _LOCAL if known.get(v, "").isdecimal()), 0)
            return Processes(launcher, int(numbers[0]), int(numbers[1]), (size, rank), local)
    return Processes()
