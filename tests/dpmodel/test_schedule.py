# SPDX-License-Identifier: LGPL-3.0-or-later
"""Learning rates."""

import json
import math

import pytest

from deepmd.base.errors import InputError
from deepmd.dpmodel.schedule import learning_rate


def rates(section, total, steps):
    schedule = learning_rate(section, total)
    return [schedule.value(k) for k in steps]


def test_exponential_reaches_stop_lr():
    section = {"type": "exp", "start_lr": 1e-3, "stop_lr": 1e-5, "decay_steps": 10}
    values = rates(section, 100, [0, 9, 10, 99, 100, 200])
    rate = math.exp(math.log(1e-2) * 10 / 100)
    assert values == pytest.approx([1e-3, 1e-3, 1e-3 * rate, 1e-3 * rate**9, 1e-5, 1e-5], rel=1e-12)


def test_exponential_smooth():
    section = {"start_lr": 1e-3, "stop_lr": 1e-5, "decay_steps": 10, "smooth": True}
    assert rates(section, 100, [5]) == pytest.approx([1e-3 * 1e-2**0.05], rel=1e-12)


@pytest.mark.parametrize(("total", "steps"), [(4, 1), (500, 6), (1000, 11), (1010, 100)])
def test_too_long_decay_steps_are_replaced(total, steps):
    given = {"start_lr": 1e-3, "stop_lr": 1e-6, "decay_steps": 5000}
    assert learning_rate(given, total).value(steps - 1) == 1e-3
    expected = 1e-3 * math.exp(math.log(1e-3) * steps / total)
    assert learning_rate(given, total).value(steps) == pytest.approx(expected, rel=1e-12)


def test_given_decay_rate_is_clipped_at_stop_lr():
    section = {"start_lr": 1e-3, "stop_lr": 1e-4, "decay_steps": 2, "decay_rate": 0.5}
    assert rates(section, 100, [0, 2, 4, 50]) == [1e-3, 5e-4, 2.5e-4, 1e-4]


def test_default_stop_lr_and_ratio():
    assert rates({"start_lr": 1e-3, "decay_steps": 1}, 10, [10]) == pytest.approx([5e-8])
    section = {"start_lr": 1e-3, "stop_lr_ratio": 0.1, "decay_steps": 1}
    assert rates(section, 10, [10]) == pytest.approx([1e-4])


def test_cosine():
    section = {"type": "cosine", "start_lr": 1.0, "stop_lr": 0.1}
    assert rates(section, 8, [0, 4, 8]) == pytest.approx([1.0, 0.55, 0.1])


@pytest.mark.parametrize(
    ("kind", "middle"), [("inverse_linear", 2 / 11), ("cosine", 0.55), ("linear", 0.55)]
)
def test_warmup_stable_decay(kind, middle):
    section = {"type": "wsd", "start_lr": 1.0, "stop_lr": 0.1, "decay_phase_ratio": 0.2}
    values = rates(section | {"decay_type": kind}, 100, [0, 80, 90, 100])
    assert values == pytest.approx([1.0, 1.0, middle, 0.1])


def test_warm_up_is_linear_and_shifts_the_decay():
    plain = learning_rate({"type": "cosine", "start_lr": 1.0, "stop_lr": 0.1}, 80)
    section = {"type": "cosine", "start_lr": 1.0, "stop_lr": 0.1, "warmup_start_factor": 0.2}
    for warm in (section | {"warmup_steps": 20}, section | {"warmup_ratio": 0.2}):
        schedule = learning_rate(warm, 100)
        assert [schedule.value(k) for k in (0, 10, 20)] == pytest.approx([0.2, 0.6, 1.0])
        assert schedule.value(60) == plain.value(40)


def test_reference_rates(reference):
    steps = json.loads((reference / "train/step_se_e2_a/steps.json").read_text())
    schedule = learning_rate(steps["learning_rate"], 100)
    for row in steps["steps"]:
        assert schedule.value(row["step"]) == pytest.approx(row["learning_rate"], rel=1e-12)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"warmup_steps": 100}, "whole training 100"),
        ({"type": "step"}, 'unknown schedule "step"'),
    ],
)
def test_wrong_sections(more, message):
    with pytest.raises(InputError, match=message):
        learning_rate({"start_lr": 1e-3, **more}, 100)
