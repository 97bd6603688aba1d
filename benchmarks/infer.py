# SPDX-License-Identifier: LGPL-3.0-or-later
"""Time of an evaluation of energy, forces and virial, from positions on, per atom.

A model with random weights is written once, and opened by one process per kind of file and size.
The search for neighbors is part of the time; its share, and that of the packing, are measured
apart where the program is this one.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

from common import Process, dp, here, machine, table, water
from models import model as model_section
from rates import describe, products, share

SUFFIXES = {
    **{"numpy": ".dp", "pt": ".pth", "jax": ".hlo"},
    **{"tf": ".pb", "savedmodel": ".savedmodel", "savedmodeltf": ".savedmodeltf"},
}
SIZES = (192, 1536, 5184, 20000)


def write_model(path: Path, descriptor: str = "se_e2_a") -> None:
    """Write a model with random weights as a neutral file."""
    from deepmd.dpmodel.model import build_model
    from deepmd.io import save_model
    from deepmd.runtime.checkpoint import Checkpoint
    from deepmd.schema import normalize

    data = {
        "model": model_section(descriptor),
        "learning_rate": {"start_lr": 1e-3},
        "training": {"training_data": {"systems": ["none"]}, "numb_steps": 1},
    }
    params = normalize(data)["model"]
    model = build_model(params)
    checkpoint = Checkpoint(models={"Default": model}, model_params=params, min_nbor_dist=0.9)
    save_model(path, checkpoint.model_data())


# -- the process that is measured: it must run with any program that has deepmd.infer --------------


def work(model: str, atoms: int, steps: int, seconds: float) -> dict:
    """Evaluate repeatedly; return medians [s]."""
    from deepmd.infer import DeepPot

    coord, cell, atype = water(atoms, frames=2)
    potential = DeepPot(model)

    def evaluate(k: int) -> float:
        start = time.perf_counter()
        potential.eval(coord[k % 2][None], cell.reshape(1, 9), atype)
        return time.perf_counter() - start

    first = evaluate(0)
    warm = [evaluate(1), evaluate(0)]
    count = max(1, min(steps, int(seconds / max(min(warm), 1e-6))))
    times = [evaluate(k) for k in range(count)]
    result = {"atoms": len(atype), "first": first, "eval": statistics.median(times)}
    result.update(shares(potential, coord, cell, atype, count))
    return result


def shares(potential, coord, cell, atype, count: int) -> dict:
    """Time of the search and of the packing alone; empty for another program."""
    try:
        from deepmd.dpmodel.batch import Batch
        from deepmd.dpmodel.model import prepare
        from deepmd.dpmodel.neighbors import batch_edges

        packings = potential.model.packings()
    except (ImportError, AttributeError):
        return {}
    search, packing = [], []
    for k in range(max(count, 3)):
        batch = Batch.from_arrays(coord[k % 2][None], cell[None], atype)
        start = time.perf_counter()
        batch.edges = batch_edges(batch, potential.get_rcut())
        middle = time.perf_counter()
        prepare(batch, packings)
        search.append(middle - start)
        packing.append(time.perf_counter() - middle)
    return {"search": statistics.median(search), "packing": statistics.median(packing)}


# -- the program that measures ---------------------------------------------------------------------


def measure(name: str, python: str, model: Path, atoms: int, options) -> list:
    """Run one process; return a row of the table."""
    arguments = [python, str(Path(__file__).resolve()), "--work", str(model)]
    arguments += ["--atoms", str(atoms), "--steps", str(options.steps)]
    arguments += ["--seconds", str(options.seconds)]
    process = Process(arguments, model.parent, options.threads)
    found = None
    for _, line in process.lines():
        if line.startswith("{"):
            found = json.loads(line)
    if process.failed or found is None:
        note = process.tail[-1][-70:] if process.tail else "no output"
        return [name, atoms, *[float("nan")] * 7, note]
    n = found["atoms"]
    micro = 1e6 * found["eval"] / n
    search = 100.0 * found.get("search", float("nan")) / found["eval"]
    packing = 100.0 * found.get("packing", float("nan")) / found["eval"]
    milli = 1000.0 * found["eval"]
    rate = share(products() * n, found["eval"], options.threads)
    return [name, n, micro, milli, rate, search, packing, found["first"], process.peak_mib, ""]


def convert(python: str, source: Path, target: Path, threads: int) -> str:
    """Convert a model file with an environment's own command; return why that failed, or ''."""
    process = Process(
        dp(python, "convert-backend", source.name, target.name), source.parent, threads
    )
    for _ in process.lines():
        pass
    return process.tail[-1][-70:] if process.failed else ""


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backends", default="numpy,pt", help="which, by commas")
    parser.add_argument("--atoms", default=",".join(map(str, SIZES)), help="sizes, by commas")
    parser.add_argument("--steps", type=int, default=20, help="evaluations at most")
    parser.add_argument("--seconds", type=float, default=10.0, help="time for them at most")
    parser.add_argument("--threads", type=int, default=1, help="threads of each process")
    parser.add_argument("--deepmd-kit", help="Python of an environment with DeePMD-kit")
    parser.add_argument("--deepmd-kit-backends", default="pt", help="which of it, by commas")
    parser.add_argument("--work", metavar="MODEL", help=argparse.SUPPRESS)
    options = parser.parse_args()
    sizes = [int(n) for n in options.atoms.split(",")]
    if options.work:
        print(json.dumps(work(options.work, sizes[0], options.steps, options.seconds)))
        return 0
    programs = [(name, here(), SUFFIXES.get(name, name)) for name in options.backends.split(",")]
    if options.deepmd_kit:
        for name in options.deepmd_kit_backends.split(","):
            programs.append((f"deepmd-kit {name}", options.deepmd_kit, SUFFIXES[name]))
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        source = Path(temporary) / "water.dp"
        write_model(source)
        for name, python, suffix in programs:
            model = source
            if suffix != ".dp":
                model = source.with_name(name.replace(" ", "_") + suffix)
                why = convert(python, source, model, options.threads)
                if why:
                    rows.append([name, "-", *[float("nan")] * 7, why])
                    continue
            rows += [measure(name, python, model, n, options) for n in sizes]
    print(machine(options.threads))
    print(describe(options.threads))
    print(
        "energy, forces and virial of one frame of water, float64; shares in %; rate: share of the"
    )
    print("machine's matrix rate, if all products of the mathematics were made\n")
    head = ["program", "atoms", "µs/atom", "ms", "rate", "search", "packing", "first,s", "peak,MiB"]
    print(table([*head, ""], rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
