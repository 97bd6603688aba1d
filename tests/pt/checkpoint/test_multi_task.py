# SPDX-License-Identifier: LGPL-3.0-or-later
"""``.pt`` checkpoints of several tasks: shared tensors are stored once, as DeePMD-kit does."""

import numpy as np
import pytest
from conftest import reference_path

torch = pytest.importorskip("torch")

from deepmd.base.errors import InputError  # noqa: E402
from deepmd.dpmodel.batch import Batch  # noqa: E402
from deepmd.dpmodel.loss import EnergyLoss  # noqa: E402
from deepmd.dpmodel.neighbors import batch_edges  # noqa: E402
from deepmd.entrypoints.convert_backend import convert_backend  # noqa: E402
from deepmd.infer import DeepPot  # noqa: E402
from deepmd.io.tree import difference  # noqa: E402
from deepmd.pt.checkpoint.checkpoint import read_checkpoint, write_checkpoint  # noqa: E402
from deepmd.pt.train_step import TorchTrainStep  # noqa: E402
from deepmd.runtime.checkpoint import Checkpoint  # noqa: E402
from deepmd.runtime.step import StepOptions  # noqa: E402
from tests.pt.models import batch, model, section  # noqa: E402


@pytest.fixture(scope="module")
def trained():
    """Checkpoint of two tasks with one descriptor, after an unequal number of steps."""
    models = {"a": model(), "b": model()}
    models["b"].atomic_model.descriptor = models["a"].atomic_model.descriptor
    energy = {"start_pref_e": 1.0, "limit_pref_e": 1.0, "start_pref_f": 0.0, "limit_pref_f": 0.0}
    losses = {name: EnergyLoss(1e-3, **energy) for name in models}
    step = TorchTrainStep(models, losses, {"type": "Adam"}, StepOptions())
    labeled: Batch = batch()
    if labeled.edges is None:
        labeled.edges = batch_edges(labeled, models["a"].rcut)
    labeled.labels, labeled.find = {"energy": np.ones((3, 1))}, {"energy": 1.0}
    for task in "aba":
        step.step(task, labeled, 1e-3)
    params = {"shared_dict": {}, "model_dict": {name: section() for name in models}}
    now = {name: step.model(name) for name in models}
    return Checkpoint(now, params, step=3, optimizer=step.state(), min_nbor_dist=0.9)


def test_round_trip(trained, tmp_path):
    write_checkpoint(tmp_path / "m.pt", trained)
    found = read_checkpoint(tmp_path / "m.pt")
    for name, one in trained.models.items():
        assert difference(one.serialize(), found.models[name].serialize()) is None
    assert set(found.optimizer) == set(trained.optimizer)
    for name, array in trained.optimizer.items():
        np.testing.assert_array_equal(found.optimizer[name], array, err_msg=name)
    assert (found.step, found.min_nbor_dist) == (3, 0.9)


def test_shared_tensors_are_stored_once(trained, tmp_path):
    write_checkpoint(tmp_path / "m.pt", trained)
    content = torch.load(tmp_path / "m.pt", weights_only=True)
    state, rest = (
        content["model"],
        "atomic_model.descriptor.sea.filter_layers.networks.0.layers.0.matrix",
    )
    pointers = {state[f"model.{name}.{rest}"].data_ptr() for name in "ab"}
    assert len(pointers) == 1
    own = "atomic_model.fitting_net.filter_layers.networks.0.layers.0.matrix"
    assert len({state[f"model.{name}.{own}"].data_ptr() for name in "ab"}) == 2
    # A parameter has one number, and as many steps as were taken with it.
    numbers = content["optimizer"]["param_groups"][0]["params"]
    count = {k: int(v["step"]) for k, v in content["optimizer"]["state"].items()}
    assert sorted(count) == numbers
    assert set(count.values()) == {1, 2, 3}
    assert len(numbers) < len([k for k in trained.optimizer if "/first." in k])


def test_distances_of_branches(trained, tmp_path):
    """DeePMD-kit notes the smallest distance of every branch: the smallest holds for all."""
    write_checkpoint(tmp_path / "m.pt", trained)
    content = torch.load(tmp_path / "m.pt", weights_only=True)
    (name,) = (k for k in content["model"] if k.startswith("model.b.") and "min_nbor" in k)
    content["model"][name] = torch.tensor(0.7, dtype=torch.float64)
    torch.save(content, tmp_path / "other.pt")
    assert read_checkpoint(tmp_path / "other.pt").min_nbor_dist == 0.7


def test_branches_of_deepmd_kit_are_converted(tmp_path):
    """Its checkpoint opens branch by branch in commands, as it does in Python."""
    path = reference_path("checkpoints/pt_multitask.pt")
    coord, types = np.random.default_rng(0).uniform(0, 3, (1, 6, 3)), [0, 1, 1, 0, 1, 1]
    energies = []
    for head in ("waterA", "waterB"):
        target = tmp_path / f"{head}.dp"
        convert_backend(INPUT=str(path), OUTPUT=str(target), head=head)
        energies.append(DeepPot(target).eval(coord, None, types)[0])
        np.testing.assert_allclose(
            energies[-1], DeepPot(path, head=head).eval(coord, None, types)[0], rtol=1e-12
        )
    assert energies[0] != energies[1]
    with pytest.raises(InputError, match="holds 2 branches: waterA, waterB"):
        convert_backend(INPUT=str(path), OUTPUT=str(tmp_path / "x.dp"))
