# SPDX-License-Identifier: LGPL-3.0-or-later
"""Validation with fewer bits in the products of networks."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from deepmd.base.errors import InputError, NotAvailableError  # noqa: E402
from deepmd.np.evaluator import NumPyEvaluator  # noqa: E402
from deepmd.pt.evaluator import TorchEvaluator  # noqa: E402
from deepmd.pt.reduced import ReducedEvaluator, tf32_products  # noqa: E402
from tests.pt.models import model  # noqa: E402
from tests.pt.test_train_step import _labeled  # noqa: E402

ASKED = ("energy", "force", "virial")


def _found(evaluator, **more):
    return evaluator.evaluate(_labeled(), derivatives=("force", "virial"), **more)


def test_bfloat16_rounds_energies_and_forces():
    one = model(precision="float32")
    make = TorchEvaluator.with_fewer_bits([one], tf32=False, bfloat16=True)
    want, got, again = (_found(e) for e in (TorchEvaluator(one), make(one), TorchEvaluator(one)))
    for name in ASKED:
        error = np.abs(got[name] - want[name]).max()
        assert 1e-7 < error / np.abs(want[name]).max() < 5e-2, name
        np.testing.assert_array_equal(again[name], want[name])  # nothing is left behind
    energy = make(one).evaluate(_labeled(), derivatives=())["energy"]
    np.testing.assert_allclose(energy, got["energy"], rtol=1e-6)


def test_tf32_is_set_for_the_evaluation_only(monkeypatch):
    one, seen = model(precision="float32"), []
    evaluator = ReducedEvaluator(one, tf32=True, bfloat16=False)
    forward = type(evaluator.lifted).forward_edges

    def watched(self, *given, **more):
        seen.append(torch.get_float32_matmul_precision())
        return forward(self, *given, **more)

    monkeypatch.setattr(type(evaluator.lifted), "forward_edges", watched)
    before = torch.get_float32_matmul_precision()
    _found(evaluator)
    assert set(seen) == {"high"}
    with pytest.raises(KeyError), tf32_products():
        raise KeyError
    assert torch.get_float32_matmul_precision() == before != "high"


@pytest.mark.skipif(torch.cuda.is_available(), reason="the device has TF32")
def test_tf32_where_there_is_none(caplog):
    one = model(precision="float32")
    made = TorchEvaluator.with_fewer_bits([one], tf32=True, bfloat16=False)(one)
    assert "tf32_infer has no effect" in caplog.text
    got, want = _found(made), _found(TorchEvaluator(one))
    for name in ASKED:
        np.testing.assert_array_equal(got[name], want[name])


def test_what_it_asks_for():
    with pytest.raises(InputError, match=r"validating/amp_infer.*single precision"):
        TorchEvaluator.with_fewer_bits([model()], tf32=False, bfloat16=True)
    for bits, key in (((True, False), "tf32_infer"), ((False, True), "amp_infer")):
        with pytest.raises(NotAvailableError, match=f"validating/{key}.*no such option"):
            NumPyEvaluator.with_fewer_bits([], tf32=bits[0], bfloat16=bits[1])
