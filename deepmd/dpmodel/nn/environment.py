# SPDX-License-Identifier: LGPL-3.0-or-later
"""Switch function and environment matrix of neighbor vectors."""

from collections.abc import Callable
from typing import Any, NamedTuple

from deepmd.dpmodel.ops import xp


def switch(r: Any, rcut: float, rcut_smth: float) -> Any:
    """Return a weight that falls from 1 below ``rcut_smth`` to 0 above ``rcut``, twice continuous.

    Parameters
    ----------
    r : any shape [Å]
    rcut, rcut_smth : float [Å]
    """
    u = xp(r).clip((r - rcut_smth) / (rcut - rcut_smth), 0.0, 1.0)
    return u * u * u * (u * (-6.0 * u + 15.0) - 10.0) + 1.0


def exponential_switch(r: Any, rcut: float, rcut_smth: float) -> Any:
    """Return ``exp(-exp(20 (r - rcut_smth) / rcut_smth))``, 0 beyond ``rcut``."""
    space = xp(r)
    # Beyond 100 the weight is 0 in any format; its slope must not become 0 times infinity.
    power = space.clip(20.0 * (r - rcut_smth) / rcut_smth, -1e3, 1e2)
    return space.where(r <= rcut, space.exp(-space.exp(power)), 0.0 * r)


class Environment(NamedTuple):
    """Environment rows of neighbor vectors, relative to their center.

    Attributes
    ----------
    rows : (..., 4), or (..., 1) when radial
        ``(sw/r, sw x/r², sw y/r², sw z/r²)``, not normalized.
    switch : (..., 1)
    r : (..., 1) [Å]
    """

    rows: Any
    switch: Any
    r: Any


def environment(
    d: Any,
    rcut: float,
    rcut_smth: float,
    protection: float = 0.0,
    *,
    radial: bool = False,
    switch: Callable[[Any, float, float], Any] = switch,
) -> Environment:
    """Return environment rows, switch and distance of neighbor vectors.

    Parameters
    ----------
    d : (..., 3) [Å]
        Neighbor minus center. An empty slot holds a vector of length >= rcut: its row is zero.
    rcut, rcut_smth : float
        Cutoff and start of the switch [Å].
    protection : float
        Added to r in the denominators [Å].
    radial : bool
        Return the first component of the rows only.
    switch : function
        The weight of a distance.
    """
    space = xp(d)
    squared = space.sum(d * d, axis=-1, keepdims=True)
    if protection:
        # An atom without spin and its virtual partner are at the same place: the slope is taken as 0.
        squared = space.maximum(squared, 0.0 * squared + 1e-40)
    r = space.sqrt(squared)
    inverse = 1.0 / (r + protection) if protection else 1.0 / r
    sw = switch(r, rcut, rcut_smth)
    s = sw * inverse
    rows = s if radial else space.concat([s, (s * inverse) * d], axis=-1)
    return Environment(rows, sw, r)


def environment_matrix(
    d: Any, rcut: float, rcut_smth: float, protection: float = 0.0, *, radial: bool = False
) -> Any:
    """Return the rows of :func:`environment`: (..., 4), or (..., 1) with ``radial``."""
    return environment(d, rcut, rcut_smth, protection, radial=radial).rows
