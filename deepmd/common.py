# SPDX-License-Identifier: LGPL-3.0-or-later
"""Small helpers under the names that clients import."""

import os
from typing import Any

import numpy as np

from deepmd.base.errors import InputError, did_you_mean
from deepmd.env import GLOBAL_NP_FLOAT_PRECISION as GLOBAL_NP_FLOAT_PRECISION

_PRECISIONS = {
    "default": np.float64,
    "float64": np.float64,
    "double": np.float64,
    "float32": np.float32,
    "single": np.float32,
    "float16": np.float16,
    "half": np.float16,
}


def j_loader(filename: str | os.PathLike[str]) -> dict[str, Any]:
    """Read an input file; see :func:`deepmd.schema.load_input`."""
    from deepmd.schema import load_input

    return load_input(filename)


def expand_sys_str(root_dir: str | os.PathLike[str]) -> list[str]:
    """Find the systems below a folder; see :func:`deepmd.data.search.expand_systems`."""
    from deepmd.data.search import expand_systems

    return expand_systems([str(root_dir)])


def select_idx_map(atom_types: np.ndarray, select_types: np.ndarray) -> np.ndarray:
    """Return the indices of the atoms of some types, type by type in the order of these.

    Parameters
    ----------
    atom_types : (n_atoms,)
    select_types : (n,)
    """
    types = np.asarray(atom_types).reshape(-1)
    found = [np.flatnonzero(types == t) for t in select_types]
    return np.concatenate([np.zeros(0, np.int64), *found])


def make_default_mesh(pbc: bool, mixed_type: bool) -> np.ndarray:
    """Return the array that told graphs of DeePMD-kit 1 and 2 how to find neighbors."""
    return np.zeros(6 * pbc + mixed_type, dtype=np.int32)


def get_np_precision(precision: str) -> Any:
    """Return the number format that a setting names."""
    if precision not in _PRECISIONS:
        raise InputError(
            f'"{precision}" is no precision',
            where="precision",
            fix=did_you_mean(precision, _PRECISIONS),
        )
    return _PRECISIONS[precision]
