# SPDX-License-Identifier: LGPL-3.0-or-later
"""Layerwise extended Kalman filter as an optimizer.

Hu et al., "RLEKF: an optimizer for deep potential with ab initio accuracy", AAAI 2023. Parameters are
the state, predictions of energies and forces the measurements; the covariance is kept for blocks of
parameters only. The steps are those of DeePMD-kit 3.2.0.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from deepmd.dpmodel import ops
from deepmd.schema.common import POSITIVE
from deepmd.schema.registry import optimizer_args
from deepmd.schema.settings import Settings, setting

#: Forgetting factor of the first step, and the rate at which it goes to 1.
FORGETTING, APPROACH = 0.98, 0.9987
#: Atoms whose forces are measured in a step, and at a time.
ATOMS, GROUP = 24, 6


class LKF(Settings):
    """Extended Kalman filter that takes energies and forces as measurements."""

    kf_blocksize: int = setting(
        5120, "Largest number of parameters that have a common covariance.", rule=POSITIVE
    )
    kf_start_pref_e: float = setting(1.0, "Weight of the energy at the start.", rule=POSITIVE)
    kf_limit_pref_e: float = setting(1.0, "Weight of the energy at the end.", rule=POSITIVE)
    kf_start_pref_f: float = setting(1.0, "Weight of the forces at the start.", rule=POSITIVE)
    kf_limit_pref_f: float = setting(1.0, "Weight of the forces at the end.", rule=POSITIVE)

    def weights(self, progress: float) -> tuple[float, float]:
        """Weights of energy and forces; ``progress`` goes from 0 to 1."""
        return tuple(
            start * (limit / start) ** progress
            for start, limit in (
                (self.kf_start_pref_e, self.kf_limit_pref_e),
                (self.kf_start_pref_f, self.kf_limit_pref_f),
            )
        )


optimizer_args.add(LKF, "LKF")


def kalman_of(section: Mapping[str, Any]) -> LKF | None:
    """Return the choices of a checked ``optimizer`` section, or None for one of another kind."""
    if section.get("type", "Adam") != "LKF":
        return None
    return LKF(**{k: v for k, v in section.items() if k != "type"})


def blocks_of(sizes: Sequence[int], largest: int) -> list[slice]:
    """Divide parameters, in their order, into blocks.

    Parameters
    ----------
    sizes : list of int
        Of the arrays. Small ones share a block while there is room; one that is larger than a
        block is divided, and shares none.
    largest : int
    """
    out: list[slice] = []
    begin = end = 0
    for size in sizes:
        if end > begin and end - begin + size > largest:
            out.append(slice(begin, end))
            begin = end
        end += size
        if size > largest:
            out += [slice(k, min(k + largest, end)) for k in range(begin, end, largest)]
            begin = end
    return [*out, slice(begin, end)] if end > begin else out


@dataclasses.dataclass
class KalmanFilter:
    """State of the filter, in the arrays of any framework.

    Parameters
    ----------
    blocks : list of slice
        Of the vector of all parameters.
    covariance : list of (n, n)
        One per block; made by the first update.
    forgetting : float
    """

    blocks: Sequence[slice]
    covariance: list[Any] = dataclasses.field(default_factory=list)
    forgetting: float = FORGETTING

    def update(self, gradient: Any, error: Any) -> Any:
        """Take in a measurement; return what it changes the parameters by, (n,).

        Parameters
        ----------
        gradient : (n,)
            Of the predicted number.
        error : scalar
            Measured number less the predicted one.
        """
        space = ops.xp(gradient)
        if not self.covariance:
            sizes = [b.stop - b.start for b in self.blocks]
            self.covariance = [ops.like(np.eye(n), gradient) for n in sizes]
        parts = [gradient[b] for b in self.blocks]
        gains = [
            space.matmul(p, h[:, None])[:, 0] for p, h in zip(self.covariance, parts, strict=True)
        ]
        scale = 1.0 / sum(
            self.forgetting + space.sum(h * k) for h, k in zip(parts, gains, strict=True)
        )
        self.covariance = [
            (p - scale * (k[:, None] * k[None, :])) / self.forgetting
            for p, k in zip(self.covariance, gains, strict=True)
        ]
        self.forgetting = APPROACH * self.forgetting + 1.0 - APPROACH
        return space.concat(gains, axis=0) * (scale * error)


def groups_of_atoms(n: int, step: int) -> Iterator[np.ndarray]:
    """Iterate over the groups of atoms of a frame whose forces are measured in a step.

    Parameters
    ----------
    n : int
        Atoms of a frame.
    step : int
        Number of the step, from which the choice follows.
    """
    chosen = np.random.default_rng([n, step]).permutation(n)[:ATOMS]
    for begin in range(0, len(chosen), GROUP):
        yield chosen[begin : begin + GROUP]
