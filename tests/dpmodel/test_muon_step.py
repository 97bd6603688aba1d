# SPDX-License-Identifier: LGPL-3.0-or-later
"""Steps with orthogonalized momentum on NumPy: those of DeePMD-kit 3.2.0.

``muon.npz`` has parameters and gradients of three steps that its optimizers took, for matrices (4, 6), (6, 4),
(1, 3), (3, 1), (1, 1), (4, 4), the last for HybridMuon only, and a vector (5,).
"""

from pathlib import Path

import numpy as np
import pytest

from deepmd.dpmodel.muon import AdaMuon, HybridMuon
from deepmd.dpmodel.muon_step import Arithmetic, muon_rule

GOLDEN = np.load(Path(__file__).parents[1] / "golden/files/muon.npz")
PLAIN = {"enable_gram": False, "magma_muon": False}
RUNS = {
    "ada/default": AdaMuon(),
    "ada/rms": AdaMuon(weight_decay=0.0, lr_adjust=0.0),
    "hyb/default": HybridMuon(),
    "hyb/plain_wd": HybridMuon(weight_decay=0.1, **PLAIN),
    "hyb/magma": HybridMuon(weight_decay=0.0, enable_gram=False),
    "hyb/adj": HybridMuon(weight_decay=0.0, lr_adjust=10.0, **PLAIN),
}


def golden(name):
    """Return the parameters, before and after every step, and the gradients of a run, by number."""
    numbers = sorted({k.split("/")[2] for k in GOLDEN if k.startswith(name)})
    return tuple({n: GOLDEN[f"{name}/{n}/{kind}"] for n in numbers} for kind in "pg")


def check(name, k, found):
    """Compare the parameters after step ``k`` with those of a run, in units of the step."""
    chosen, (known, _) = RUNS[name], golden(name)
    assert found.keys() == known.keys()
    for n, got in found.items():
        # float16 rounds the products of the Gram iteration, in whatever order they are taken.
        gram = getattr(chosen, "enable_gram", False) and got.shape in ((4, 6), (6, 4))
        step = np.abs(known[n][k + 1] - known[n][k]).max()
        assert np.abs(got - known[n][k + 1]).max() < (3e-2 if gram else 1e-6) * step, (n, k)


@pytest.mark.parametrize("name", RUNS)
def test_three_steps(name):
    rule, (known, grads) = muon_rule(RUNS[name], Arithmetic()), golden(name)
    params, moments = {n: p[0] for n, p in known.items()}, dict.fromkeys(known, (None, None))
    for k in range(3):
        for n in params:
            params[n], *moments[n] = rule.step(params[n], grads[n][k], k + 1, *moments[n], lr=1e-2)
        check(name, k, params)


@pytest.mark.parametrize("name", ["ada/default", "hyb/default"])
def test_single_precision_stays(name):
    rule, (known, grads) = muon_rule(RUNS[name], Arithmetic()), golden(name)
    for n, p in known.items():
        given = (x[0].astype(np.float32) for x in (p, grads[n]))
        found = rule.step(*given, 1, None, None, 1e-2)
        assert {x.dtype for x in found if x is not None} == {np.dtype(np.float32)}
        step = np.abs(p[1] - p[0]).max()
        assert np.abs(found[0] - p[1]).max() < 3e-2 * step


def test_half_precision():
    ar, one = Arithmetic(), 2.0**-7  # distance of bfloat16 numbers from 1 on
    given = [1 + one / 2, 1 + 1.5 * one, 1 + 0.51 * one, -1 - 0.49 * one, 3.3e38, np.inf, 0.0]
    expected = [1, 1 + 2 * one, 1 + one, -1, 3.3e38, np.inf, 0.0]
    found = ar.rounded(given, "bfloat16")
    np.testing.assert_allclose(found[:4], expected[:4], rtol=0)
    np.testing.assert_allclose(found[4:], expected[4:], rtol=2**-8)
    assert np.isnan(ar.rounded([np.nan], "bfloat16")).all()
    assert ar.rounded([1 + 2.0**-11], "float16") == [1.0]
