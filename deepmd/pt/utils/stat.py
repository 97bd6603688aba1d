# SPDX-License-Identifier: LGPL-3.0-or-later
"""Biases from data under the name that plugins import; see :mod:`deepmd.data.statistics`."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from deepmd.data.statistics import fit_bias


def compute_output_stats(
    merged: Callable[[], list[dict]] | list[dict],
    ntypes: int,
    keys: Sequence[str] = ("energy",),
    stat_file_path: Any = None,
    rcond: float | None = None,
    preset_bias: Mapping[str, Sequence[Any]] | None = None,
    **kwargs: Any,
) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Fit one number per type to the labels of frames.

    Parameters
    ----------
    merged : list of dict, or function that returns one
        Samples, see :mod:`deepmd.pt.native.statistics`.
    ntypes : int
    keys : sequence of str
        Names of the labels.
    stat_file_path
        Accepted; nothing is kept here.
    rcond : float, optional
        Singular values below this fraction of the largest are dropped.
    preset_bias : dict of str to list, optional
        Numbers of types that are kept; None where one is fitted.

    Returns
    -------
    bias, std : dict of str to (ntypes, size)
    """
    samples = merged() if callable(merged) else merged
    bias, std = {}, {}
    for key in [keys] if isinstance(keys, str) else keys:
        found = [one for one in samples if float(one.get(f"find_{key}", 1.0)) > 0 and key in one]
        if not found:
            continue
        counts = np.concatenate([_counts(one["atype"], ntypes) for one in found])
        labels = np.concatenate(
            [one[key].cpu().numpy().reshape(len(one[key]), -1) for one in found]
        )
        given = (preset_bias or {}).get(key)
        known = None
        if given is not None:
            known = np.stack([_known(value, labels.shape[1]) for value in given])
        fitted, spread = fit_bias(counts, labels, rcond=rcond, preset=known)
        bias[key] = torch.from_numpy(np.asarray(fitted))
        std[key] = torch.from_numpy(np.tile(spread, (ntypes, 1)))
    return bias, std


def _counts(atype: torch.Tensor, ntypes: int) -> np.ndarray:
    kinds = atype.cpu().numpy()
    return (kinds[:, :, None] == np.arange(ntypes)).sum(axis=1).astype(np.float64)


def _known(value: Any, size: int) -> np.ndarray:
    return np.full(size, np.nan) if value is None else np.broadcast_to(np.asarray(value), (size,))
