# SPDX-License-Identifier: LGPL-3.0-or-later
"""Cost of ``uncertainty`` in LAMMPS: runs with the keyword and without it in turn, as pairs.

    python benchmarks/lammps_uncertainty.py [--atoms 1536] [--steps 15] [--pairs 6] [--compressed]

The model is that of ``uncertainty.py``; one rank, one thread. Every second pair begins with the run
without the keyword, so that a machine that becomes slower or faster favors neither.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np
from lammps import measure, ours, write_data, write_input
from uncertainty import model_file


def ratios(options: argparse.Namespace, folder: Path) -> tuple[int, np.ndarray]:
    """Return the number of atoms, and seconds of the loops (n_pairs, 2): without, with."""
    program = ours()
    model = model_file(folder, compressed=options.compressed)
    atoms = write_data(folder / "water.data", options.atoms)
    rows: list[tuple[float, float]] = []
    begin = time.monotonic()
    while len(rows) < options.pairs:
        found = {}
        for keyword in ("", "uncertainty")[:: -1 if len(rows) % 2 else 1]:
            write_input(folder, model, options.steps, False, keyword)
            found[keyword] = measure(folder, program, 1, 1)["loop"]
        rows.append((found[""], found["uncertainty"]))
        if time.monotonic() - begin > options.seconds:
            break
    return atoms, np.array(rows)


def main() -> None:
    """Measure, and print a line of JSON and one to read."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--atoms", type=int, default=1536)
    parser.add_argument("--steps", type=int, default=15)
    parser.add_argument("--pairs", type=int, default=6)
    parser.add_argument("--seconds", type=float, default=600.0, help="begin no pair after that")
    parser.add_argument("--compressed", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        atoms, times = ratios(given, Path(folder))
    scale = 1e6 / (atoms * given.steps)
    about = {"atoms": atoms, "compressed": given.compressed, "us_per_atom_and_step": times * scale}
    print(json.dumps(about, default=lambda x: np.round(x, 3).tolist()))
    each = np.sort(100.0 * (times[:, 1] / times[:, 0] - 1.0))
    least = 100.0 * (times[:, 1].min() / times[:, 0].min() - 1.0)
    print(
        f"median of {len(each)} pairs {np.median(each):+.1f} % ({each[0]:+.1f} to {each[-1]:+.1f}), "
        f"minima {least:+.1f} %"
    )


if __name__ == "__main__":
    main()
