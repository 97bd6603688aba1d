# SPDX-License-Identifier: LGPL-3.0-or-later
"""Tabulated pair potentials as cubic splines."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from deepmd.base.errors import InputError, ModelFileError
from deepmd.dpmodel import ops
from deepmd.dpmodel.construction import claim
from deepmd.dpmodel.module import Module, Serial


class PairTable(Module):
    """Potentials u_ab(r) [eV] on a uniform grid, interpolated by clamped cubic splines.

    Parameters
    ----------
    vdata : (n_rows, 1 + nt (nt + 1) / 2)
        Columns r [Å], u_00, u_01, …, u_0N, u_11, … [eV], extended to the cutoff.
    ntypes : int
        Number of types nt.
    rcut : float
        Cutoff [Å].
    rmax : float
        End of the table as it was given [Å].
    """

    serial = Serial(
        layout="@class @version rmin rmax hh ntypes rcut nspline @variables",
        name="PairTab",
        buffers=("vdata", "tab_info", "tab_data"),
    )

    def __init__(self, vdata: np.ndarray, ntypes: int, rcut: float, rmax: float) -> None:
        self.vdata, self.ntypes, self.rcut, self.rmax = vdata, ntypes, rcut, rmax
        self.rmin, self.hh = float(vdata[0, 0]), float(vdata[1, 0] - vdata[0, 0])
        self.nspline = len(vdata) - 1
        self.tab_info = np.array([self.rmin, self.hh, self.nspline, ntypes])
        self.tab_data = _spline_table(vdata, ntypes).reshape(-1)

    @classmethod
    def from_file(cls, path: str | Path | np.ndarray, ntypes: int, rcut: float) -> "PairTable":
        """Read a table, or take it as it is given, and continue it to the cutoff.

        Beyond the table the potential is zero when its last row is, else a cubic that reaches 0
        with slope 0 at the cutoff.

        Raises
        ------
        InputError
            If the file is missing, is no table, or does not fit the number of types.
        """
        if isinstance(path, np.ndarray):
            data, path = path, "pair table"
        else:
            data = _loaded(path)
        columns = 1 + ntypes * (ntypes + 1) // 2
        if data.shape[1] != columns or len(data) < 3:
            raise InputError(
                f"found {data.shape[0]} rows of {data.shape[1]} columns, expected {columns} columns "
                f"for {ntypes} types and at least 3 rows",
                where=path,
                fix="give r and one column per pair of types",
            )
        step = data[1, 0] - data[0, 0]
        if step <= 0 or not np.allclose(np.diff(data[:, 0]), step, rtol=1e-4, atol=0):
            raise InputError("the grid of r is not uniform", where=path, fix="resample the table")
        return cls(_extended(data, rcut), ntypes, rcut, float(data[-1, 0]))

    @classmethod
    def construct(cls, config: dict, data: dict) -> "PairTable":
        vdata = np.asarray(data["@variables"]["vdata"])
        new = cls(vdata, config["ntypes"], config["rcut"], config["rmax"])
        new.rmin, new.hh, new.nspline = config["rmin"], config["hh"], config["nspline"]
        if np.size(data["@variables"]["tab_data"]) != new.tab_data.size:
            raise ModelFileError("the splines of a pair table do not fit its grid")
        return new

    def change_types(self, change: Any) -> None:
        """Reorder the potentials.

        Raises
        ------
        InputError
            If types are added.
        """
        if change.added:
            raise InputError(
                f"the pair table has no potential for {', '.join(change.added)}",
                where="type_map",
                fix="build the model anew with a table for all types",
            )
        old, index, n = self.ntypes, change.index, len(change.new)
        splines = np.asarray(self.tab_data).reshape(old, old, -1)
        self.tab_data = np.array(splines[np.ix_(index, index)]).reshape(-1)
        column = np.zeros((old, old), dtype=np.int64)
        upper = np.triu_indices(old)
        column[upper] = column.T[upper] = 1 + np.arange(len(upper[0]))
        kept = column[index[:, None], index[None, :]][np.triu_indices(n)]
        self.vdata = np.array(np.asarray(self.vdata)[:, [0, *kept.tolist()]])
        self.tab_info = np.array([*np.asarray(self.tab_info)[:3], n], dtype=np.float64)
        self.ntypes = n

    def call(self, r: Any, ti: Any, tj: Any) -> Any:
        """Potential of pairs: distances (n,) [Å], types (n,), (n,) -> (n,) [eV]."""
        space = ops.xp(r)
        t = (r - self.rmin) * (1.0 / self.hh)
        interval = space.astype(space.floor(ops.stop_gradient(t)), space.int64)
        inside = interval < self.nspline
        interval = space.clip(interval, 0, self.nspline - 1)
        t = t - ops.cast(interval, "float64")
        row = (ti * self.ntypes + tj) * self.nspline + interval
        a = ops.take(space.reshape(self.tab_data, (-1, 4)), row)
        value = ((a[:, 0] * t + a[:, 1]) * t + a[:, 2]) * t + a[:, 3]
        return space.where(inside & (r < self.rcut), value, 0.0 * value)


def _loaded(path: str | Path) -> np.ndarray:
    try:
        return np.loadtxt(path, dtype=np.float64, ndmin=2)
    except OSError:
        raise InputError("there is no such file", where=path, fix="check tab_file") from None
    except ValueError as error:
        raise InputError(f"this is no table of numbers ({error})", where=path) from None


def _extended(data: np.ndarray, rcut: float) -> np.ndarray:
    """Continue a table to the cutoff, on the same grid."""
    h, last = data[1, 0] - data[0, 0], data[-1, 0]
    if last >= rcut:
        return data
    more = int(np.ceil((rcut - last) / h - 1e-9))
    r = last + h * np.arange(1, more + 1)
    rows = np.zeros((more, data.shape[1]))
    rows[:, 0] = r
    if np.any(data[-1, 1:] != 0):
        width = rcut - last
        x = np.clip((r - last) / width, 0.0, 1.0)[:, None]
        value, slope = data[-1, 1:], (data[-1, 1:] - data[-2, 1:]) / h
        rows[:, 1:] = value * (2 * x**3 - 3 * x**2 + 1) + slope * width * (x**3 - 2 * x**2 + x)
    return np.vstack([data, rows])


def _spline_table(vdata: np.ndarray, ntypes: int) -> np.ndarray:
    """Coefficients (nt, nt, n_intervals, 4), highest power first, in units of the interval."""
    n = len(vdata) - 1
    claim(ntypes, ntypes, n, 4)
    out = np.zeros((ntypes, ntypes, n, 4))
    column = 1
    for a in range(ntypes):
        for b in range(a, ntypes):
            v = vdata[:, column]
            d = _clamped_slopes(v)
            rise = v[1:] - v[:-1]
            out[a, b, :, 0] = d[:-1] + d[1:] - 2 * rise
            out[a, b, :, 1] = 3 * rise - 2 * d[:-1] - d[1:]
            out[a, b, :, 2], out[a, b, :, 3] = d[:-1], v[:-1]
            out[b, a] = out[a, b]
            column += 1
    return out


def _clamped_slopes(v: Sequence[float] | np.ndarray) -> np.ndarray:
    """Slopes (times the spacing) of the cubic spline through v whose end slopes are zero."""
    v = np.asarray(v, dtype=np.float64)
    n = len(v)
    slopes = np.zeros(n)
    if n < 3:
        return slopes
    # Tridiagonal system (1, 4, 1) for the inner slopes: elimination, then back substitution.
    right = 3.0 * (v[2:] - v[:-2])
    upper = np.zeros(n - 2)
    for k in range(n - 2):
        pivot = 4.0 - (upper[k - 1] if k else 0.0)
        upper[k] = 1.0 / pivot
        right[k] = (right[k] - (right[k - 1] if k else 0.0)) / pivot
    for k in range(n - 4, -1, -1):
        right[k] -= upper[k] * right[k + 1]
    slopes[1:-1] = right
    return slopes


__all__ = ["PairTable"]
