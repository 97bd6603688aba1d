# SPDX-License-Identifier: LGPL-3.0-or-later
"""Steps with orthogonalized momentum on every backend: the same, also after a restart."""

import functools

import numpy as np
import pytest

from deepmd.base.errors import NotAvailableError
from deepmd.dpmodel.model import build_model
from deepmd.dpmodel.module import split
from deepmd.runtime.host_optimizer import host_muon
from deepmd.runtime.sharing import Sharing
from deepmd.runtime.step import StepOptions
from deepmd.schema.check import normalize_model
from tests.runtime.test_kalman_backends import COMPILED, SECTION, batch, energy_loss, new_step

KINDS = [{"type": "AdaMuon"}, {"type": "HybridMuon", "enable_gram": False}]


def start():
    """Return a model whose matrices have more than one row and column, but for the last."""
    seeded = {name: {**SECTION[name], "seed": 1} for name in ("descriptor", "fitting_net")}
    return build_model(normalize_model({**SECTION, **seeded}))


@functools.cache
def stepped(backend, number):
    """Return parameters and state after two steps, between which a step is made anew."""
    model, state = start(), {}
    for _ in range(2):
        step = new_step(
            backend, model, KINDS[number], energy_loss(force=0.0), gradient_max_norm=0.5
        )
        step.load_state(state)
        metrics = step.step("Default", batch(), 1e-2)
        assert np.isfinite(float(metrics["loss"]))
        model, state = step.model("Default"), step.state()
    return split(model)[0], state


@pytest.mark.parametrize("number", range(2))
@pytest.mark.parametrize("backend", ["torch", *COMPILED])
def test_steps_are_those_of_numpy(backend, number):
    (wanted, state), (found, other) = (stepped(b, number) for b in ("numpy", backend))
    # Sums of half precision have another order with PyTorch.
    tolerance = 3e-2 if backend == "torch" else 1e-6
    begun = split(start())[0]
    assert state.keys() == other.keys()
    assert int(state["Default/count"]) == int(other["Default/count"]) == 2
    for name, want in wanted.items():
        step = np.abs(want - begun[name]).max()
        assert step > 1e-3, name
        assert np.abs(found[name] - want).max() < tolerance * step, name
    for name, want in state.items():
        assert np.abs(other[name] - want).max() <= tolerance * np.abs(want).max(), name


def test_several_processes():
    class Two:
        size = 2

    with pytest.raises(NotAvailableError, match=r"AdaMuon.*several processes.*\n?.*--pt"):
        host_muon(KINDS[0], Sharing({"Default": start()}), StepOptions(ranks=Two()))
    assert host_muon({"type": "Adam"}, Sharing({"Default": start()}), StepOptions()) is None
