# SPDX-License-Identifier: LGPL-3.0-or-later
"""Learning rates as plain functions of the number of steps already taken."""

import functools
import math
from collections.abc import Callable, Mapping
from typing import Any

from deepmd.utils.errors import InputError

#: Final rate when neither ``stop_lr`` nor ``stop_lr_ratio`` is given.
DEFAULT_STOP_LR = 5e-8
# The logarithm of a final rate of 0 is needed, too.
_SMALLEST = 1e-10


def exponential(
    step: int,
    *,
    start: float,
    stop: float,
    total: int,
    decay_steps: int = 5000,
    decay_rate: float | None = None,
    smooth: bool = False,
) -> float:
    """Multiply by ``decay_rate`` every ``decay_steps`` steps, or continuously if ``smooth``.

    Without a rate, ``stop`` is reached after ``total`` steps; intervals longer than that are
    shortened. The rate never falls below ``stop``.
    """
    if decay_rate is None:
        if decay_steps >= total:
            decay_steps = 100 if total // 10 > 100 else total // 100 + 1
        decay_rate = math.exp(math.log(max(stop, _SMALLEST) / start) * decay_steps / max(total, 1))
    passed = step / decay_steps if smooth else float(step // decay_steps)
    return max(start * decay_rate**passed, stop)


def cosine(step: int, *, start: float, stop: float, total: int) -> float:
    """Follow half a cosine from ``start`` to ``stop``."""
    floor = stop / start
    share = min(step / max(total, 1), 1.0)
    return start * (floor + 0.5 * (1.0 - floor) * (1.0 + math.cos(math.pi * share)))


def warmup_stable_decay(
    step: int,
    *,
    start: float,
    stop: float,
    total: int,
    decay_length: int,
    decay_type: str = "inverse_linear",
) -> float:
    """Stay at ``start``, then fall to ``stop`` within the last ``decay_length`` steps."""
    first = total - decay_length
    if step < first:
        return start
    t = min((step - first) / decay_length, 1.0)
    if decay_type == "linear":
        return start + (stop - start) * t
    if decay_type == "cosine":
        return stop + (start - stop) * 0.5 * (1.0 + math.cos(math.pi * t))
    return 1.0 / (t / stop + (1.0 - t) / start)


class LearningRate:
    """A linear warm-up, then one of the decays above.

    Attributes
    ----------
    start : float
        Rate after the warm-up, at which prefactors of losses have their start values.
    warmup : int
        Steps of the warm-up.
    """

    def __init__(
        self, decay: Callable[[int], float], start: float, *, warmup: int, factor: float
    ) -> None:
        self.decay, self.start, self.warmup, self.factor = decay, start, warmup, factor

    def value(self, step: int) -> float:
        """Return the rate of the step that follows ``step`` steps already taken."""
        if step < self.warmup:
            begin = self.factor * self.start
            return begin + (self.start - begin) * step / self.warmup
        return self.decay(step - self.warmup)


def learning_rate(section: Mapping[str, Any], numb_steps: int) -> LearningRate:
    """Build the schedule of a normalised ``learning_rate`` section.

    Parameters
    ----------
    section : mapping
    numb_steps : int
        Steps of the whole training, the warm-up included.
    """
    start = float(section["start_lr"])
    warmup = warmup_steps(section, numb_steps)
    total = numb_steps - warmup
    common: dict[str, Any] = {"start": start, "stop": stop_rate(section), "total": total}
    kind = section.get("type", "exp")
    decay: Callable[[int], float]
    if kind == "exp":
        decay = functools.partial(
            exponential,
            **common,
            decay_steps=section.get("decay_steps", 5000),
            decay_rate=section.get("decay_rate"),
            smooth=section.get("smooth", False),
        )
    elif kind == "cosine":
        decay = functools.partial(cosine, **common)
    elif kind == "wsd":
        ratio = section.get("decay_phase_ratio", 0.1)
        decay = functools.partial(
            warmup_stable_decay,
            **common,
            decay_length=max(1, min(int(ratio * numb_steps), total)),
            decay_type=section.get("decay_type", "inverse_linear"),
        )
    else:
        raise InputError(
            f'unknown schedule "{kind}"', where="learning_rate/type", fix="use exp, cosine or wsd"
        )
    return LearningRate(decay, start, warmup=warmup, factor=section.get("warmup_start_factor", 0.0))


def stop_rate(section: Mapping[str, Any]) -> float:
    """Return the final rate of a section."""
    stop, ratio = section.get("stop_lr"), section.get("stop_lr_ratio")
    if stop is not None and ratio is not None:
        raise InputError(
            "stop_lr and stop_lr_ratio exclude each other",
            where="learning_rate",
            fix="give one of them",
        )
    if ratio is not None:
        return float(ratio) * float(section["start_lr"])
    return DEFAULT_STOP_LR if stop is None else float(stop)


def warmup_steps(section: Mapping[str, Any], numb_steps: int) -> int:
    """Return the length of the warm-up of a section."""
    steps, ratio = section.get("warmup_steps") or 0, section.get("warmup_ratio")
    if steps and ratio is not None:
        raise InputError(
            "warmup_steps and warmup_ratio exclude each other",
            where="learning_rate",
            fix="give one of them",
        )
    if ratio is not None:
        steps = int(ratio * numb_steps)
    if 0 < numb_steps <= steps:
        raise InputError(
            f"the warm-up takes {steps} steps, the whole training {numb_steps}",
            where="learning_rate/warmup_steps",
            fix="shorten it or raise numb_steps",
        )
    return int(steps)
