# SPDX-License-Identifier: LGPL-3.0-or-later
"""Two processes that train together take the steps of one process with the batches of both."""

import subprocess
import sys

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from deepmd.dpmodel.batch import join  # noqa: E402
from deepmd.dpmodel.loss import EnergyLoss  # noqa: E402
from deepmd.dpmodel.model import build_model  # noqa: E402
from deepmd.dpmodel.module import split  # noqa: E402
from deepmd.pt.train_step import TorchTrainStep  # noqa: E402
from deepmd.runtime.step import StepOptions  # noqa: E402
from tests.pt.models import batch, model, section  # noqa: E402

_RANK = """
import pathlib
import sys
import numpy as np
import torch.distributed as dist
sys.path[:0] = sys.argv[4:]
from tests.pt.test_distributed import batches, half, named, steps, waiting
from deepmd.pt.distributed import TorchDistributed

rank, store, out = int(sys.argv[1]), sys.argv[2], sys.argv[3]
dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
group = TorchDistributed()
assert group.agree(rank, 1 - rank) == (1.0, 1.0)
losses, params = steps(batches()[rank], group)
np.savez(f"{out}{rank}.npz", losses=losses, **params)
shared = steps(batches()[rank], group, zero_stage=1)
assert all((shared[1][k] == v).all() for k, v in params.items()), "stage 1 of ZeRO"
shared = steps(batches()[rank], group, zero_stage=2)
assert all(abs(shared[1][k] - v).max() < 1e-14 for k, v in params.items()), "stage 2 of ZeRO"
shared = steps(batches()[rank], group, zero_stage=3)
assert all(abs(shared[1][k] - v).max() < 1e-13 for k, v in params.items()), "stage 3 of ZeRO"
waiting(batches()[rank], group)
named(batches()[rank], group)
np.savez(f"{out}{rank}.half.npz", **half(batches()[rank], group))
tasks = pathlib.Path("/proc/self/task")
names = lambda: [p.read_text() for p in tasks.glob("*/comm")]
assert not tasks.exists() or any("gloo" in name for name in names())
group.close()
assert not any("gloo" in name for name in names()), "threads of the group end with it"
"""


def batches():
    """Two batches of different size, with frames of different size."""
    made = [batch([4], periodic=[True], seed=1), batch([6, 3], periodic=[False, True], seed=2)]
    for seed, b in enumerate(made):
        rng = np.random.default_rng(seed)
        b.labels = {
            "energy": rng.normal(size=(b.n_frames, 1)),
            "force": rng.normal(size=(b.n_atoms, 3)),
            "virial": rng.normal(size=(b.n_frames, 9)),
        }
        b.find = dict.fromkeys(b.labels, 1.0)
    return made


def steps(mine, ranks=None, zero_stage=0):
    """Take three steps, with the states of the optimizer passed on; return losses and parameters."""
    loss = EnergyLoss(1.0, start_pref_e=1.0, limit_pref_e=1.0, start_pref_v=0.5, limit_pref_v=0.5)
    more = {} if ranks is None else {"ranks": ranks, "zero_stage": zero_stage}
    options = StepOptions(gradient_max_norm=0.5, **more)
    step = TorchTrainStep({"a": model()}, {"a": loss}, {"type": "Adam"}, options)
    losses = [float(step.step("a", mine, 0.01)["loss"]) for _ in range(2)]
    if zero_stage:
        moments = (s["exp_avg"] for s in step._optimizer.state.values())
        count = sum(a.size for a in split(model())[0].values())
        assert 0 < sum(m.numel() for m in moments) < 0.7 * count, "a rank holds a share of states"
    if zero_stage == 3:
        held = sum(p.numel() for p in step._params["a"].values())
        stored = {p.untyped_storage().data_ptr(): p for p in _stored(step.lifted["a"])}
        assert held < 0.7 * count, "a rank holds a share of the parameters"
        assert sum(p.untyped_storage().nbytes() for p in stored.values()) < 0.8 * 8 * count
    state = step.state()
    assert sum("first." in name for name in state) == len(step._params["a"])
    other = TorchTrainStep({"a": step.model("a")}, {"a": loss}, {"type": "Adam"}, options)
    other.load_state(state)
    step = other
    losses.append(float(step.step("a", mine, 0.01)["loss"]))
    losses.append(float(step.evaluate("a", mine, 0.01)["loss"]))
    return np.array(losses), split(step.model("a"))[0]


def _stored(lifted):
    """Tensors in which the parameters of a model are."""
    return [getattr(p, "_local_tensor", p) for p in lifted.parameters()]


def waiting(mine, ranks):
    """Gradients that wait for further ones are divided, too, and whole in checkpoints."""
    loss, ends = EnergyLoss(1.0, start_pref_e=1.0, limit_pref_e=1.0), []
    formats = section()
    formats["fitting_net"]["precision"] = "float32"  # and float64 in the descriptor
    first = build_model(formats)
    for stage in (0, 2, 3):
        options = StepOptions(accumulate=2, ranks=ranks, zero_stage=stage)
        made = ({"a": first}, {"a": loss}, {"type": "Adam"}, options)
        step = TorchTrainStep(*made)
        step.step("a", mine, 0.01)
        kept = sum(g.numel() for g in step._waiting.values())
        assert (kept == sum(a.size for a in split(first)[0].values())) == (stage == 0)
        state = step.state()
        assert sum("waiting." in name for name in state) == len(step._params["a"])
        step = TorchTrainStep(*made)
        step.load_state(state)
        step.step("a", mine, 0.01)
        ends.append(split(step.model("a"))[0])
    for name, value in (pair for end in ends for pair in end.items()):
        assert abs(ends[0][name] - value).max() < (1e-7 if value.dtype == np.float32 else 1e-13)


def named(mine, ranks):
    """Layers of one name stay one where parameters are divided, too."""
    tied = section()
    tied["fitting_net"] |= {"neuron": [5, 5, 5], "layer_name": ["in", "two", "two", "out"]}
    first = build_model(tied)
    loss, ends = EnergyLoss(1.0, start_pref_e=1.0, limit_pref_e=1.0), []
    for stage in (0, 3):
        options = StepOptions(ranks=ranks, zero_stage=stage)
        step = TorchTrainStep({"a": first}, {"a": loss}, {"type": "Adam"}, options)
        for _ in range(2):
            step.step("a", mine, 0.01)
        ends.append(step.model("a"))
    for network in ends[1].atomic_model.fitting.nets.networks:
        assert (network.layers[1].w == network.layers[2].w).all()
    (want, _), (got, _) = (split(end) for end in ends)
    assert any(np.abs(want[name] - value).max() > 1e-3 for name, value in split(first)[0].items())
    assert all(np.abs(got[name] - value).max() < 1e-13 for name, value in want.items())


def half(mine, ranks=None):
    """Parameters after two steps with networks in float16 on this rank, and the losses."""
    single = section()
    single["descriptor"]["precision"] = single["fitting_net"]["precision"] = "float32"
    loss = EnergyLoss(1.0, start_pref_e=1.0, limit_pref_e=1.0)
    options = StepOptions(compute="float16", **({} if ranks is None else {"ranks": ranks}))
    step = TorchTrainStep({"a": build_model(single)}, {"a": loss}, {"type": "Adam"}, options)
    losses = [float(step.step("a", mine, 0.01)["loss"]) for _ in range(2)]
    return {"losses": losses, **split(step.model("a"))[0]}


def test_two_ranks_take_the_steps_of_one(tmp_path, request):
    root = str(request.config.rootpath)
    ranks = [
        subprocess.Popen(
            [
                sys.executable,
                "-c",
                _RANK,
                str(k),
                str(tmp_path / "store"),
                str(tmp_path / "r"),
                root,
            ]
        )
        for k in range(2)
    ]
    want, params = steps(join(batches()))
    alone = half(join(batches()))
    assert [r.wait(timeout=300) for r in ranks] == [0, 0]
    for k in range(2):
        with np.load(tmp_path / f"r{k}.npz") as got:
            assert got["losses"] == pytest.approx(want, rel=1e-12)
            for name, value in params.items():
                assert np.abs(got[name] - value).max() < 1e-12, name
    first, second = (np.load(tmp_path / f"r{k}.half.npz") for k in range(2))
    assert first["losses"] == pytest.approx(alone["losses"], rel=0.02)
    assert all(np.array_equal(first[name], second[name]) for name in first), "ranks stay alike"
