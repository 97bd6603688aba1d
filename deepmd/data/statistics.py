# SPDX-License-Identifier: LGPL-3.0-or-later
"""Biases of the output fitted to the data, and the cache of statistics on disk."""

import hashlib
import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from deepmd.base.errors import DataError, InputError
from deepmd.data.path import DPPath


def fit_bias(
    counts: np.ndarray,
    labels: np.ndarray,
    *,
    rcond: float | None = None,
    preset: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Fit one value per type to labels of whole frames: ``counts @ bias = labels``.

    Parameters
    ----------
    counts : (n_frames, ntypes)
        Atoms of each type; for an intensive property their fractions.
    labels : (n_frames, size)
    rcond : float, optional
        Singular values below this fraction of the largest count as zero.
    preset : (ntypes, size), optional
        Values to keep; NaN where the value is to be fitted.

    Returns
    -------
    bias : (ntypes, size)
        The shortest of all best solutions where the data do not decide.
    std : (size,)
        Standard deviation of what the bias leaves.
    """
    counts, labels = np.asarray(counts, np.float64), np.asarray(labels, np.float64)
    shape = counts.shape[1], labels.shape[1]
    fixed = np.full(shape, np.nan) if preset is None else np.asarray(preset, np.float64)
    if fixed.shape != shape:
        raise InputError(
            f"preset bias has shape {fixed.shape}, expected {shape}", where="preset_out_bias"
        )
    known = np.nan_to_num(fixed)
    rest = labels - counts @ known
    bias = known.copy()
    # Columns of the labels with the same types preset are solved together.
    for pattern in np.unique(np.isnan(fixed), axis=1).T:
        columns = (np.isnan(fixed) == pattern[:, None]).all(axis=0)
        if pattern.any():
            solved = np.linalg.lstsq(counts[:, pattern], rest[:, columns], rcond=rcond)[0]
            bias[np.ix_(pattern, columns)] = solved
    return bias, (labels - counts @ bias).std(axis=0)


def fit_common_bias(
    natoms: np.ndarray, labels: np.ndarray, ntypes: int, *, intensive: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation over frames, the same for all types.

    Parameters
    ----------
    natoms : (n_frames,)
    labels : (n_frames, size)
    ntypes : int
    intensive : bool
        Otherwise the labels are divided by the number of atoms first.

    Returns
    -------
    bias, std : (ntypes, size)
    """
    share = labels if intensive else labels / np.asarray(natoms, np.float64)[:, None]
    return np.tile(share.mean(axis=0), (ntypes, 1)), np.tile(share.std(axis=0), (ntypes, 1))


def fit_atomic_bias(
    atype: np.ndarray, values: np.ndarray, ntypes: int
) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of atomic labels per type; NaN for types that do not occur.

    Parameters
    ----------
    atype : (n_atoms,)
    values : (n_atoms, size)

    Returns
    -------
    bias, std : (ntypes, size)
    """
    bias = np.full((ntypes, values.shape[1]), np.nan)
    std = bias.copy()
    for t in np.unique(atype):
        chosen = values[atype == t]
        bias[t], std[t] = chosen.mean(axis=0), chosen.std(axis=0)
    return bias, std


def descriptor_key(about: Mapping[str, Any]) -> str:
    """Name of the group that holds a descriptor's statistics (``r_0``, ``a_0``, …).

    Parameters
    ----------
    about : mapping
        What they depend on; existing caches fix the order of the keys and the format of the text.
    """
    return hashlib.sha1(json.dumps(about).encode()).hexdigest()


class StatFile:
    """Statistics kept on disk: a directory, or a ``.h5``/``.hdf5`` file with groups alike.

    Everything lies under one folder named by the type map: ``r_<t>`` and ``a_<t>`` (number, sum,
    sum of squares) under :func:`descriptor_key`; ``bias_atom_<key>``, ``std_atom_<key>``,
    ``observed_type``, ``fparam``, ``aparam`` beside it. Arrays are in the NumPy format, without a
    suffix.

    Parameters
    ----------
    path : str
    type_map : sequence of str
    mode : {"update", "read"}
        "read" raises where something is missing, and writes nothing.
    """

    def __init__(
        self, path: str | os.PathLike[str], type_map: Sequence[str], mode: str = "update"
    ) -> None:
        if mode not in ("update", "read"):
            raise InputError(
                f'"{mode}" is not a mode', where="stat_file_mode", fix="update or read"
            )
        top = DPPath(path, "r" if mode == "read" else "a")
        if mode == "read" and not top.exists():
            raise DataError("is missing", where=path, fix='use stat_file_mode "update" to make it')
        self.mode, self.root = mode, top / " ".join(type_map)

    def get(self, name: str) -> np.ndarray | None:
        """Return an array or None; ``name`` may have a group: ``<key>/r_0``.

        Raises
        ------
        DataError
            If it is missing in mode "read", damaged, or not finite.
        """
        path = self.root / name
        if not path.is_file():
            if self.mode == "read":
                raise DataError("is missing", where=path, fix='use stat_file_mode "update"')
            return None
        array = path.load_numpy()
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise DataError("NaN or infinite number in the statistics", where=path, fix="remove it")
        return array

    def put(self, name: str, array: np.ndarray) -> None:
        """Store an array; nothing happens in mode "read"."""
        if self.mode == "update":
            (self.root / name).save_numpy(array)

    def fetch(
        self,
        shapes: Mapping[str, tuple[int, ...]],
        compute: Callable[[], Mapping[str, np.ndarray]],
        *,
        group: str = "",
    ) -> dict[str, np.ndarray]:
        """Return arrays by name; if one of them is not here, all are computed and stored.

        Parameters
        ----------
        shapes : mapping of str to tuple of int
            Names and shapes; -1 for any number of elements.
        compute : function
        group : str
            Where they lie: ``<key>/``.

        Raises
        ------
        DataError
            If an array has another size.
        """
        found = {name: self.get(group + name) for name in shapes}
        known = {name: array for name, array in found.items() if array is not None}
        if len(known) < len(found):
            known = dict(compute())
            for name, array in known.items():
                self.put(group + name, array)
        for name, shape in shapes.items():
            if -1 not in shape and known[name].size != math.prod(shape):
                raise DataError(
                    f"has shape {known[name].shape}, expected {shape}",
                    where=self.root / (group + name),
                    fix="the cache belongs to another model; remove it",
                )
        return {name: known[name].reshape(shape) for name, shape in shapes.items()}


class NoStatFile(StatFile):
    """Nothing is kept."""

    def __init__(self) -> None:
        self.mode = "update"

    def get(self, name: str) -> None:
        return None

    def put(self, name: str, array: np.ndarray) -> None:
        pass
