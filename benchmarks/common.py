# SPDX-License-Identifier: LGPL-3.0-or-later
"""What the benchmarks share: water made up from scratch, the model, processes, tables."""

import contextlib
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

DENSITY = 0.997  # g/cm³
OH = 0.9572  # Å
ANGLE = np.deg2rad(104.52)


def water(
    n_atoms: int, frames: int = 1, seed: int = 1
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Molecules on a cubic lattice at the density of water, turned and shifted at random.

    Returns
    -------
    coord : (frames, n, 3) [Å]
        n is three times the cube number nearest to ``n_atoms / 3``.
    cell : (3, 3) [Å]
    atype : (n,)
        0 for O, 1 for H.
    """
    rng = np.random.default_rng(seed)
    side = max(1, round((n_atoms / 3) ** (1 / 3)))
    spacing = (18.015 / (DENSITY * 0.602214)) ** (1 / 3)
    lattice = spacing * np.stack(np.meshgrid(*3 * [np.arange(side)], indexing="ij"), -1)
    lattice = lattice.reshape(-1, 3)
    half = 0.5 * ANGLE
    molecule = OH * np.array(
        [[0, 0, 0], [np.sin(half), np.cos(half), 0], [-np.sin(half), np.cos(half), 0]]
    )
    shape = (frames, len(lattice))
    rotated = molecule @ _rotations(rng, shape)
    shift = lattice + rng.uniform(-0.15, 0.15, (*shape, 3))
    coord = (rotated + shift[:, :, None, :]).reshape(frames, -1, 3)
    return coord, side * spacing * np.eye(3), np.tile([0, 1, 1], len(lattice))


def _rotations(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Random orthogonal matrices (..., 3, 3)."""
    return np.linalg.qr(rng.normal(size=(*shape, 3, 3)))[0]


def write_system(folder: Path, n_atoms: int, frames: int) -> int:
    """Write frames of water with random labels; return the number of atoms."""
    from deepmd.testing.systems import save_system  # this module runs in other environments, too

    coord, cell, atype = water(n_atoms, frames)
    rng = np.random.default_rng(2)
    arrays = {
        "coord": coord,
        "box": np.tile(cell.reshape(-1), (frames, 1)),
        "energy": -150.0 * len(atype) + rng.normal(size=frames),
        "force": rng.normal(size=(frames, 3 * len(atype))),
        "virial": rng.normal(size=(frames, 9)),
    }
    save_system(folder, atype, ["O", "H"], arrays)
    return len(atype)


def environment(threads: int, python: str | None = None) -> dict[str, str]:
    """Environment of a process with so many threads; that of this Python takes this repository."""
    number = str(threads)
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    env = {**os.environ, **dict.fromkeys(names, number)}
    env["DP_INTRA_OP_PARALLELISM_THREADS"] = number
    env["DP_INTER_OP_PARALLELISM_THREADS"] = "1"
    # XLA sizes its pool by the processors it may use.
    env["XLA_FLAGS"] = f"--xla_cpu_multi_thread_eigen={'true' if threads > 1 else 'false'}"
    env.pop("PYTHONPATH", None)
    if python == here():
        env["PYTHONPATH"] = str(Path(__file__).resolve().parents[1])
    return env


def processors(threads: int) -> set[int]:
    """Processors a process with so many threads is kept on, so that no pool grows beyond."""
    return set(sorted(os.sched_getaffinity(0))[:threads])


def measured(script: str, threads: int, *options: str) -> Any:
    """Return what a benchmark measures in a process of its own with so many threads: ``--measure``.

    Its last line is JSON.
    """
    command = [
        here(),
        str(Path(script).resolve()),
        "--measure",
        "--threads",
        str(threads),
        *options,
    ]
    pin = processors(threads)
    done = subprocess.run(
        command,
        env=environment(threads, here()),
        preexec_fn=lambda: os.sched_setaffinity(0, pin),
        stdout=subprocess.PIPE,
        check=True,
    )
    return json.loads(done.stdout.splitlines()[-1])


class Process:
    """A process, or several that it starts, whose lines are stamped with the seconds since then."""

    def __init__(
        self, arguments: Sequence[str], folder: Path, threads: int, *, processes: int = 1
    ) -> None:
        self.start = time.perf_counter()
        pin = processors(threads * processes)
        self._popen = subprocess.Popen(
            list(arguments),
            cwd=folder,
            env=environment(threads, arguments[0]),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            preexec_fn=lambda: os.sched_setaffinity(0, pin),
        )
        self.tail: list[str] = []
        self.peak_mib = float("nan")

    def lines(self) -> Iterator[tuple[float, str]]:
        """Yield (seconds, line) until the process ends; note its peak memory."""
        for line in self._popen.stdout:
            self.tail = [*self.tail[-20:], line.rstrip()]
            yield time.perf_counter() - self.start, line
        _, status, usage = os.wait4(self._popen.pid, 0)
        self._popen.returncode = os.waitstatus_to_exitcode(status)
        self.peak_mib = usage.ru_maxrss / 1024.0

    def processor_seconds(self) -> float:
        """Processor time used so far, which others on the machine hardly change."""
        try:
            fields = Path(f"/proc/{self._popen.pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return float("nan")
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def largest_mib(self) -> float:
        """Return the peak memory so far of the largest process that this one started, or of itself."""
        parents, peaks = {}, {}
        for status in Path("/proc").glob("[0-9]*/status"):
            with contextlib.suppress(OSError):
                lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
                pid = int(lines["Pid"])
                parents[pid] = int(lines["PPid"])
                peaks[pid] = int(lines.get("VmHWM", "0 kB").split()[0]) / 1024.0
        family = {self._popen.pid}
        while more := {pid for pid, up in parents.items() if up in family} - family:
            family |= more
        return max((peaks.get(pid, 0.0) for pid in family), default=float("nan"))

    @property
    def failed(self) -> bool:
        """Whether it ended with another status than 0."""
        return self._popen.returncode != 0


def dp(python: str, *arguments: str) -> list[str]:
    """Return the command line ``dp ...`` of an environment."""
    return [python, "-m", "deepmd", *arguments]


def here() -> str:
    """Python of this environment."""
    return sys.executable


def machine(threads: int) -> str:
    """One line about where this runs."""
    model = next(
        (
            line.split(":", 1)[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.processor(),
    )
    load = os.getloadavg()[0]
    return f"{model}, {threads} thread(s), load {load:.1f}, Python {platform.python_version()}"


def table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Return a table in plain text."""
    cells = [[str(c) for c in head], *[[_text(c) for c in row] for row in rows]]
    widths = [max(len(row[k]) for row in cells) for k in range(len(head))]
    lines = ["  ".join(c.rjust(w) for c, w in zip(row, widths, strict=True)) for row in cells]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])


def _text(value: Any) -> str:
    if isinstance(value, float):
        return "-" if value != value else f"{value:.4g}"
    return str(value)


def write_json(path: Path, data: Any) -> None:
    """Write an input."""
    path.write_text(json.dumps(data, indent=2))
