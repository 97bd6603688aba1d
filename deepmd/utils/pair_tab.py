# SPDX-License-Identifier: LGPL-3.0-or-later
"""Pair tables under the name that clients import; see :mod:`deepmd.dpmodel.nn.pair_table`."""

import math
import os

import numpy as np

from deepmd.base.errors import InputError
from deepmd.dpmodel.nn.pair_table import PairTable


class PairTab:
    """Tabulated pair potentials of a file.

    Parameters
    ----------
    filename : path
        Columns r [Å], u_00, u_01, … [eV].
    rcut : float, optional
        Cutoff [Å] that the table is continued to; by default the table's end.

    Raises
    ------
    InputError
        If the columns do not belong to a number of types.
    """

    def __init__(self, filename: str | os.PathLike[str], rcut: float | None = None) -> None:
        self.reinit(filename, rcut)

    def reinit(self, filename: str | os.PathLike[str], rcut: float | None = None) -> None:
        """Read another file; the parameters are those of the class."""
        self.data_type = np.float64
        data = np.loadtxt(filename, dtype=np.float64, ndmin=2)
        pairs = data.shape[1] - 1
        ntypes = (math.isqrt(1 + 8 * pairs) - 1) // 2
        if ntypes * (ntypes + 1) // 2 != pairs or not pairs:
            raise InputError(
                f"has {pairs} potentials, which no number of types has", where=filename
            )
        end = float(data[-1, 0]) if rcut is None else rcut
        self.table = PairTable.from_file(data, ntypes, end)
        self.rmin, self.hh, self.rmax = self.table.rmin, self.table.hh, float(data[-1, 0])
        self.rcut, self.ntypes, self.nspline = end, ntypes, self.table.nspline

    def get(self) -> tuple[np.ndarray, np.ndarray]:
        """Return start, step, intervals and types of the table, and the coefficients."""
        return np.asarray(self.table.tab_info), np.asarray(self.table.tab_data)

    def serialize(self) -> dict:
        """Return the neutral dictionary."""
        return self.table.serialize()
