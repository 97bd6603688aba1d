# SPDX-License-Identifier: LGPL-3.0-or-later
"""Conservation of energy and time of a step of a DPLR model in LAMMPS, beside its short-range part.

The same atoms are integrated with the whole model (``fix dplr``, ``pppm/dplr``) and with its
short-range part alone. Printed are the drift of the total energy (a straight line through it), its
deviation from that line, and the time of a step with the shares of LAMMPS' own table: Pair, the
dipoles in ``fix dplr`` (Modify) and the mesh (Kspace). The model and the data file are those that
the example makes::

    cd examples/water/dplr        # what docs/dplr.md says: both models, then
    python lammps_data.py
    cd -
    python benchmarks/dplr.py --folder examples/water/dplr
"""

import argparse
import re
import sys
import tempfile
from pathlib import Path

import numpy as np
from common import machine, table
from lammps import measure, ours
from nve import line_through

START = """\
units          metal
atom_style     full
neighbor       1.0 bin
neigh_modify   every 10 delay 0 check no
read_data      {data}
group          real_atom type 1 2
group          centroids type 3
pair_style     deepmd {model}
pair_coeff     * * O H NULL
bond_style     zero
bond_coeff     *
special_bonds  lj/coul 1 1 1 angle no
"""
ELECTROSTATICS = """\
kspace_style   pppm/dplr 1e-5
kspace_modify  gewald {beta} diff ad order {order} mesh {mesh} {mesh} {mesh}
fix            0 all dplr model {model} type_associate 1 3 bond_type 1
"""
DYNAMICS = """\
compute        t real_atom temp
velocity       real_atom create {temperature} 23456789
velocity       real_atom zero linear
fix            1 real_atom nve
timestep       {timestep}
thermo         {every}
thermo_style   custom step etotal temp
thermo_modify  temp t line one format float %.12g
run            {warm}
run            {steps}
"""


def run(mesh: int | None, folder: Path, options: argparse.Namespace) -> list[object]:
    """Integrate with a mesh, or the short-range part alone; return a row of the table."""
    given = vars(options) | {
        "data": (options.folder / "water.data").resolve(),
        "model": (options.folder / "water.pth").resolve(),
        "every": max(1, options.steps // 200),
        "warm": 20,
        "mesh": mesh,
    }
    alone = "delete_atoms   group centroids bond yes\n"
    middle = alone if mesh is None else ELECTROSTATICS
    (folder / "in.lammps").write_text((START + middle + DYNAMICS).format(**given))
    loop = measure(folder, ours(), 1, options.threads)["loop"]
    text = (folder / "out").read_text()
    second = text.split("Step")[2]
    rows = re.findall(r"^ +(\d+) +(-?[\d.e+-]+) +(-?[\d.e+-]+) *$", second, re.M)
    step, energy, temperature = np.array(rows, float).T
    atoms = int(re.findall(r"(\d+) atoms in group real_atom", text)[0])
    milli = 1e3 * (energy - energy[0]) / atoms
    slope, deviation = line_through(options.timestep * (step - step[0]), milli)
    shares = [
        float(re.findall(rf"^{part} +\|.*\| *([\d.]+) *$", second, re.M)[0])
        if re.search(rf"^{part} ", second, re.M)
        else 0.0
        for part in ("Pair", "Modify", "Kspace")
    ]
    time = 1e3 * loop / options.steps
    chosen = re.findall(r"pppm/dplr: mesh (\d+) (\d+) (\d+)", text)
    name = "DPLR, mesh " + " ".join(chosen[0]) if chosen else "short range"
    return [
        name,
        atoms,
        int(step[-1] - step[0]),
        slope,
        deviation,
        temperature.mean(),
        time,
        *shares,
    ]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, required=True, help="water.pth and water.data")
    parser.add_argument("--steps", type=int, default=5000)
    parser.add_argument("--timestep", type=float, default=0.00025, help="ps")
    parser.add_argument("--temperature", type=float, default=340.0, help="of the start, K")
    parser.add_argument("--beta", type=float, default=0.4, help="ewald_beta of the model, 1/Å")
    parser.add_argument("--order", type=int, default=7, help="of the mesh")
    parser.add_argument(
        "--meshes", type=int, nargs="+", default=[0, 32],
        help="points per axis; 0: what a relative error of forces of 1e-5 needs",
    )  # fmt: skip
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    for name in ("water.pth", "water.data"):
        if not (options.folder / name).is_file():
            sys.exit(
                f"benchmarks/dplr.py: {options.folder / name}: there is no such file; docs/dplr.md "
                "says how the example makes it"
            )
    with tempfile.TemporaryDirectory() as temporary:
        rows = [run(mesh, Path(temporary), options) for mesh in [*options.meshes, None]]
    print(machine(options.threads))
    head = ["model", "atoms", "steps", "drift, meV/atom/ps", "deviation, meV/atom", "T, K",
            "ms/step", "Pair, %", "Modify, %", "Kspace, %"]  # fmt: skip
    print(table(head, rows))


if __name__ == "__main__":
    main()
