# SPDX-License-Identifier: LGPL-3.0-or-later
"""Small systems and random numbers for tests."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from deepmd.dpmodel.model import Model
from deepmd.dpmodel.module import modules


def small_system(
    ntypes: int, rcut: float, *, n: int = 6, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return (coord, cell, atype) of a few atoms in a triclinic cell that is smaller than 2 rcut.

    Atoms lie on a distorted grid, so that none are very close.
    """
    rng = np.random.default_rng(seed)
    m = int(np.ceil(n ** (1 / 3)))
    cell = 1.3 * rcut * (np.eye(3) + 0.1 * rng.uniform(-1, 1, (3, 3)))
    grid = np.stack(np.meshgrid(*[np.arange(m)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)[:n]
    coord = (grid + 0.5 + rng.uniform(-0.25, 0.25, (n, 3))) / m @ cell
    atype = np.arange(n) % ntypes
    rng.shuffle(atype)
    return coord, cell, atype


def save_system(
    path: Path,
    atype: Sequence[int] | np.ndarray,
    type_map: Sequence[str],
    arrays: Mapping[str, np.ndarray | None],
) -> Path:
    """Write a system with one set of frames, and return its folder.

    Parameters
    ----------
    path : path
        New folder.
    atype : (n_atoms,) int
    type_map : sequence of str
    arrays : dict of str to array
        By file name, frames along the first axis; None leaves a file out.
    """
    (path / "set.000").mkdir(parents=True)
    (path / "type.raw").write_text("".join(f"{t}\n" for t in atype))
    (path / "type_map.raw").write_text("".join(f"{name}\n" for name in type_map))
    for name, array in arrays.items():
        if array is not None:
            flat = array.reshape(len(array), -1) if array.ndim > 2 else array
            np.save(path / "set.000" / f"{name}.npy", flat)
    return path


def rotation(seed: int = 0) -> np.ndarray:
    """Return a random rotation (3, 3) without reflection."""
    q, r = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    q = q * np.sign(np.diag(r))
    return q if np.linalg.det(q) > 0 else -q


def gradient(f: Callable[[np.ndarray], np.ndarray], x: np.ndarray, h: float = 1e-3) -> np.ndarray:
    """Differentiate by central differences of fourth order.

    Parameters
    ----------
    f : function
        Takes many points, (n_points, *x.shape), and returns one number of each, (n_points,).
    x : array
    h : float
        Step.

    Returns
    -------
    array of the shape of ``x``
    """
    steps = np.eye(x.size).reshape(x.size, *x.shape)
    points = [x + k * h * s for s in steps for k in (-2, -1, 1, 2)]
    values = f(np.stack(points)).reshape(x.size, 4)
    return (values @ np.array([1.0, -8.0, 8.0, -1.0]) / (12 * h)).reshape(x.shape)


def randomize(model: Model, seed: int = 0) -> Model:
    """Give a model statistics and biases that are not trivial, so that a term left out shows."""
    rng = np.random.default_rng(seed)
    for node in modules(model):
        names = node.serial.buffers
        if "dstd" in names:
            _randomize_statistics(node, rng)
        for name in ("out_bias", "bias_atom_e"):
            if name in names and getattr(node, name) is not None:
                setattr(node, name, rng.normal(size=getattr(node, name).shape))
    return model


def _randomize_statistics(node: Any, rng: np.random.Generator) -> None:
    if node.dstd is None:
        return
    node.dstd = rng.uniform(0.5, 1.5, node.dstd.shape)
    if node.dstd.shape[-1] == 4:  # the three directions are equal
        node.dstd[..., 2:] = node.dstd[..., 1:2]
    if not getattr(node, "set_davg_zero", True):
        node.davg = np.zeros_like(node.davg)
        node.davg[..., 0] = rng.uniform(-0.1, 0.1, node.davg.shape[:-1])
