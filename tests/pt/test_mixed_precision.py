# SPDX-License-Identifier: LGPL-3.0-or-later
"""Products of networks in bfloat16, sums in double precision."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from deepmd.base.errors import InputError, NotAvailableError  # noqa: E402
from deepmd.np.train_step import NumPyTrainStep  # noqa: E402
from deepmd.pt.train_step import TorchTrainStep  # noqa: E402
from deepmd.runtime.step import StepOptions  # noqa: E402
from tests.pt.models import model  # noqa: E402
from tests.pt.test_train_step import _labeled, _loss  # noqa: E402

MIXED = StepOptions(compute="bfloat16")


def made(options, precision="float32"):
    return TorchTrainStep(
        {"Default": model(precision=precision)}, {"Default": _loss()}, {"type": "Adam"}, options
    )


def test_gradients_are_those_of_single_precision_to_the_rounding_of_bfloat16():
    b, plain, mixed = _labeled(), made(StepOptions()), made(MIXED)
    figures, expected = plain.gradients("Default", b, 1e-3)
    rounded, got = mixed.gradients("Default", b, 1e-3)
    assert rounded["loss"].dtype == torch.float64
    assert 0 < abs(float(rounded["loss"]) / float(figures["loss"]) - 1) < 1e-2
    for name, g in expected.items():
        assert got[name].dtype == torch.float32  # parameters and moments keep their precision
        assert float((got[name] - g).norm()) <= 5e-2 * float(g.norm()), name
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


def test_what_it_asks_for():
    with pytest.raises(InputError, match="single precision"):
        made(MIXED, "float64")
    with pytest.raises(NotAvailableError, match="compiled"):
        made(StepOptions(compute="bfloat16", compile=True))
    with pytest.raises(NotAvailableError, match="mixed_precision"):
        NumPyTrainStep(
            {"Default": model(precision="float32")}, {"Default": _loss()}, {"type": "Adam"}, MIXED
        )
