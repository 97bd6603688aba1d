# SPDX-License-Identifier: LGPL-3.0-or-later
"""Fits of output biases to tensors, as clients ask for them; see :mod:`deepmd.data.statistics`."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from deepmd.data.path import DPPath
from deepmd.data.statistics import fit_atomic_bias, fit_bias, fit_common_bias
from deepmd.pt.utils.utils import to_torch_tensor

__all__ = ["compute_output_stats"]

Sampled = Sequence[Mapping[str, Any]]
Tensors = dict[str, torch.Tensor]


def compute_output_stats(
    merged: Callable[[], Sampled] | Sampled,
    ntypes: int,
    keys: str | Sequence[str] = ("energy",),
    stat_file_path: DPPath | None = None,
    rcond: float | None = None,
    preset_bias: Mapping[str, Sequence[Any]] | None = None,
    model_forward: Callable[..., Mapping[str, torch.Tensor]] | None = None,
    stats_distinguish_types: bool = True,
    intensive: bool = False,
) -> tuple[Tensors, Tensors]:
    """Fit bias and standard deviation per type to the labels of sampled frames.

    Parameters
    ----------
    merged : sequence of dict, or function that returns it
        Frames of a system each: ``atype`` (n_frames, n_atoms), labels ``KEY`` and ``atom_KEY`` with
        ``find_KEY``, and ``atom_exclude_types``.
    ntypes : int
    keys : str or sequence of str
        Names of the outputs.
    stat_file_path : DPPath, optional
        Folder of ``bias_atom_KEY`` and ``std_atom_KEY``, which are read if they are there.
    rcond : float, optional
        See :func:`deepmd.data.statistics.fit_bias`.
    preset_bias : mapping of str to list, optional
        Numbers to keep per type, or None.
    model_forward : function, optional
        Gives predictions of atoms by name; the fit is then to what they leave.
    stats_distinguish_types : bool
        Whether every type has numbers of its own.
    intensive : bool
        Whether the labels do not grow with the number of atoms.

    Returns
    -------
    bias, std : dict of str to (ntypes, ...)
        Of outputs that have labels.
    """
    names = [keys] if isinstance(keys, str) else list(keys)
    stored = [f"{kind}_atom_{name}" for kind in ("bias", "std") for name in names]
    found: dict[str, np.ndarray] = {}
    if stat_file_path is not None and all((stat_file_path / key).is_file() for key in stored):
        found = {key: (stat_file_path / key).load_numpy() for key in stored}
    else:
        sampled = merged() if callable(merged) else merged
        for name in names:
            frames = _frames(sampled, name, ntypes, model_forward, intensive=intensive)
            preset = (preset_bias or {}).get(name)
            if not stats_distinguish_types:
                made = _common(frames, name, intensive=intensive)
            else:
                made = _fit(frames, name, ntypes, preset, rcond, intensive=intensive)
            found |= dict(zip((f"bias_atom_{name}", f"std_atom_{name}"), made, strict=False))
        for key, array in found.items() if stat_file_path is not None else ():
            (stat_file_path / key).save_numpy(array)  # type: ignore[operator]
    bias, std = (
        {k.removeprefix(kind): to_torch_tensor(v) for k, v in found.items() if k.startswith(kind)}
        for kind in ("bias_atom_", "std_atom_")
    )
    return bias, std  # type: ignore[return-value]


def _frames(
    sampled: Sampled,
    name: str,
    ntypes: int,
    forward: Callable[..., Mapping[str, torch.Tensor]] | None,
    *,
    intensive: bool,
) -> list[dict[str, Any]]:
    """Return types, counts and labels of every system, less what a model predicts."""
    out = []
    for system in sampled:
        types = np.asarray(system["atype"])
        counts = (types[:, :, None] == np.arange(ntypes)).sum(axis=1).astype(np.float64)
        counts[:, list(system.get("atom_exclude_types", ()))] = 0.0
        labels = {
            key: np.asarray(system[key], np.float64)
            for key in (name, f"atom_{name}")
            if key in system and np.any(np.asarray(system.get(f"find_{key}", 0.0)))
        }
        if labels and forward is not None:
            given = [system.get(k) for k in ("coord", "atype", "box", "fparam", "aparam")]
            predicted = forward(*given)[name].detach().cpu().numpy()
            whole = predicted.mean(axis=1) if intensive else predicted.sum(axis=1)
            parts = {name: whole, f"atom_{name}": predicted}
            labels = {k: v - parts[k].reshape(v.shape) for k, v in labels.items()}
        out.append({"atype": types, "counts": counts, **labels})
    return out


def _common(frames: list[dict[str, Any]], name: str, *, intensive: bool) -> tuple[np.ndarray, ...]:
    """Return bias and deviation that all types share, or nothing where there is no label."""
    having = [f for f in frames if name in f]
    if not having:
        return ()
    counts, labels = (np.concatenate([f[k] for f in having]) for k in ("counts", name))
    flat, ntypes = labels.reshape(len(labels), -1), counts.shape[1]
    made = fit_common_bias(counts.sum(axis=1), flat, ntypes, intensive=intensive)
    return tuple(x.reshape(ntypes, *labels.shape[1:]) for x in made)


def _fit(
    frames: list[dict[str, Any]],
    name: str,
    ntypes: int,
    preset: Sequence[Any] | None,
    rcond: float | None,
    *,
    intensive: bool,
) -> tuple[np.ndarray, ...]:
    """Return bias and deviation per type: means of atomic labels, the rest from frames."""
    atom = f"atom_{name}"
    having = [f for f in frames if name in f or atom in f]
    if not having:
        return ()
    one = having[0]
    shape = one[name].shape[1:] if name in one else one[atom].shape[2:]
    size, deviation = int(np.prod(shape)), None
    bias = np.full((ntypes, size), np.nan)
    if any(atom in f for f in having):
        types = np.concatenate([f["atype"].reshape(-1) for f in having if atom in f])
        values = np.concatenate([f[atom].reshape(-1, size) for f in having if atom in f])
        bias, deviation = fit_atomic_bias(types, values, ntypes)
        deviation = np.where(np.isnan(deviation), 1.0, deviation)
    for t, value in enumerate(preset or ()):
        if value is not None:
            bias[t] = np.reshape(value, -1)
    if any(name in f for f in having) and np.isnan(bias).any():
        counts, labels = (
            np.concatenate([f[k] for f in having if name in f]) for k in ("counts", name)
        )
        counts = counts / counts.sum(axis=1, keepdims=True) if intensive else counts
        bias, left = fit_bias(counts, labels.reshape(len(labels), -1), rcond=rcond, preset=bias)
        deviation = np.tile(left, (ntypes, 1)) if deviation is None else deviation
    deviation = np.ones_like(bias) if deviation is None else deviation
    return np.nan_to_num(bias).reshape(ntypes, *shape), deviation.reshape(ntypes, *shape)
