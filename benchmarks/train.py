# SPDX-License-Identifier: LGPL-3.0-or-later
"""Time of a training step, from outside: the command is run, and its log lines are timed.

Every measurement is one process. The time of a step is the median over the intervals between rows of
the log, without the first one. It includes reading the batch, forward, backward and the optimizer.
Where others use the machine, compare the processor time.
"""

import argparse
import dataclasses
import itertools
import re
import statistics
import sys
import tempfile
from pathlib import Path

from common import Process, dp, here, machine, table, write_json, write_system
from models import DESCRIPTORS, model
from profile_step import report
from rates import describe, products
from rates import share as share_of_rate

#: Steps per row of the log.
EVERY = {"se_e2_a": 10, "dpa1": 5, "dpa2": 5, "dpa3": 3, "se_e3": 5}
FRAMES = 20

#: Name -> flag, further keys of the section "training", share of the steps.
BACKENDS = {
    "pt": ("--pt", {}, 1.0),
    "pt-compiled": ("--pt", {"enable_compile": True}, 1.0),
    "jax": ("--jax", {}, 1.0),
    "tf": ("--tf", {}, 1.0),
    "numpy": ("--dp", {}, 0.2),
}


@dataclasses.dataclass
class Timing:
    """What one training took."""

    descriptor: str
    name: str
    step_ms: float = float("nan")
    processor_ms: float = float("nan")
    slowest_ms: float = float("nan")
    rate: float = float("nan")
    first_s: float = float("nan")
    peak_mib: float = float("nan")
    note: str = ""


def training_input(descriptor: str, system: Path, steps: int, more: dict) -> dict:
    """Return an input that needs no statistics beyond one batch, saves nothing and runs long enough."""
    return {
        "model": {**model(descriptor), "data_stat_nbatch": 1},
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
            "disp_freq": EVERY[descriptor],
            "save_freq": 10 * steps,
            **more,
        },
    }


def measure(
    descriptor: str,
    name: str,
    python: str,
    flag: str,
    more: dict,
    *,
    atoms: int,
    steps: int,
    threads: int,
) -> Timing:
    """Run one training and time it."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_system(folder / "water", atoms, FRAMES)
        data = training_input(descriptor, folder / "water", steps, more)
        write_json(folder / "input.json", data)
        process = Process(
            dp(python, flag, "train", "input.json", "--skip-neighbor-stat"), folder, threads
        )
        seen: dict[int, tuple[float, float]] = {}
        for seconds, line in process.lines():
            row = re.search(r"[Bb]atch\s+(\d+):", line)
            if row:
                seen.setdefault(int(row[1]), (seconds, process.processor_seconds()))
    return evaluate(Timing(descriptor, name), seen, process)


def evaluate(timing: Timing, seen: dict[int, tuple[float, float]], process: Process) -> Timing:
    """Turn the times at which steps were reported into a result."""
    timing.peak_mib = process.peak_mib
    if process.failed or not seen:
        timing.note = process.tail[-1][-90:] if process.tail else "no output"
        return timing
    steps = sorted(seen)
    timing.first_s = seen[steps[0]][0]
    # The first interval has compilation and the first pass through the data in it.
    pairs = list(itertools.pairwise(steps[1:]))
    each, processor = (
        [1000.0 * (seen[b][k] - seen[a][k]) / (b - a) for a, b in pairs] for k in range(2)
    )
    if each:
        timing.step_ms, timing.slowest_ms = statistics.median(each), max(each)
        timing.processor_ms = statistics.median(processor)
    return timing


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backends", default=",".join(BACKENDS), help="which, by commas")
    parser.add_argument(
        "--descriptor", default="se_e2_a", help=f"which, by commas: {', '.join(DESCRIPTORS)}"
    )
    parser.add_argument("--steps", type=int, default=100, help="timed steps")
    parser.add_argument("--atoms", type=int, default=192, help="atoms of the system")
    parser.add_argument("--threads", type=int, default=1, help="threads of each process")
    parser.add_argument("--deepmd-kit", help="Python of an environment with DeePMD-kit")
    parser.add_argument("--deepmd-kit-backends", default="pt,tf", help="which of it, by commas")
    parser.add_argument(
        "--profile", action="store_true", help="show where the time of a step of PyTorch goes"
    )
    options = parser.parse_args()
    size = {"atoms": options.atoms, "threads": options.threads}
    programs = {n: (here(), *BACKENDS[n]) for n in options.backends.split(",") if n in BACKENDS}
    descriptors = options.descriptor.split(",")
    unknown = {*options.backends.split(",")} - {*BACKENDS} | {*descriptors} - {*DESCRIPTORS}
    if unknown:
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    if options.profile:
        print(machine(options.threads))
        for name in descriptors:
            print(f"\n{report(name, options.atoms, 8, options.threads)}")
        return 0
    if options.deepmd_kit:
        for name in options.deepmd_kit_backends.split(","):
            programs[f"deepmd-kit {name}"] = (options.deepmd_kit, f"--{name}", {}, 1.0)
    results = []
    for descriptor in descriptors:
        every = EVERY[descriptor]
        for name, (python, flag, more, share) in programs.items():
            # Two intervals are not timed: up to the first row, and up to the second.
            steps = 2 * every + max(2 * every, int(share * options.steps))
            timing = measure(descriptor, name, python, flag, more, steps=steps, **size)
            work = options.atoms * products(descriptor, training=True)
            precision = DESCRIPTORS[descriptor]["precision"]
            timing.rate = share_of_rate(work, 1e-3 * timing.step_ms, options.threads, precision)
            results.append(timing)
    print(machine(options.threads))
    print(describe(options.threads))
    print(f"{options.atoms} atoms, batch of 1 frame, times of a step in ms; rate: share of the")
    print("machine's matrix rate, in %, if all products of the mathematics were made\n")
    head = ("descriptor", "backend", "step", "processor", "slowest", "rate")
    head += ("first step after, s", "peak memory, MiB", "")
    print(table(head, [dataclasses.astuple(r) for r in results]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
