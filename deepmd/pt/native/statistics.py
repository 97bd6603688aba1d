# SPDX-License-Identifier: LGPL-3.0-or-later
"""Samples of training data in the form that statistics of plugins take."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from deepmd.dpmodel.batch import Batch
from deepmd.dpmodel.statistics import Sample


def merged_sample(sample: Sample) -> list[dict[str, Any]]:
    """Return the sampled frames as dictionaries of tensors, one per batch of frames of equal size.

    They have ``coord`` (n_frames, n_atoms, 3) [Å], ``atype``, ``box`` (n_frames, 9) or None,
    ``natoms`` (n_frames, 2 + n_types), ``fparam``, ``aparam``, and every label with its flag,
    ``energy`` and ``find_energy``.
    """
    return [merged(part) for batch in sample.without_edges() for part in _of_equal_size(batch)]


def _of_equal_size(batch: Batch) -> Iterator[Batch]:
    """Iterate over the batch, or over its frames where these have different numbers of atoms."""
    if (batch.natoms == batch.natoms[0]).all():
        yield batch
        return
    ends = batch.offsets()
    for k in range(batch.n_frames):
        rows = {batch.n_frames: slice(k, k + 1), batch.n_atoms: slice(ends[k], ends[k + 1])}
        labels = {name: value[rows[len(value)]] for name, value in batch.labels.items()}
        yield dataclasses.replace(batch.frames(k, k + 1), labels=labels)


def merged(batch: Batch) -> dict[str, Any]:
    """Return a batch of frames of equal size as a dictionary; see :func:`merged_sample`."""
    nf, na = batch.n_frames, batch.n_atoms // batch.n_frames
    atype = batch.atype.reshape(nf, na)
    ntypes = int(atype.max(initial=0)) + 1
    counts = (atype[:, :, None] == np.arange(ntypes)).sum(axis=1)
    natoms = np.concatenate([np.full((nf, 2), na), counts], axis=1)
    out: dict[str, Any] = {
        "coord": batch.coord.reshape(nf, na, 3),
        "atype": atype,
        "box": batch.cell.reshape(nf, 9) if batch.periodic.all() else None,
        "natoms": natoms,
        "real_natoms_vec": natoms,
        "fparam": batch.fparam,
        "aparam": None if batch.aparam is None else batch.aparam.reshape(nf, na, -1),
        "find_fparam": float(batch.fparam is not None),
        "find_aparam": float(batch.aparam is not None),
    }
    for name, value in batch.labels.items():
        of_atoms = len(value) == nf * na and na > 1
        out[name] = value.reshape(nf, na, -1) if of_atoms else value
        out[f"find_{name}"] = float(batch.find.get(name, 0.0))
    return {k: torch.from_numpy(v) if isinstance(v, np.ndarray) else v for k, v in out.items()}
