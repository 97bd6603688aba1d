# SPDX-License-Identifier: LGPL-3.0-or-later
"""Embedding networks of one number as tables of quintic polynomials.

Lu et al., "DP Compress: a model compression scheme for generating efficient deep potential models",
J. Chem. Theory Comput. 18, 5559 (2022).
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import autograd
import numpy as np

from deepmd.base.errors import InputError, ModelFileError
from deepmd.dpmodel import ops
from deepmd.dpmodel.construction import claim
from deepmd.dpmodel.module import Module, Serial
from deepmd.dpmodel.nn.activation import activation
from deepmd.dpmodel.nn.layers import EmbeddingNetwork

#: Coefficients of an interval, in the order of the powers.
COEFFICIENTS = 6
#: Bytes of the largest table that is made.
_LARGEST = 1 << 30


class Limits(NamedTuple):
    """Inputs of a network: smallest and largest in the data, and where a table ends at the latest."""

    lower: float
    upper: float
    end: float = -math.inf


class TableSettings(NamedTuple):
    """Settings of the tables of a model.

    Attributes
    ----------
    step : float
        Length of an interval where radial values are expected; ten times that beyond, and of angles.
    extrapolate : float
        End of the table, as a multiple of the largest value that is expected.
    min_distance : float
        Smallest distance of two atoms [Å] in the training data, which sets the largest value.
    closest : float, optional
        Distance [Å] down to which the coarse part reaches at least: 0 where atoms and their
        virtual partners can be at one place.
    frequency : int
        Kept for other programs: how often they check whether values leave the table.
    """

    step: float
    extrapolate: float
    min_distance: float
    closest: float | None = None
    frequency: int = -1


def derivatives(network: EmbeddingNetwork, x: np.ndarray) -> tuple[np.ndarray, ...]:
    """Values, first and second derivatives (n, m) of a network of one number, at x (n,)."""
    value = np.asarray(x, dtype=np.float64)[:, None]
    slope, curve = np.ones_like(value), np.zeros_like(value)
    for layer in network.layers:
        w = np.asarray(layer.weight, dtype=np.float64)
        b = 0.0 if layer.b is None else np.asarray(layer.b, dtype=np.float64)
        scale = 1.0 if layer.idt is None else np.asarray(layer.idt, dtype=np.float64)
        function = activation(layer.activation_function)
        first = _slope(function)
        z, dz, ddz = value @ w + b, slope @ w, curve @ w
        f, df, ddf = function(z), first(z), _slope(first)(z)
        new = [f * scale, df * dz * scale, (ddf * dz * dz + df * ddz) * scale]
        copies = layer.options.copies
        old = (
            np.concatenate([v] * copies, axis=1) if copies else 0.0 for v in (value, slope, curve)
        )
        value, slope, curve = (a + b for a, b in zip(new, old, strict=True))
    return value, slope, curve


def _slope(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Derivative of a function of numbers, which may be constant."""
    return autograd.elementwise_grad(lambda z: function(z) + 0.0 * z)


def knots_of(info: np.ndarray, symmetric: bool) -> np.ndarray:
    """Limits of the intervals (n + 1,) of a table.

    Parameters
    ----------
    info : (6,)
        Start and end of the fine part, end of the coarse part, both lengths, frequency.
    symmetric : bool
        Whether there is a coarse part before the fine one, too.
    """
    lower, upper, end, fine, coarse = (float(v) for v in info[:5])
    n_fine, n_coarse = _intervals(upper - lower, fine), _intervals(end - upper, coarse)
    parts = [lower + fine * np.arange(n_fine), upper + coarse * np.arange(n_coarse + 1)]
    if symmetric:
        parts.insert(0, lower - coarse * np.arange(n_coarse, 0, -1))
    claim(n_fine + 2 * n_coarse)
    return np.concatenate(parts)


def _intervals(length: float, step: float) -> int:
    return int(length / step + 1e-6)


def tabulated(
    network: EmbeddingNetwork,
    limits: Limits,
    settings: TableSettings,
    *,
    symmetric: bool = False,
) -> tuple[np.ndarray, np.ndarray]:
    """Table of a network and its description.

    Parameters
    ----------
    network : EmbeddingNetwork
        Of one number.
    limits : Limits
    settings : TableSettings
    symmetric : bool
        Whether the coarse part extends to both sides.

    Returns
    -------
    data : (n, 6 m)
        Per interval the coefficients, m times those of a quintic in the distance from its start,
        which has values and two derivatives of the network at both ends.
    info : (6,)
    """
    lower, upper, reach = limits
    end = max(upper * settings.extrapolate, upper, reach)
    # Angles: the squares of what a radial table spans; DeePMD-kit's steps are those ten times as long.
    step = settings.step * (10.0 if symmetric else 1.0)
    steps = step, 10.0 * step
    info = np.array([lower, upper, end, *steps, settings.frequency], dtype=np.float64)
    if not upper > lower:
        raise InputError(
            f"the table would reach from {lower} to {upper}",
            where="dp compress",
            fix="check the smallest distance of the training data (min_nbor_dist)",
        )
    rows = (upper - lower) / step + (1 + symmetric) * (end - upper) / (10.0 * step)
    size = rows * COEFFICIENTS * network.neuron[-1] * 8
    if size > _LARGEST:
        raise InputError(
            f"a table from {lower} to {end} would take {size / 2**30:.1f} GiB",
            where="dp compress --step",
            fix="give a larger step",
        )
    knots = knots_of(info, symmetric)
    v, d, c = derivatives(network, knots)
    h = np.diff(knots)[:, None]
    rise, v0, d0, d1, c0, c1 = np.diff(v, axis=0), v[:-1], d[:-1], d[1:], c[:-1], c[1:]
    data = [
        v0,
        d0,
        c0 / 2,
        (20 * rise - (8 * d1 + 12 * d0) * h - (3 * c0 - c1) * h**2) / (2 * h**3),
        (-30 * rise + (14 * d1 + 16 * d0) * h + (3 * c0 - 2 * c1) * h**2) / (2 * h**4),
        (12 * rise - 6 * (d1 + d0) * h + (c1 - c0) * h**2) / (2 * h**5),
    ]
    return np.stack(data, axis=2).reshape(len(h), -1), info


def _places(x: Any, info: Any, rows: int, symmetric: bool) -> tuple[Any, Any]:
    """Interval of x inside of the table, and the distance from its start."""
    space = ops.xp(x)
    lower, upper, end, fine, coarse = (info[k] for k in range(5))
    here = ops.stop_gradient(x)
    n_fine = space.floor((upper - lower) / fine + 1e-6)
    n_below = space.floor((end - upper) / coarse + 1e-6) if symmetric else 0.0 * n_fine
    start = lower - n_below * coarse
    a = space.floor((here - start) / coarse)
    b = space.minimum(space.floor((here - lower) / fine), n_fine - 1.0)
    c = space.floor((here - upper) / coarse)
    below, above = here < lower, here >= upper
    row = space.where(above, n_below + n_fine + c, n_below + b)
    begin = space.where(above, upper + c * coarse, lower + b * fine)
    if symmetric:
        row, begin = space.where(below, a, row), space.where(below, start + a * coarse, begin)
    # Not a number, and what rounding puts one interval beyond the end.
    last = space.clip(space.where(row == row, row, 0.0 * rows), 0.0, float(rows - 1))
    begin = begin - space.maximum(row - last, 0.0 * row) * coarse
    return space.astype(last, space.int64), x - begin


def lookup(x: Any, data: Any, info: Any, *, symmetric: bool = False) -> Any:
    """Values of a table: (..., 1) -> (..., m); linear beyond its ends."""
    space = ops.xp(x)
    rows, width = ops.shape(data)
    x = space.astype(x, space.float64)
    start = info[0] - (info[2] - info[1]) if symmetric else info[0]
    inside = space.minimum(space.maximum(x, start + 0.0 * x), info[2] + 0.0 * x)
    row, t = _places(inside[..., 0], info, rows, symmetric)
    shape = (rows, width // COEFFICIENTS, COEFFICIENTS)
    a = ops.take(space.reshape(data, shape), row)
    t = space.astype(t[..., None], data.dtype)
    a = [a[..., k] for k in range(COEFFICIENTS)]
    value = ((((a[5] * t + a[4]) * t + a[3]) * t + a[2]) * t + a[1]) * t + a[0]
    slope = (((5.0 * a[5] * t + 4.0 * a[4]) * t + 3.0 * a[3]) * t + 2.0 * a[2]) * t + a[1]
    return value + slope * space.astype(x - inside, data.dtype)


@ops.op
def table_contract(r: Any, data: Any, info: Any, *, symmetric: bool = False, order: int = 3) -> Any:
    """Sum over neighbors of ``G(s) ⊗ r``, s the first component of the row r, G a table.

    Parameters
    ----------
    r : (n, k, c)
    data : (rows, 6 m)
    info : (6,)
        See :func:`tabulated`.
    symmetric : bool
    order : int
        Highest derivative that will be asked for, see :mod:`deepmd.dpmodel.ops`.

    Returns
    -------
    (n, m, c)
    """
    g = lookup(r[..., :1], data, info, symmetric=symmetric)
    return ops.contract(ops.xp(r).astype(g, r.dtype), r)


class TabulatedNetwork(NamedTuple):
    """Embedding network whose values come from a table; the methods are those of a network."""

    data: Any
    info: Any
    symmetric: bool = False

    def __call__(self, x: Any) -> Any:
        """Evaluate: (..., 1) -> (..., m)."""
        values = lookup(x, self.data, self.info, symmetric=self.symmetric)
        return ops.xp(x).astype(values, x.dtype)

    def contract(self, r: Any, table: Any = None, index: Any = None, *, order: int = 3) -> Any:
        """Sum over neighbors of G(s) ⊗ r: (n, k, c) -> (n, m, c); see :func:`table_contract`."""
        if table is not None:
            raise TypeError("a tabulated network has one input")
        return table_contract(r, self.data, self.info, symmetric=self.symmetric, order=order)


class Tables(Module):
    """Tables of the embedding networks of a descriptor.

    Parameters
    ----------
    compress_data : list of (rows, 6 m)
        One per network, without rows where a network has no table.
    compress_info : list of (6,)
        Their descriptions.
    type_embd_data : (pairs or types, m), optional
        Output of the network of type embeddings.
    geo_compress : bool, optional
        Whether networks of geometry are tabulated, of descriptors that can do without.
    """

    serial = Serial(
        layout="@variables geo_compress",
        buffers=("type_embd_data", "compress_data", "compress_info"),
    )

    def __init__(
        self,
        compress_data: Any = (),
        compress_info: Any = (),
        type_embd_data: Any = None,
        geo_compress: bool | None = None,
    ) -> None:
        self.compress_data, self.compress_info = list(compress_data), list(compress_info)
        self.type_embd_data, self.geo_compress = type_embd_data, geo_compress
        for data, info in zip(self.compress_data, self.compress_info, strict=True):
            _check(data, info)

    def of(self, k: int, network: Any, *, symmetric: bool = False) -> Any:
        """Return the table of network k, or the network itself where it has none."""
        if k >= len(self.compress_data) or ops.shape(self.compress_data[k])[0] == 0:
            return network
        return TabulatedNetwork(self.compress_data[k], self.compress_info[k], symmetric)

    def serialize(self) -> dict:
        """Return the dictionary; parts that are not there are left out."""
        data = super().serialize()
        arrays = {k: v for k, v in data["@variables"].items() if v is not None and len(v)}
        flag = {} if self.geo_compress is None else {"geo_compress": self.geo_compress}
        return {"@variables": arrays, **flag}

    @classmethod
    def deserialize(cls, data: dict) -> "Tables":
        """Build tables from their dictionary.

        Raises
        ------
        ModelFileError
            If arrays are missing or do not fit each other.
        """
        arrays = {k: data["@variables"].get(k) for k in cls.serial.buffers}
        values, infos = ([np.asarray(v) for v in arrays[k] or ()] for k in cls.serial.buffers[1:])
        if len(values) != len(infos):
            raise ModelFileError("there is not one description per compression table")
        types = arrays["type_embd_data"]
        types = None if types is None else np.asarray(types)
        return cls(values, infos, types, data.get("geo_compress"))


def _check(data: np.ndarray, info: np.ndarray) -> None:
    """Raise ModelFileError if a table is no table."""
    if not len(data):
        return
    good = data.ndim == 2 and data.shape[1] % COEFFICIENTS == 0 and info.shape == (6,)
    if good:
        lower, upper, end, fine, coarse = (float(v) for v in info[:5])
        good = lower < upper <= end and min(fine, coarse) > 0
        good = good and math.isfinite(end - lower) and np.isfinite(info).all()
    if not good:
        raise ModelFileError("a compression table does not fit its description")
