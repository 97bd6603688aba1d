# SPDX-License-Identifier: LGPL-3.0-or-later
"""Time of a training step, from outside: the command is run, and its log lines are timed.

Every measurement is one process. A row of the log comes every ten steps; the time of a step is the
median over these intervals, without the first one. It includes reading the batch, forward, backward
and the optimizer.
"""

import argparse
import dataclasses
import itertools
import re
import statistics
import sys
import tempfile
from pathlib import Path

from common import MODEL, Process, dp, here, machine, table, write_json, write_system

EVERY = 10  # steps per row of the log
FRAMES = 20

#: Name -> flag, further keys of the section "training", share of the steps.
BACKENDS = {
    "pt": ("--pt", {}, 1.0),
    "pt-compiled": ("--pt", {"enable_compile": True}, 1.0),
    "jax": ("--jax", {}, 1.0),
    "numpy": ("--dp", {}, 0.2),
}


@dataclasses.dataclass
class Timing:
    """What one training took."""

    name: str
    step_ms: float = float("nan")
    slowest_ms: float = float("nan")
    first_s: float = float("nan")
    peak_mib: float = float("nan")
    note: str = ""


def training_input(system: Path, steps: int, more: dict) -> dict:
    """Return an input that needs no statistics beyond one batch, saves nothing and runs long enough."""
    return {
        "model": {**MODEL, "data_stat_nbatch": 1},
        "learning_rate": {
            "type": "exp",
            "start_lr": 1e-3,
            "stop_lr": 1e-6,
            "decay_steps": 100,
        },
        "loss": {
            "type": "ener",
            **{"start_pref_e": 0.02, "limit_pref_e": 1},
            **{"start_pref_f": 1000, "limit_pref_f": 1},
            **{"start_pref_v": 0.02, "limit_pref_v": 1},
        },
        "training": {
            "training_data": {"systems": [str(system)], "batch_size": 1},
            "numb_steps": steps,
            "seed": 1,
            "disp_freq": EVERY,
            "save_freq": 10 * steps,
            **more,
        },
    }


def measure(
    name: str, python: str, flag: str, more: dict, *, atoms: int, steps: int, threads: int
) -> Timing:
    """Run one training and time it."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_system(folder / "water", atoms, FRAMES)
        write_json(folder / "input.json", training_input(folder / "water", steps, more))
        process = Process(
            dp(python, flag, "train", "input.json", "--skip-neighbor-stat"), folder, threads
        )
        seen: dict[int, float] = {}
        for seconds, line in process.lines():
            row = re.search(r"[Bb]atch\s+(\d+):", line)
            if row:
                seen.setdefault(int(row[1]), seconds)
    return evaluate(name, seen, process)


def evaluate(name: str, seen: dict[int, float], process: Process) -> Timing:
    """Turn the times at which steps were reported into a result."""
    timing = Timing(name, peak_mib=process.peak_mib)
    if process.failed or not seen:
        timing.note = process.tail[-1][-90:] if process.tail else "no output"
        return timing
    steps = sorted(seen)
    timing.first_s = seen[steps[0]]
    # The first interval has compilation and the first pass through the data in it.
    pairs = itertools.pairwise(steps[1:])
    each = [1000.0 * (seen[b] - seen[a]) / (b - a) for a, b in pairs]
    if each:
        timing.step_ms, timing.slowest_ms = statistics.median(each), max(each)
    return timing


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backends", default=",".join(BACKENDS), help="which, by commas")
    parser.add_argument("--steps", type=int, default=100, help="timed steps")
    parser.add_argument("--atoms", type=int, default=192, help="atoms of the system")
    parser.add_argument("--threads", type=int, default=1, help="threads of each process")
    parser.add_argument("--deepmd-kit", help="Python of an environment with DeePMD-kit")
    options = parser.parse_args()
    size = {"atoms": options.atoms, "threads": options.threads}
    names = options.backends.split(",")
    unknown = [n for n in names if n not in BACKENDS]
    if unknown:
        parser.error(f"unknown backend {unknown[0]}; known: {', '.join(BACKENDS)}")
    results = []
    for name in names:
        flag, more, share = BACKENDS[name]
        # Two intervals are not timed: up to the first row, and up to the second.
        steps = 2 * EVERY + max(2 * EVERY, int(share * options.steps))
        results.append(measure(name, here(), flag, more, steps=steps, **size))
    if options.deepmd_kit:
        steps = 2 * EVERY + options.steps
        results.append(
            measure("deepmd-kit pt", options.deepmd_kit, "--pt", {}, steps=steps, **size)
        )
    print(machine(options.threads))
    print(f"{options.atoms} atoms, batch of 1 frame, float64, times in ms\n")
    head = ("backend", "step", "slowest", "first step after, s", "peak memory, MiB", "")
    print(table(head, [dataclasses.astuple(r) for r in results]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
