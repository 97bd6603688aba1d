# SPDX-License-Identifier: LGPL-3.0-or-later
"""Time of a training step in several processes, and the share of it that they exchange.

Every process has one thread and one frame per step, so that twice the processes train on twice the
frames in, at best, the same time. Times are medians over the intervals between rows of the log.
"""

import argparse
import dataclasses
import re
import sys
import tempfile
from pathlib import Path

from common import Process, here, machine, table, write_json, write_system
from train import EVERY, FRAMES, Timing, evaluate, training_input


@dataclasses.dataclass
class Row:
    """What one training took."""

    descriptor: str
    program: str
    ranks: int
    step_ms: float
    frames_per_s: float
    exchange: str
    mib: float
    note: str


def measure(
    descriptor: str,
    name: str,
    python: str,
    ranks: int,
    *,
    atoms: int,
    steps: int,
    zero_stage: int,
    fitting: list[int],
) -> Row:
    """Run one training and time it; ``fitting`` are the widths of the fitting net."""
    share, mib = "-", float("nan")
    theirs, more = python != here(), {"zero_stage": zero_stage} if zero_stage else {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_system(folder / "water", atoms, FRAMES)
        given = training_input(descriptor, folder / "water", steps, more)
        given["model"]["fitting_net"]["neuron"] = fitting
        write_json(folder / "input.json", given)
        launcher = [python]
        if ranks > 1:
            launcher += ["-m", "torch.distributed.run", f"--nproc_per_node={ranks}"]
        program = [str(Path(__file__).with_name("deepmd_kit_gloo.py"))]
        if not theirs or ranks == 1:
            program = ["-m", "deepmd"]
        arguments = ["--pt", "train", "input.json", "--skip-neighbor-stat"]
        process = Process([*launcher, *program, *arguments], folder, 1, processes=ranks)
        seen: dict[int, tuple[float, float]] = {}
        for seconds, line in process.lines():
            row = re.search(r"[Bb]atch\s+(\d+):", line)
            if row:
                seen.setdefault(int(row[1]), (seconds, process.processor_seconds()))
                mib = process.largest_mib()
            found = re.search(r"exchange between processes: (\d+ %)", line)
            share = found[1] if found else share
    timing = evaluate(Timing(descriptor, name), seen, process)
    rate = 1000.0 * ranks / timing.step_ms
    return Row(descriptor, name, ranks, timing.step_ms, rate, share, mib, timing.note)


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ranks", default="1,2", help="numbers of processes, by commas")
    parser.add_argument("--descriptor", default="se_e2_a", help="which, by commas")
    parser.add_argument("--steps", type=int, default=60, help="timed steps")
    parser.add_argument("--atoms", type=int, default=192, help="atoms of the system")
    parser.add_argument("--zero-stages", default="0", help="of several processes, by commas")
    parser.add_argument("--fitting", default="240,240,240", help="widths of the fitting net")
    parser.add_argument("--deepmd-kit", help="Python of an environment with DeePMD-kit")
    options = parser.parse_args()
    programs = {"pt": here()}
    if options.deepmd_kit:
        programs["deepmd-kit pt"] = options.deepmd_kit
    rows, fitting = [], [int(n) for n in options.fitting.split(",")]
    for descriptor in options.descriptor.split(","):
        steps = 4 * EVERY[descriptor] + options.steps
        for name, python in programs.items():
            for ranks in map(int, options.ranks.split(",")):
                stages = options.zero_stages if ranks > 1 and python == here() else "0"
                for stage in map(int, stages.split(",")):
                    size = {"atoms": options.atoms, "steps": steps, "zero_stage": stage}
                    shown = f"{name}, stage {stage}" if stage else name
                    rows.append(measure(descriptor, shown, python, ranks, **size, fitting=fitting))
    print(machine(1))
    print(f"{options.atoms} atoms, 1 frame per process and step, fitting net {fitting}\n")
    head = (
        "descriptor",
        "program",
        "processes",
        "step, ms",
        "frames/s",
        "exchange",
        "peak MiB",
        "",
    )
    print(table(head, [dataclasses.astuple(r) for r in rows]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
