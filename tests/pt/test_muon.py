# SPDX-License-Identifier: LGPL-3.0-or-later
"""Optimizers with orthogonalized momentum on PyTorch: the steps are those of DeePMD-kit 3.2.0."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from deepmd.base.errors import NotAvailableError  # noqa: E402
from deepmd.dpmodel.module import split  # noqa: E402
from deepmd.dpmodel.muon_step import POLISH, QUINTIC, orthogonal, orthogonal_by_gram  # noqa: E402
from deepmd.pt.checkpoint.checkpoint import read_checkpoint, write_checkpoint  # noqa: E402
from deepmd.pt.muon import MuonOptimizer, TorchArithmetic  # noqa: E402
from deepmd.pt.train_step import TorchTrainStep  # noqa: E402
from deepmd.runtime.checkpoint import Checkpoint  # noqa: E402
from deepmd.runtime.step import StepOptions  # noqa: E402
from tests.dpmodel.test_muon_step import RUNS, check, golden  # noqa: E402
from tests.pt.models import model  # noqa: E402
from tests.pt.test_train_step import _labeled, _loss, _same  # noqa: E402


@pytest.mark.parametrize("name", RUNS)
def test_three_steps(name):
    known, grads = golden(name)
    params = {n: torch.nn.Parameter(torch.tensor(p[0])) for n, p in known.items()}
    optimizer = MuonOptimizer(params.values(), RUNS[name])
    optimizer.param_groups[0]["lr"] = 1e-2
    for k in range(3):
        for n, p in params.items():
            p.grad = torch.tensor(grads[n][k])
        optimizer.step()
        check(name, k, {n: p.detach().numpy() for n, p in params.items()})


@pytest.mark.parametrize("shape", [(5, 8), (8, 5), (6, 6)])
def test_orthogonal_factors(shape):
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    u, _, v = torch.linalg.svd(matrix, full_matrices=False)
    exact, ar = (u @ v).numpy(), TorchArithmetic()
    quintic = orthogonal(ar, matrix, [QUINTIC] * 8 + [POLISH] * 2)
    assert np.abs(quintic.double().numpy() - exact).max() < 2e-2
    assert np.abs(orthogonal_by_gram(ar, matrix).double().numpy() - exact).max() < 0.15


@pytest.mark.parametrize("section", [{"type": "AdaMuon"}, {"type": "HybridMuon"}])
def test_a_restart_continues_bit_for_bit(section, tmp_path):
    batches = [_labeled(seed) for seed in range(2)]
    built, losses = model(), {"Default": _loss()}
    whole = TorchTrainStep({"Default": built}, losses, section, StepOptions())
    first = TorchTrainStep({"Default": built}, losses, section, StepOptions())
    for k in range(4):
        whole.step("Default", batches[k % 2], 1e-3)
        if k < 2:
            first.step("Default", batches[k], 1e-3)
    stored = Checkpoint({"Default": first.model("Default")}, {}, 2, first.state())
    write_checkpoint(tmp_path / "c.pt", stored)
    read = read_checkpoint(tmp_path / "c.pt")
    second = TorchTrainStep(read.models, losses, section, StepOptions())
    second.load_state(read.optimizer)
    for k in range(2):
        second.step("Default", batches[k], 1e-3)
    _same(split(second.model("Default"))[0], split(whole.model("Default"))[0], 0.0)
    _same(second.state(), whole.state(), 0.0)
    assert not np.array_equal(
        *(
            split(m)[0]["descriptor.embeddings.networks.0.layers.1.w"]
            for m in (second.model("Default").atomic_model, built.atomic_model)
        )
    )


def test_states_are_not_divided():
    with pytest.raises(NotAvailableError, match="not divided"):
        TorchTrainStep(
            {"Default": model()},
            {"Default": _loss()},
            {"type": "AdaMuon"},
            StepOptions(zero_stage=1),
        )
