# SPDX-License-Identifier: LGPL-3.0-or-later
"""Inputs to trace with.

Tracing looks at sizes, not at values, and takes two sizes that are equal for the same size. So the
sizes here are primes, all different, and different from the widths of the model.
"""

from collections.abc import Iterator, Sequence

import torch

from deepmd.dpmodel.input_def import InputDef
from deepmd.dpmodel.model import Inputs
from deepmd.dpmodel.neighbors import Packing, slot_axes
from deepmd.dpmodel.output_def import Level


def _primes(taken: set[int]) -> Iterator[int]:
    n = 11
    while True:
        if all(n % k for k in range(2, int(n**0.5) + 1)) and n not in taken:
            yield n
        n += 1


def example_inputs(
    packings: Sequence[Packing],
    *,
    inputs: Sequence[InputDef],
    taken: Sequence[int] = (),
    n_frames: int | None = None,
    sites: int = 1,
    device: torch.device | None = None,
    sizes: Iterator[int] | None = None,
) -> Inputs:
    """Return inputs of the evaluation entry, all sizes different.

    Parameters
    ----------
    packings : sequence of Packing
        Of the model.
    inputs : sequence of InputDef
        Inputs of the evaluation entry.
    taken : sequence of int
        Sizes not to be used.
    n_frames : int, optional
        Number of frames, where that is fixed.
    sites : int
        The number of atoms is a multiple of this: 2 where every atom has a virtual partner.
    device : torch.device, optional
        Where the model is.
    sizes : iterator of int, optional
        Sizes to be used; primes that are not taken by default.
    """
    sizes = sizes or _primes(set(taken) | {one.size for one in inputs})
    edges = next(sizes)
    atoms = sites * next(n for n in sizes if sites * n not in taken)
    frames = next(sizes) if n_frames is None else n_frames
    axes = slot_axes(packings)
    named = dict(zip(dict.fromkeys(name for slot in axes for name in slot), sizes, strict=False))
    named["atoms"] = atoms

    def real(*shape: int) -> torch.Tensor:
        return torch.ones(shape, dtype=torch.float64, device=device)

    def index(*shape: int) -> torch.Tensor:
        return torch.zeros(shape, dtype=torch.int64, device=device)

    return Inputs(
        real(edges, 3),
        index(edges),
        index(edges),
        index(atoms),
        index(atoms),
        {one.name: real(frames, one.size) for one in inputs if one.level is Level.FRAME},
        {one.name: real(atoms, one.size) for one in inputs if one.level is Level.ATOM},
        [index(*(named[name] for name in slot)) for slot in axes],
    )


def widths(module: torch.nn.Module) -> set[int]:
    """Return all sizes of the arrays of a module."""
    return {n for x in (*module.parameters(), *module.buffers()) for n in x.shape}
