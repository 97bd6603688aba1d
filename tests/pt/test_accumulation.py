# SPDX-License-Identifier: LGPL-3.0-or-later
"""Gradients of several steps that are added up for one step of the optimizer."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from deepmd.base.errors import NotAvailableError  # noqa: E402
from deepmd.dpmodel.loss import EnergyLoss  # noqa: E402
from deepmd.np.train_step import NumPyTrainStep  # noqa: E402
from deepmd.pt.train_step import TorchTrainStep  # noqa: E402
from deepmd.runtime.step import StepOptions  # noqa: E402
from tests.pt.models import model  # noqa: E402
from tests.pt.test_distributed import batches  # noqa: E402


def made(kind=TorchTrainStep, **options):
    loss = EnergyLoss(1.0, start_pref_e=1.0, limit_pref_e=1.0)
    return kind({"a": model()}, {"a": loss}, {"type": "Adam"}, StepOptions(**options))


def arrays(step):
    return step.to_host("a", step.parameters("a"))


def test_gradients_are_added_up():
    one, two = batches()
    step, plain = made(accumulate=2, gradient_max_norm=0.1), made(gradient_max_norm=0.1)
    before = arrays(step)
    sums = {k: sum(plain.gradients("a", b, 0.01)[1][k] for b in (one, two)) for k in before}
    metrics = step.step("a", one, 0.01)
    assert float(metrics["loss"]) == float(plain.evaluate("a", one, 0.01)["loss"])
    assert all((before[k] == v).all() for k, v in arrays(step).items())
    # What waits is a part of the state.
    other = made(accumulate=2, gradient_max_norm=0.1)
    other.load_state(step.state())
    for s in (step, other):
        s.step("a", two, 0.01)
    plain.gradients = lambda *_: ({}, sums)
    plain.step("a", one, 0.01)
    for k, v in arrays(plain).items():
        assert np.array_equal(v, arrays(step)[k]), k
        assert np.array_equal(v, arrays(other)[k]), k
    assert not any("wait" in k for k in step.state())


@pytest.mark.parametrize("option", [{"accumulate": 2}, {"tf32": True}])
def test_other_backends_refuse(option):
    with pytest.raises(NotAvailableError, match=r"training/.*: NumPy has no such option"):
        made(NumPyTrainStep, **option)


def test_tf32_needs_a_device(caplog):
    if torch.cuda.is_available():
        pytest.skip("there is one")
    made(tf32=True)
    assert "enable_tf32 has no effect" in caplog.text
