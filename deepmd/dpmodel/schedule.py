# SPDX-License-Identifier: LGPL-3.0-or-later
"""Learning rates as plain functions of the number of steps already taken."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from deepmd.base.errors import InputError
from deepmd.schema.common import FRACTION, POSITIVE, one_of
from deepmd.schema.registry import lr_args
from deepmd.schema.settings import Settings, setting

#: Final rate when neither ``stop_lr`` nor ``stop_lr_ratio`` is given.
DEFAULT_STOP_LR = 5e-8
# The logarithm of a final rate of 0 is needed, too.
_SMALLEST = 1e-10


@dataclasses.dataclass(frozen=True)
class LearningRate:
    """A linear warm-up, then one of the decays below.

    Attributes
    ----------
    decay : Decay
    start : float
        Rate after the warm-up, at which prefactors of losses have their start values.
    stop : float
        Rate at the end.
    total, warmup : int
        Steps of the decay, and of the warm-up before it.
    factor : float
        The warm-up starts at this fraction of ``start``.
    """

    decay: "Decay"
    start: float
    stop: float
    total: int
    warmup: int
    factor: float

    def value(self, step: int) -> float:
        """Return the rate of the step that follows ``step`` steps already taken."""
        if step < self.warmup:
            begin = self.factor * self.start
            return begin + (self.start - begin) * step / self.warmup
        return self.decay.value(step - self.warmup, self)


class Decay(Settings):
    """Decay of the rate after the warm-up."""

    def value(self, step: int, rate: LearningRate) -> float:
        """Return the rate after ``step`` steps of the decay."""
        raise NotImplementedError


class Exponential(Decay):
    """The rate falls by a constant factor.

    Without a factor the final rate is reached at the end; intervals longer than the training are
    shortened. The rate never falls below the final one.
    """

    decay_steps: int = setting(5000, "Steps between two decays.", rule=POSITIVE)
    decay_rate: float | None = setting(
        None, "Factor of one decay; computed from the final rate if absent.", rule=FRACTION
    )
    smooth: bool = setting(False, "Decay at every step, not every decay_steps.")

    def value(self, step: int, rate: LearningRate) -> float:
        start, stop, total = rate.start, rate.stop, rate.total
        interval, factor = self.decay_steps, self.decay_rate
        if factor is None:
            if interval >= total:
                interval = 100 if total // 10 > 100 else total // 100 + 1
            factor = math.exp(math.log(max(stop, _SMALLEST) / start) * interval / max(total, 1))
        passed = step / interval if self.smooth else float(step // interval)
        return max(start * factor**passed, stop)


class Cosine(Decay):
    """The rate follows half a cosine."""

    def value(self, step: int, rate: LearningRate) -> float:
        floor = rate.stop / rate.start
        share = min(step / max(rate.total, 1), 1.0)
        return rate.start * (floor + 0.5 * (1.0 - floor) * (1.0 + math.cos(math.pi * share)))


class WarmupStableDecay(Decay):
    """Warm up, stay, decay at the end."""

    decay_phase_ratio: float = setting(
        0.1, "Length of the final decay as a fraction of all steps.", rule=FRACTION
    )
    decay_type: str = setting(
        "inverse_linear",
        "Shape of the final decay.",
        rule=one_of("inverse_linear", "cosine", "linear"),
    )

    def value(self, step: int, rate: LearningRate) -> float:
        start, stop, total = rate.start, rate.stop, rate.total
        length = max(1, min(int(self.decay_phase_ratio * (total + rate.warmup)), total))
        if step < total - length:
            return start
        t = min((step - total + length) / length, 1.0)
        if self.decay_type == "linear":
            return start + (stop - start) * t
        if self.decay_type == "cosine":
            return stop + (start - stop) * 0.5 * (1.0 + math.cos(math.pi * t))
        return 1.0 / (t / stop + (1.0 - t) / start)


DECAYS: dict[str, type[Decay]] = {
    "exp": Exponential,
    "cosine": Cosine,
    "wsd": WarmupStableDecay,
}
for _name, _decay in DECAYS.items():
    lr_args.add(_decay, _name)


def learning_rate(section: Mapping[str, Any], numb_steps: int) -> LearningRate:
    """Build the schedule of a checked ``learning_rate`` section.

    Parameters
    ----------
    section : mapping
    numb_steps : int
        Steps of the whole training, the warm-up included.
    """
    kind = section.get("type", "exp")
    if kind not in DECAYS:
        raise InputError(
            f'unknown schedule "{kind}"', where="learning_rate/type", fix="use exp, cosine or wsd"
        )
    decay = DECAYS[kind](**{k: section[k] for k in DECAYS[kind].settings if k in section})
    start, stop = float(section["start_lr"]), section.get("stop_lr")
    if section.get("stop_lr_ratio") is not None:
        stop = section["stop_lr_ratio"] * start
    warmup = section.get("warmup_steps") or 0
    if section.get("warmup_ratio") is not None:
        warmup = int(section["warmup_ratio"] * numb_steps)
    if 0 < numb_steps <= warmup:
        raise InputError(
            f"the warm-up takes {warmup} steps, the whole training {numb_steps}",
            where="learning_rate/warmup_steps",
            fix="shorten it or raise numb_steps",
        )
    return LearningRate(
        decay=decay,
        start=start,
        stop=DEFAULT_STOP_LR if stop is None else float(stop),
        total=numb_steps - warmup,
        warmup=warmup,
        factor=section.get("warmup_start_factor", 0.0),
    )
