# SPDX-License-Identifier: LGPL-3.0-or-later
"""Fingerprints of structures: pair distributions, the same for equal structures whatever their order."""

import itertools

import numpy as np

from deepmd.data.frames import Frame, Frames
from deepmd.dpmodel.neighbors import find_edges

#: Cutoff and spacing of the Gaussians [Å].
RCUT, SPACING = 6.0, 0.25


def fingerprints(frames: Frames, rcut: float = RCUT) -> np.ndarray:
    """Pair distributions by pairs of types, and the composition: (n_frames, any).

    Equal structures have equal fingerprints to rounding: neither a translation, a rotation nor the
    order of the atoms matters.
    """
    pairs = {
        p: k
        for k, p in enumerate(itertools.combinations_with_replacement(range(len(frames.names)), 2))
    }
    grid = np.arange(0.5, rcut, SPACING)
    out = np.zeros((len(frames.frames), len(pairs) * len(grid) + len(frames.names)))
    for k, frame in enumerate(frames.frames):
        out[k] = _of_frame(frame, rcut, grid, pairs, len(frames.names))
    return out


def _of_frame(
    frame: Frame, rcut: float, grid: np.ndarray, pairs: dict[tuple[int, int], int], ntypes: int
) -> np.ndarray:
    edges = find_edges(frame.coord, frame.cell, rcut)
    vector = frame.coord[edges.j] - frame.coord[edges.i]
    if frame.cell is not None:
        vector = vector + edges.shift @ frame.cell
    r = np.sqrt(np.einsum("ea,ea->e", vector, vector))
    low, high = np.sort(np.stack([frame.types[edges.i], frame.types[edges.j]]), axis=0)
    which = np.array([[pairs[min(a, b), max(a, b)] for b in range(ntypes)] for a in range(ntypes)])
    weight = 0.5 * (1.0 + np.cos(np.pi * np.minimum(r / rcut, 1.0)))
    density = np.zeros((len(pairs), len(grid)))
    for pair in range(len(pairs)):
        chosen = which[low, high] == pair
        gauss = np.exp(-0.5 * np.square((grid[:, None] - r[None, chosen]) / SPACING))
        density[pair] = gauss @ weight[chosen]
    natoms = len(frame.types)
    composition = np.bincount(frame.types, minlength=ntypes) / natoms
    return np.concatenate([density.reshape(-1) / natoms, composition])
