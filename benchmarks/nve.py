# SPDX-License-Identifier: LGPL-3.0-or-later
"""Conservation of energy in LAMMPS, and what compression changes.

The same start is integrated with a model and with its compressed form. Printed are the drift of the
total energy (a straight line through it), its deviation from that line, and the largest difference of
forces, energies and virials of the two models on stored steps of the first run. Without a model, one of the
golden files drives the water it was made for.
"""

import argparse
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from common import dp, environment, here, machine, table
from lammps import measure, ours

GOLDEN = Path(__file__).resolve().parents[1] / "tests/golden/compact/lammps"
STORED = 20  # steps whose forces are compared

INPUT = """\
units        metal
atom_style   atomic
atom_modify  map yes
read_data    {data}
pair_style   deepmd {model}
pair_coeff   * * {types}
neighbor     1.0 bin
neigh_modify every 1 delay 0 check yes
velocity     all create {temperature} 1
fix          1 all nve
timestep     {timestep}
thermo       {every}
thermo_style custom step etotal temp
thermo_modify line one format float %.12g
dump         1 all custom {frames} {name}.dump id type x y z
dump_modify  1 sort id format float %.15g
run          0
run          {steps}
"""


def read_dump(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return positions (frames, n, 3) [Å], cells (frames, 9) [Å] and types (n) of orthogonal boxes."""
    coord, cells, types = [], [], np.empty(0, int)
    for frame in path.read_text().split("ITEM: TIMESTEP\n")[1:]:
        box, atoms = frame.split("ITEM: BOX BOUNDS pp pp pp\n")[1].split("ITEM: ATOMS")
        low, high = np.array([line.split() for line in box.splitlines()], float).T
        rows = np.array([line.split() for line in atoms.splitlines()[1:]], float)
        types = rows[:, 1].astype(int) - 1
        coord.append(rows[:, 2:] - low)
        cells.append(np.diag(high - low).ravel())
    return np.array(coord), np.array(cells), types


def line_through(time: np.ndarray, energy: np.ndarray) -> tuple[float, float]:
    """Return the slope of the straight line through energies, and their deviation from it."""
    slope, start = np.polyfit(time, energy, 1)
    return float(slope), float(np.std(energy - slope * time - start))


def dynamics(folder: Path, name: str, model: Path, options: argparse.Namespace) -> list[object]:
    """Integrate; return a row of the table."""
    text = INPUT.format(
        name=name,
        model=model,
        data=Path(options.data).resolve(),
        types=" ".join(options.types),
        temperature=options.temperature,
        timestep=options.timestep,
        steps=options.steps,
        every=max(1, options.steps // 200),
        frames=max(1, options.steps // STORED),
    )
    (folder / "in.lammps").write_text(text)
    found = measure(folder, ours(), 1, options.threads)
    rows = re.findall(
        r"^ +(\d+) +(-?[\d.e+-]+) +(-?[\d.e+-]+) *$", (folder / "out").read_text(), re.M
    )
    step, energy, temperature = np.array(rows[1:], float).T
    atoms = len(read_dump(folder / f"{name}.dump")[2])
    time = step * options.timestep  # ps
    milli = 1e3 * (energy - energy[0]) / atoms
    slope, deviation = line_through(time, milli)
    return [name, atoms, int(step[-1]), time[-1], slope, slope * time[-1], deviation, milli[-1],
            temperature.mean(), found["loop"] * 1e6 / atoms / options.steps]  # fmt: skip


def differences(folder: Path, models: dict[str, Path]) -> list[str]:
    """Lines with the largest differences of two models on the stored steps of the first one."""
    from deepmd.infer import DeepPot

    coord, cells, types = read_dump(folder / f"{next(iter(models))}.dump")
    one, other = (DeepPot(path).eval(coord, cells, types) for path in models.values())
    lines = []
    for name, a, b in zip(("energy, eV", "force, eV/Å", "virial, eV"), one, other, strict=False):
        largest, scale = np.abs(a - b).max(), np.abs(a - a.mean(axis=0)).max()
        lines.append(f"{name:12} largest difference {largest:.2e}; largest change {scale:.2e}")
    return [*lines, f"on {len(coord)} steps of the run with the model that is not compressed"]


def compress(model: Path, folder: Path, options: argparse.Namespace) -> Path:
    """Write the model with tables for the embedding networks; return the path."""
    from deepmd.io.files import load_model, min_nbor_dist_of, save_model

    tree = dict(load_model(model))
    if min_nbor_dist_of(tree) is None:
        tree["@variables"] = {"min_nbor_dist": np.asarray(options.min_distance)}
    source, target = folder / "networks.dp", folder / "tables.dp"
    save_model(source, tree)
    arguments = ["-i", str(source), "-o", str(target), "-s", options.table_step]
    subprocess.run(
        dp(here(), "compress", *arguments),
        cwd=folder,
        env=environment(1, here()),
        stdout=subprocess.PIPE,
        check=True,
    )
    return target


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default=GOLDEN / "water_se_e2_a.dp", help="a .dp file")
    parser.add_argument("--data", default=GOLDEN / "water.data", help="atoms for read_data")
    parser.add_argument("--types", nargs="+", default=["O", "H"], help="of LAMMPS, in order")
    parser.add_argument("--steps", type=int, default=10000)
    parser.add_argument("--timestep", type=float, default=0.0005, help="ps")
    parser.add_argument("--temperature", type=float, default=300.0, help="of the start, K")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--table-step", default="0.01", help="of dp compress")
    parser.add_argument(
        "--min-distance", type=float, default=0.7, help="Å, where the file does not have it"
    )
    options = parser.parse_args()
    if not Path(options.model).is_file():
        sys.exit(f"benchmarks/nve.py: {options.model}: there is no such file; give --model")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        model = Path(options.model).resolve()
        models = {"networks": model, "tables": compress(model, folder, options)}
        rows = [dynamics(folder, name, path, options) for name, path in models.items()]
        lines = differences(folder, models)
    print(machine(options.threads))
    print("total energy per atom: drift and deviations from the line through it\n")
    head = ["model", "atoms", "steps", "ps", "drift, meV/ps", "drift, meV", "deviation, meV",
            "end - start, meV", "T, K", "µs/atom/step"]  # fmt: skip
    print(table(head, rows))
    print("\n".join(lines))


if __name__ == "__main__":
    main()
