# SPDX-License-Identifier: LGPL-3.0-or-later
"""Optimizers with orthogonalized momentum: the steps are those of DeePMD-kit 3.2.0.

``muon.npz`` has parameters and gradients of three steps that its optimizers took, for matrices (4, 6), (6, 4),
(1, 3), (3, 1), (1, 1), (4, 4), the last for HybridMuon only, and a vector (5,).
"""

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from deepmd.base.errors import NotAvailableError  # noqa: E402
from deepmd.dpmodel.module import split  # noqa: E402
from deepmd.dpmodel.muon import AdaMuon, HybridMuon  # noqa: E402
from deepmd.dpmodel.optimizer import adam_settings  # noqa: E402
from deepmd.pt.checkpoint.checkpoint import read_checkpoint, write_checkpoint  # noqa: E402
from deepmd.pt.muon import muon_optimizer, orthogonal, orthogonal_by_gram  # noqa: E402
from deepmd.pt.train_step import TorchTrainStep  # noqa: E402
from deepmd.runtime.checkpoint import Checkpoint  # noqa: E402
from deepmd.runtime.step import StepOptions  # noqa: E402
from tests.pt.models import model  # noqa: E402
from tests.pt.test_train_step import _labeled, _loss, _same  # noqa: E402

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


@pytest.mark.parametrize("name", RUNS)
def test_three_steps(name):
    chosen, numbers = RUNS[name], sorted({k.split("/")[2] for k in GOLDEN if k.startswith(name)})
    known = {n: GOLDEN[f"{name}/{n}/p"] for n in numbers}
    params = {n: torch.nn.Parameter(torch.tensor(p[0])) for n, p in known.items()}
    optimizer = muon_optimizer(chosen, list(params.values()))
    optimizer.param_groups[0]["lr"] = 1e-2
    for k in range(3):
        for n, p in params.items():
            p.grad = torch.tensor(GOLDEN[f"{name}/{n}/g"][k])
        optimizer.step()
        for n, p in params.items():
            # float16 rounds the products of the Gram iteration, in whatever order they are taken.
            gram = (
                isinstance(chosen, HybridMuon)
                and chosen.enable_gram
                and p.shape in ((4, 6), (6, 4))
            )
            got, expected = p.detach().numpy(), known[n][k + 1]
            step = np.abs(known[n][k + 1] - known[n][k]).max()
            assert np.abs(got - expected).max() < (3e-2 if gram else 1e-6) * step, (n, k)


@pytest.mark.parametrize("shape", [(5, 8), (8, 5), (6, 6)])
def test_orthogonal_factors(shape):
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    u, _, v = torch.linalg.svd(matrix, full_matrices=False)
    exact = (u @ v).numpy()
    quintic = orthogonal(matrix, [(3.4445, -4.7750, 2.0315)] * 8 + [(2.0, -1.5, 0.5)] * 2)
    assert np.abs(quintic.double().numpy() - exact).max() < 2e-2
    assert np.abs(orthogonal_by_gram(matrix).double().numpy() - exact).max() < 0.15


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


def test_other_backends_say_what_to_do():
    with pytest.raises(NotAvailableError, match=r"AdaMuon.*--pt"):
        adam_settings({"type": "AdaMuon"})
    with pytest.raises(NotAvailableError, match="not divided"):
        TorchTrainStep(
            {"Default": model()},
            {"Default": _loss()},
            {"type": "AdaMuon"},
            StepOptions(zero_stage=1),
        )
