# SPDX-License-Identifier: LGPL-3.0-or-later
"""Time to write a compiled file (``.pth``, ``.hlo``) of a model with random weights, by types."""

import argparse
import sys
import tempfile
import time
from pathlib import Path

from common import machine, table
from models import model


def freeze(descriptor: str, ntypes: int, suffix: str) -> tuple[float, float, float]:
    """Return wall time [s], processor time [s] and size of the file [MiB]."""
    from deepmd.dpmodel.model import build_model
    from deepmd.runtime.checkpoint import Checkpoint
    from deepmd.schema import normalize

    if suffix == ".pth":
        from deepmd.pt.torchscript.export import write_pth as write
    else:
        from deepmd.jax.export import write_hlo as write

    section = model(descriptor)
    section["type_map"] = [f"T{k}" for k in range(ntypes)]
    if isinstance(section["descriptor"].get("sel"), list):
        section["descriptor"] = {**section["descriptor"], "sel": [max(4, 138 // ntypes)] * ntypes}
    training = {"training_data": {"systems": ["none"]}, "numb_steps": 1}
    data = {"model": section, "learning_rate": {"start_lr": 1e-3}, "training": training}
    params = normalize(data)["model"]
    built = build_model(params)
    point = Checkpoint(models={"Default": built}, model_params=params, min_nbor_dist=0.9)
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary) / f"model{suffix}"
        start = time.perf_counter(), time.process_time()
        write(path, point.model_data())
        size = path.stat().st_size / 2**20
    return time.perf_counter() - start[0], time.process_time() - start[1], size


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--descriptor", default="se_e2_a,dpa1", help="which, by commas")
    parser.add_argument("--types", default="2,5,10", help="numbers of types, by commas")
    parser.add_argument("--suffix", default=".pth", choices=(".pth", ".hlo"), help="kind of file")
    options = parser.parse_args()
    rows = [
        (name, int(n), *freeze(name, int(n), options.suffix))
        for name in options.descriptor.split(",")
        for n in options.types.split(",")
    ]
    print(machine(1))
    print(table(("descriptor", "types", "wall, s", "processor, s", "file, MiB"), rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
