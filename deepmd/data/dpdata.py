# SPDX-License-Identifier: LGPL-3.0-or-later
"""Outputs of programs that dpdata reads (VASP, CP2K, Gaussian and others), where it is installed."""

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from deepmd.base.errors import DataError, NotAvailableError
from deepmd.base.reading import reading
from deepmd.data.frames import Frames
from deepmd.data.spool import Spool
from deepmd.dpmodel.label import Label

#: Its arrays per frame -> label; further ones are not taken over.
_LABELS = {
    "energies": Label("energy", 1, False, high_precision=True),
    "forces": Label("force", 3, True),
    "virials": Label("virial", 9, False),
}


def read_with_dpdata(
    paths: Sequence[str], form: str, type_map: Sequence[str] | None = None
) -> Frames:
    """Read files in a format of dpdata, such as ``vasp/outcar``; ``auto`` goes by the names.

    They are read once and wait in a temporary folder: one file at a time is in memory.

    Raises
    ------
    NotAvailableError
        Without dpdata.
    DataError
        If a file cannot be read.
    """
    try:
        import dpdata
    except ImportError:
        raise NotAvailableError(
            "the package dpdata is not installed", where="--dpdata", fix="pip install dpdata"
        ) from None
    out = Frames(list(type_map or ()), {}, Spool())
    for path in paths:
        with reading(path, fix="check the file and the format"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            system = dpdata.LabeledSystem(path, fmt=form)
            data = system.data
            nopbc = bool(getattr(system, "nopbc", data.get("nopbc", False)))
        add_system(out, data, path, periodic=not nopbc)
    return out


def add_system(out: Frames, data: dict[str, Any], path: str, *, periodic: bool) -> None:
    """Add the frames of the arrays of a ``dpdata.LabeledSystem``."""
    names = list(data["atom_names"])
    out.names += [n for n in names if n not in out.names]
    place = np.array([out.names.index(n) for n in names], dtype=np.int64)
    types = place[np.asarray(data["atom_types"], dtype=np.int64)]
    arrays = {label: np.asarray(data[k], float) for k, label in _LABELS.items() if k in data}
    if len(data["coords"]) == 0:
        raise DataError("holds no frame", where=path, fix="check the file and the format")
    for label in arrays:
        out.labels.setdefault(label.name, label)
    cell = np.asarray(data["cells"], dtype=np.float64) if periodic else None
    labels = {la.name: v for la, v in arrays.items() if periodic or la.name != "virial"}
    out.frames.add(types, np.asarray(data["coords"], dtype=np.float64), cell, labels, path)
