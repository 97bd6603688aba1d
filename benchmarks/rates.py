# SPDX-License-Identifier: LGPL-3.0-or-later
"""Rates of this machine, and the matrix products that a piece of work consists of.

Products are counted in the mathematics, whatever a program does in their place: those of the
networks of all neighbors within the cutoff, of the descriptor and of the fitting net, with the
derivatives that forces, and a loss of forces, need. A table instead of a network, or an evaluation
that leaves something out, may therefore reach more than the rate of the machine.
"""

import argparse
import functools
import json
import sys
import time

import numpy as np
from common import measured, table, water
from models import model as model_section


def _best(work, repeats: int = 12) -> float:
    """Shortest time of a call [s]."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


def measure() -> dict[str, float]:
    """Rates of this process: products of matrices [GFLOP/s] and copies of memory [GB/s]."""
    rng, n = np.random.default_rng(1), 1024
    found = {}
    for name in ("float64", "float32"):
        a = rng.normal(size=(n, n)).astype(name)
        b = a.T.copy()
        out = np.empty_like(a)
        found[name] = 2.0 * n**3 / _best(functools.partial(np.matmul, a, b, out=out)) * 1e-9
    source = np.ones(1 << 24)
    target = np.empty_like(source)
    found["memory"] = 2.0 * source.nbytes / _best(lambda: np.copyto(target, source)) * 1e-9
    return found


@functools.cache
def rates(threads: int) -> dict[str, float]:
    """Return the rates of so many threads, each process of one thread where they are ranks."""
    return measured(__file__, threads)


@functools.cache
def products(descriptor: str = "se_e2_a", *, training: bool = False) -> float:
    """Return the floating-point operations of matrix products per atom of water.

    Of energy, forces and virial, or of a training step with its gradients. Needs PyTorch.
    """
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from deepmd.dpmodel.batch import Batch
    from deepmd.dpmodel.model import build_model, prepare
    from deepmd.dpmodel.neighbors import batch_edges
    from deepmd.pt.lift import convert
    from deepmd.schema import normalize

    section = _tight(model_section(descriptor))
    data = {
        "model": section,
        "learning_rate": {"start_lr": 1e-3},
        "training": {"training_data": {"systems": ["none"]}, "numb_steps": 1},
    }
    lifted = convert(build_model(normalize(data)["model"]))
    coord, cell, atype = water(192)
    batch = Batch.from_arrays(coord, cell[None], atype)
    batch.edges = batch_edges(batch, lifted.get_rcut())
    inputs = prepare(batch, lifted.packings()).map(torch.tensor)
    with FlopCounterMode(display=False) as counter:
        found = lifted.predict(inputs, 1, order=3 if training else 1)
        if training:
            loss = found["energy"].sum() + found["force"].pow(2).sum() + found["virial"].sum()
            torch.autograd.grad(loss, list(lifted.parameters()), allow_unused=True)
    return counter.get_total_flops() / len(atype)


def _tight(section: dict) -> dict:
    """Return a model with as many slots as there are neighbors on average: empty ones are no work."""
    coord, cell, atype = water(192)
    descriptor = dict(section["descriptor"])
    if descriptor["type"] not in ("se_e2_a", "se_e3"):
        return section
    box = np.diag(cell)
    shifts = np.array(np.meshgrid(*3 * [[-1, 0, 1]], indexing="ij")).reshape(3, -1).T * box
    far = coord[0][None, :, None] + shifts[:, None, None] - coord[0][None, None]
    near = np.linalg.norm(far, axis=-1) < descriptor["rcut"]
    sel = [near[:, atype == t].sum() / len(atype) for t in range(2)]
    return {**section, "descriptor": {**descriptor, "sel": [round(float(n)) for n in sel]}}


def share(flops: float, seconds: float, threads: int, precision: str = "float64") -> float:
    """Return the share of the machine's matrix rate, in %."""
    return 100.0 * flops / seconds * 1e-9 / rates(threads)[precision]


def describe(threads: int) -> str:
    """One line about the rates of so many threads."""
    found = rates(threads)
    return (
        f"matrix products {found['float64']:.0f} GFLOP/s in float64, {found['float32']:.0f} in "
        f"float32; memory {found['memory']:.1f} GB/s"
    )


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1, help="threads of the process")
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure()))
        return 0
    print(describe(options.threads))
    names = ("se_e2_a", "dpa1", "dpa2", "dpa3", "se_e3")
    rows = [[n, products(n) * 1e-6, products(n, training=True) * 1e-6] for n in names]
    print(table(("descriptor", "MFLOP/atom", "with a training step"), rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
