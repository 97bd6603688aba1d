# SPDX-License-Identifier: LGPL-3.0-or-later
"""Where the time of a training step goes: kinds of work, as PyTorch's profiler sees them.

The times of a kind are those of its operations alone, without what they call, on the thread that
takes the step; "between operations" is what is left of the step: Python, autograd, and what the
profiler itself adds to it.
"""

import argparse
import collections
import json
import os
import sys
import tempfile
import time
from pathlib import Path

from common import machine, measured, table, write_json, write_system
from models import DESCRIPTORS

#: Kind of work -> parts of the names of its operations; the first kind that has the name counts.
KINDS = {
    "matrix products": ("mm", "bmm", "addmv", "aten::dot"),
    "compiled kernels": ("_Value", "_Vjp", "_SegmentSum", "_Take", "deepmd"),
    "optimizer": ("adam", "Optimizer"),
    "layer norms and softmax": ("norm", "softmax"),
    "sums over axes": ("::sum", "::amax", "::mean", "::max", "::min"),
    "moving": ("copy", "::cat", "index", "gather", "scatter", "fill", "zero", "clone", "stack"),
    "element by element": ("aten::",),
}


def kind_of(name: str) -> str:
    """Return the kind of work of an operation."""
    for kind, parts in KINDS.items():
        if any(part in name for part in parts):
            return kind
    return "between operations"


def measure(descriptor: str, atoms: int, steps: int) -> dict:
    """Profile steps in this process: seconds and calls per step by kind, and without the profiler."""
    import torch
    from train import training_input

    from deepmd.backend.backend import choose_backend
    from deepmd.train.entry import prepare

    with tempfile.TemporaryDirectory() as temporary:
        os.chdir(temporary)
        write_system(Path("water"), atoms, 2)
        write_json(Path("input.json"), training_input(descriptor, Path("water"), steps, {}))
        backend, _ = choose_backend("pt", trains=True)
        trainer = prepare(INPUT="input.json", backend=backend(), skip_neighbor_stat=True)
        (name,) = trainer.tasks
        batch = trainer.tasks[name].data.next()
        os.chdir("/")

    def step() -> float:
        start = time.perf_counter()
        trainer.stepper.step(name, batch, 1e-3)
        return time.perf_counter() - start

    plain = sorted(step() for _ in range(3 + steps))[: max(1, steps // 2)]
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        whole = sum(step() for _ in range(steps)) / steps
    seconds, calls = collections.Counter(), collections.Counter()
    for event in profile.key_averages():
        kind = kind_of(event.key)
        seconds[kind] += 1e-6 * event.self_cpu_time_total / steps
        calls[kind] += event.count / steps
    rest = whole - sum(seconds[kind] for kind in KINDS)
    seconds["between operations"], calls["between operations"] = max(rest, 0.0), 0
    kinds = {k: (seconds[k], calls[k]) for k in [*KINDS, "between operations"]}
    return {"plain": plain[len(plain) // 2], "profiled": whole, "kinds": kinds}


def report(descriptor: str, atoms: int, steps: int, threads: int) -> str:
    """Profile a training in a process of its own; return the table."""
    options = ("--descriptor", descriptor, "--atoms", str(atoms), "--steps", str(steps))
    found = measured(__file__, threads, *options)
    rows = [
        (kind, 1e3 * seconds, 100.0 * seconds / found["profiled"], round(calls))
        for kind, (seconds, calls) in found["kinds"].items()
    ]
    title = f"{descriptor}: a step takes {1e3 * found['plain']:.1f} ms, profiled "
    title += f"{1e3 * found['profiled']:.1f} ms, of which"
    return f"{title}\n{table(('work', 'ms', '%', 'calls'), rows)}"


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--descriptor", default="se_e2_a", help=f"which, by commas: {', '.join(DESCRIPTORS)}"
    )
    parser.add_argument("--atoms", type=int, default=192, help="atoms of the system")
    parser.add_argument("--steps", type=int, default=8, help="steps that are profiled")
    parser.add_argument("--threads", type=int, default=1, help="threads of the process")
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    names = options.descriptor.split(",")
    if unknown := {*names} - {*DESCRIPTORS}:
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    if options.measure:
        print(json.dumps(measure(names[0], options.atoms, options.steps)))
        return 0
    print(machine(options.threads))
    for name in names:
        print(f"\n{report(name, options.atoms, options.steps, options.threads)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
