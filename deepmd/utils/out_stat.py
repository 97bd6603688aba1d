# SPDX-License-Identifier: LGPL-3.0-or-later
"""Fits of output biases under the names that clients import; see :mod:`deepmd.data.statistics`."""

import numpy as np

from deepmd.data.statistics import fit_atomic_bias, fit_bias, fit_common_bias

__all__ = [
    "compute_stats_do_not_distinguish_types",
    "compute_stats_from_atomic",
    "compute_stats_from_redu",
]


def compute_stats_from_redu(
    output_redu: np.ndarray,
    natoms: np.ndarray,
    assigned_bias: np.ndarray | None = None,
    rcond: float | None = None,
    intensive: bool = False,
) -> tuple[np.ndarray, np.ndarray]:
    """Fit one bias per type to labels of whole frames.

    Parameters
    ----------
    output_redu : (n_frames, ...)
        Labels.
    natoms : (n_frames, ntypes)
        Atoms of each type.
    assigned_bias : (ntypes, ...), optional
        Values to keep; NaN where one is to be fitted.
    rcond : float, optional
        See :func:`deepmd.data.statistics.fit_bias`.
    intensive : bool
        Whether the labels do not grow with the number of atoms.

    Returns
    -------
    bias : (ntypes, ...)
    std : (...,)
        Standard deviation of what the bias leaves.
    """
    labels, counts = np.asarray(output_redu, np.float64), np.asarray(natoms, np.float64)
    shape = labels.shape[1:]
    if intensive:
        counts = counts / counts.sum(axis=1, keepdims=True)
    preset = None if assigned_bias is None else np.reshape(assigned_bias, (counts.shape[1], -1))
    bias, std = fit_bias(counts, labels.reshape(len(labels), -1), rcond=rcond, preset=preset)
    return bias.reshape(-1, *shape), std.reshape(shape)


def compute_stats_do_not_distinguish_types(
    output_redu: np.ndarray,
    natoms: np.ndarray,
    assigned_bias: np.ndarray | None = None,
    intensive: bool = False,
) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and standard deviation over frames, (ntypes, ...), the same for all types.

    The parameters are those of :func:`compute_stats_from_redu`; ``assigned_bias`` has no effect.
    """
    labels, counts = np.asarray(output_redu, np.float64), np.asarray(natoms, np.float64)
    flat = labels.reshape(len(labels), -1)
    out = fit_common_bias(counts.sum(axis=1), flat, counts.shape[1], intensive=intensive)
    return out[0].reshape(-1, *labels.shape[1:]), out[1].reshape(-1, *labels.shape[1:])


def compute_stats_from_atomic(
    output: np.ndarray, atype: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and standard deviation of labels of atoms by type, NaN for absent types.

    Parameters
    ----------
    output : (n_frames, n_atoms, ...)
    atype : (n_frames, n_atoms)

    Returns
    -------
    bias, std : (largest type + 1, ...)
    """
    types, shape = np.asarray(atype).reshape(-1), np.shape(output)[2:]
    bias, std = fit_atomic_bias(types, np.reshape(output, (types.size, -1)), int(types.max()) + 1)
    return bias.reshape(-1, *shape), std.reshape(-1, *shape)
