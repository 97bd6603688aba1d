# SPDX-License-Identifier: LGPL-3.0-or-later
"""Several processes of ``dp train``, as a launcher starts them."""

import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from deepmd.base.launcher import LAUNCHERS


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def variables(
    rank: int, size: int, port: int, names: tuple[str, str] = ("WORLD_SIZE", "RANK")
) -> dict[str, str]:
    """What a launcher sets, torchrun by default."""
    taken = {name for _, *names in LAUNCHERS for name in names}
    return {
        **{k: v for k, v in os.environ.items() if k not in taken},
        **dict(zip(names, (str(size), str(rank)), strict=True)),
        "LOCAL_RANK": str(rank),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "OMP_NUM_THREADS": "1",
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",  # the same numbers in half the time
    }


class Ranks:
    """Processes ``dp --<backend> train input.json <options>``, each in its folder."""

    def __init__(
        self,
        *folders: Path,
        options: Sequence[str] = (),
        backend: str = "--pt",
        names: tuple[str, str] = ("WORLD_SIZE", "RANK"),
    ) -> None:
        size = len(folders)
        port, root = free_port(), str(Path(__file__).parents[2])
        command = [sys.executable, "-m", "deepmd", backend, "train", "input.json", *options]
        self.processes = [
            subprocess.Popen(
                command,
                cwd=folders[rank],
                env=variables(rank, size, port, names) | {"PYTHONPATH": root},
                stderr=subprocess.PIPE,
                text=True,
            )
            for rank in range(size)
        ]

    def wait(self, timeout: float = 500.0) -> tuple[list[int], list[str]]:
        """Return the status and what each process wrote."""
        try:
            written = [p.communicate(timeout=timeout)[1] for p in self.processes]
        finally:
            self.kill()
        return [p.returncode for p in self.processes], written

    def kill(self) -> None:
        """End what still runs."""
        for p in self.processes:
            p.kill()
