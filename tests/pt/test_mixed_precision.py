# SPDX-License-Identifier: LGPL-3.0-or-later
"""Products of networks in bfloat16 or float16, sums in double precision."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from deepmd.base.errors import InputError, NotAvailableError  # noqa: E402
from deepmd.np.train_step import NumPyTrainStep  # noqa: E402
from deepmd.pt.loss_scale import LossScale  # noqa: E402
from deepmd.pt.train_step import TorchTrainStep  # noqa: E402
from deepmd.runtime.step import StepOptions  # noqa: E402
from tests.pt.models import model  # noqa: E402
from tests.pt.test_train_step import _labeled, _loss  # noqa: E402

MIXED = StepOptions(compute="bfloat16")
HALF = StepOptions(compute="float16")
ENDS = ("start", "limit")


def made(options, precision="float32"):
    return TorchTrainStep(
        {"Default": model(precision=precision)}, {"Default": _loss()}, {"type": "Adam"}, options
    )


@pytest.mark.parametrize(("options", "digits"), [(MIXED, 5e-2), (HALF, 1e-2)])
def test_gradients_are_those_of_single_precision_to_rounding(options, digits):
    b, plain, mixed = _labeled(), made(StepOptions()), made(options)
    if options is HALF:
        mixed._scale.value = 16.0  # with which nothing overflows in the first step
    figures, expected = plain.gradients("Default", b, 1e-3)
    rounded, got = mixed.gradients("Default", b, 1e-3)
    assert rounded["loss"].dtype == torch.float64
    assert 0 < abs(float(rounded["loss"]) / float(figures["loss"]) - 1) < 1e-2
    for name, g in expected.items():
        assert got[name].dtype == torch.float32  # parameters and moments keep their precision
        assert float((got[name] - g).norm()) <= digits * float(g.norm()), name
    assert any(not torch.equal(got[name], g) for name, g in expected.items())


def test_the_loss_falls_and_evaluation_has_all_digits():
    b, mixed = _labeled(), made(MIXED)
    first = float(mixed.step("Default", b, 1e-2)["loss"])
    for _ in range(20):
        last = float(mixed.step("Default", b, 1e-2)["loss"])
    assert last < 0.9 * first
    plain = made(StepOptions())
    for p, q in zip(
        plain._params["Default"].values(), mixed._params["Default"].values(), strict=True
    ):
        p.data.copy_(q)
    exact, shown = (float(s.evaluate("Default", b, 1e-2)["loss"]) for s in (plain, mixed))
    assert np.isclose(exact, shown, rtol=1e-12)


def test_small_gradients_survive_in_float16():
    """Gradients of a loss of 1e-9, most of which are zero in float16 unless it is scaled."""
    b, plain, half = _labeled(), made(StepOptions()), made(HALF)
    for s in (plain, half):
        s._losses["Default"] = _loss(**{f"{w}_pref_{q}": 1e-9 for w in ENDS for q in "efv"})
    _, expected = plain.gradients("Default", b, 1e-3)
    _, scaled = half.gradients("Default", b, 1e-3)
    assert all(bool(torch.isfinite(g).all()) for g in scaled.values())
    half._scale.value = 1.0
    _, lost = half.gradients("Default", b, 1e-3)

    def error(found):
        return sum(float((found[k] - g).norm() / g.norm()) for k, g in expected.items())

    assert error(scaled) < 0.1 * error(lost)


def test_batches_that_overflow_are_left_out_and_restarts_are_exact():
    b, half = _labeled(), made(HALF)
    half._scale.value = 2.0**40
    before = {k: p.clone() for k, p in half.parameters("Default").items()}
    half.step("Default", b, 1e-2)
    assert half._scale.value == 2.0**39
    assert all(torch.equal(before[k], p) for k, p in half.parameters("Default").items())
    half._scale.value, half._scale.since = 8.0, LossScale.INTERVAL - 2
    half.step("Default", b, 1e-2)
    again = TorchTrainStep(
        {"Default": half.model("Default")}, {"Default": _loss()}, {"type": "Adam"}, HALF
    )
    again.load_state(half.state())
    assert half._scale.since == LossScale.INTERVAL - 1
    for s in (half, again):
        s.step("Default", b, 1e-2)
        assert (s._scale.value, s._scale.since) == (16.0, 0)
        s.step("Default", b, 1e-2)
        assert s._scale.since == 1
    for name, p in half.parameters("Default").items():
        assert torch.equal(p, again.parameters("Default")[name]), name


def test_a_loss_that_overflows_at_every_scale_ends_in_one_line():
    scale, broken = LossScale(), [torch.tensor([1.0, float("inf")])]
    assert not any(scale.accept(broken, None) for _ in range(40))
    with pytest.raises(InputError, match="however small"):
        scale.accept(broken, None)


def test_what_it_asks_for():
    with pytest.raises(InputError, match="single precision"):
        made(MIXED, "float64")
    with pytest.raises(NotAvailableError, match="compiled"):
        made(StepOptions(compute="bfloat16", compile=True))
    with pytest.raises(NotAvailableError, match="mixed_precision"):
        NumPyTrainStep(
            {"Default": model(precision="float32")}, {"Default": _loss()}, {"type": "Adam"}, MIXED
        )
