# SPDX-License-Identifier: LGPL-3.0-or-later
"""Time of opening an extended XYZ file for the first and the second time, beside ASE's own reading.

The first time a file is read with ASE and put into a cache; the second time the cache is opened. Processor
time is given, too: it hardly depends on what else runs.
"""

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
from common import table, water

from deepmd.data.frames import Frame, Frames
from deepmd.data.search import open_systems
from deepmd.data.writers import write_frames
from deepmd.dpmodel.label import Label

LABELS = {"energy": Label("energy", 1, False), "force": Label("force", 3, True)}


def write(path: Path, count: int, atoms: int) -> None:
    """Write frames of water with random labels."""
    rng = np.random.default_rng(0)
    coord, cell, types = water(atoms, count)
    frames = [
        Frame(
            types,
            one,
            cell,
            {"energy": rng.normal(size=1), "force": rng.normal(size=3 * len(types))},
            k,
        )
        for k, one in enumerate(coord)
    ]
    write_frames(Frames(["O", "H"], LABELS, frames), path)


def timed(work: Callable[[], Any]) -> tuple[float, float]:
    """Wall time and processor time of a call [s]."""
    wall, processor = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - processor


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=10_000)
    parser.add_argument("--atoms", type=int, default=24)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        write(Path("a.extxyz"), options.frames, options.atoms)
        found = {
            "ASE": timed(lambda: ase.io.read("a.extxyz", index=":")),
            "first": timed(lambda: open_systems(["a.extxyz"])),
            "second": timed(lambda: open_systems(["a.extxyz"])),
        }
        os.chdir("/")
    if options.json:
        print(json.dumps(found))
        return
    base = found["ASE"]
    rows = [[k, *v, v[0] / base[0], v[1] / base[1]] for k, v in found.items()]
    print(table(["", "wall [s]", "processor [s]", "of ASE", "of ASE's processor time"], rows))


if __name__ == "__main__":
    main()
